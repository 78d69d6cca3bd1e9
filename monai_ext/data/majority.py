"""Which of several things that should be alike is the odd one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def unlike_most(values: Mapping[Name, Hashable]) -> tuple[str, list[Name]]:
    """What most have, such as "11 others have (24, 32)", and the names of those that have something else.

    Where as many have one as another, the first one's counts.

    Args:
        values: name → value.
    """
    if len(set(values.values())) < 2:
        return "", []
    usual, count = Counter(values.values()).most_common(1)[0]
    have = "another has" if count == 1 else f"{count} others have"
    return f"{have} {usual}", [name for name, value in values.items() if value != usual]
