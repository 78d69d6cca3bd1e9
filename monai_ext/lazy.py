"""Public names of a package whose modules are imported when the name is first used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def lazy_name(package: str, names: Mapping[str, str], name: str) -> Any:
    """The object that a package exports as ``name``; for its ``__getattr__``.

    Args:
        package: ``__name__`` of the package.
        names: name → the module that holds it; a dot in front for one of the package's own.
        name: the requested attribute.

    Raises:
        AttributeError: for any other name.
    """
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(names[name], package), name)
