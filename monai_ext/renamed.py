"""Arguments that had another name, which still works for one version."""

from __future__ import annotations

import warnings
from typing import Any


def renamed_argument(who: str, old: str, old_value: Any, new: str, value: Any) -> Any:
    """What an argument holds that may still be given under its old name; ``None`` for neither."""
    if old_value is None:
        return value
    told = f"{who}({old}=...) is now {who}({new}=...); the old name goes with the next version"
    warnings.warn(told, DeprecationWarning, stacklevel=3)
    return old_value
