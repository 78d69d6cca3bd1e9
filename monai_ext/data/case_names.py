"""Names that tell cases apart, in tables of predictions and in the names of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from monai_ext.errors import DataError

Case = TypeVar("Case")


def _case(item: Any) -> str:
    return str(item["case"])


def _image(item: Any) -> str:
    image = item["image"]
    return str(image if isinstance(image, str) else image[0])


def distinct_cases(
    items: Iterable[Case],
    name_of: Callable[[Case], str] = _case,
    path_of: Callable[[Case], str] = _image,
    advice: str = "rename one, or run them apart",
) -> list[Case]:
    """The items, once it is clear that no two have the same case name.

    Args:
        items: of one run.
        name_of: gives an item's case name; default its ``case``.
        path_of: gives its file, for the message; default its ``image``, or the first of them.
        advice: what to do about two with one name.

    Raises:
        DataError: for two items with the same case name.
    """
    found: dict[str, Case] = {}
    for item in items:
        if (name := name_of(item)) in found:
            raise DataError(f"has the case name {name!r} of {path_of(found[name])}; {advice}", path_of(item))
        found[name] = item
    return list(found.values())
