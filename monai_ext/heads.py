"""Classes of several heads of one network, named ``<head>/<class>`` in one list."""

from __future__ import annotations

from collections.abc import Sequence

from monai_ext.errors import ConfigError


def heads_of(class_names: Sequence[str]) -> dict[str, range]:
    """Positions of the classes of each head in the list, in its order.

    Args:
        class_names: ``<head>/<class>``, those of a head side by side.

    Raises:
        ConfigError: for a name without a head, or classes of a head that aren't side by side.
    """
    found: dict[str, range] = {}
    for position, name in enumerate(class_names):
        head, slash, _ = name.partition("/")
        if not slash:
            raise ConfigError(f"class {name!r}: has no head; with several heads classes are called '<head>/<class>'")
        start = found[head].start if head in found else position
        if head in found and found[head].stop != position:
            raise ConfigError(f"class {name!r}: stands apart from the others of the head {head!r}; put them together")
        found[head] = range(start, position + 1)
    return found


def head_numbers(class_names: Sequence[str]) -> list[int]:
    """Of each class the number of its head, from 0; see `heads_of`."""
    return [number for number, head in enumerate(heads_of(class_names).values()) for _ in head]


def head_class_names(class_names: Sequence[str]) -> dict[str, list[str]]:
    """Names of the classes of each head, without the head's; see `heads_of`."""
    return {
        head: [class_names[position].partition("/")[2] for position in positions]
        for head, positions in heads_of(class_names).items()
    }
