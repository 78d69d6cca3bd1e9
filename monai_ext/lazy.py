"""Names that a package gives without importing what is behind them before they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def lazy_name(package: str, names: Mapping[str, str], name: str) -> Any:
    """For a package's ``__getattr__``: what it calls ``name``.

    Args:
        package: its ``__name__``.
        names: name → the module that holds it; a dot in front for one of the package's own.
        name: of the attribute that is asked for.

    Raises:
        AttributeError: for any other name.
    """
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(names[name], package), name)
