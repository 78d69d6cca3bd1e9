"""A config as a tree: all of its nodes, and the way to one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def nodes(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """A node and all below it, in order, each with its place such as ``train#dataset``.

    Args:
        node: of a config, not parsed.
        place: of this node.
    """
    yield place, node
    entries: Any = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, entry in entries:
        yield from nodes(entry, f"{place}#{name}" if place else str(name))


def strings(node: Any) -> Iterator[str]:
    """All texts in a config, in order."""
    return (entry for _, entry in nodes(node) if isinstance(entry, str))


def parts_of(key: str) -> list[str]:
    """Names in a key of a config, outermost first."""
    return re.split(r"#|::", key.removeprefix("+"))


def existing(config: Any, parts: Sequence[str]) -> tuple[list[str], Any]:
    """The beginning of a key that the config has, and its value."""
    found: list[str] = []
    for part in parts:
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            break
        found.append(part)
    return found, config
