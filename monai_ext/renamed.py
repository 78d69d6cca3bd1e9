"""Arguments that had another name, which still works for one version."""

from __future__ import annotations

import warnings
from typing import Any


def renamed_argument(who: str, old: str, old_value: Any, new: str, value: Any) -> Any:
    """The value of an argument that may still be given under its old name; ``None`` when neither is given."""
    if old_value is None:
        return value
    message = f"{who}({old}=...) is now {who}({new}=...); the old name goes with the next version"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    return old_value
