"""Common part of the synthetic data generators: a folder that appears as a whole, with a record of its settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_json, write_json
from monai_ext.owners import hidden_folder

Size = TypeVar("Size")


def known_size(sizes: Mapping[str, Size], size: str) -> Size:
    """The size of that name.

    Raises:
        ConfigError: when there is none.
    """
    if size not in sizes:
        raise ConfigError(f"make_demo: size must be one of {sorted(sizes)}, got {size!r}")
    return sizes[size]


def write_folder(folder: str | Path, settings: Mapping[str, Any], write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a hidden folder beside ``folder``, then give it its name; a kill leaves no half of it.

    Existing data are kept when its ``demo.json`` holds these ``settings``; of two processes one gives its folder.

    Raises:
        DataError: when the folder holds other data.
    """
    final = Path(os.path.abspath(folder))
    if _is_there(final, settings):
        return
    partial = hidden_folder(final)
    try:
        write(partial)
        write_json(partial / "demo.json", settings)
        if not _is_there(final, settings):  # another process may have been faster
            os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_there(final: Path, settings: Mapping[str, Any]) -> bool:
    """Whether these data are there.

    Raises:
        DataError: when the folder holds other data.
    """
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return False
    marker = final / "demo.json"
    if marker.is_file() and read_json(marker) == settings:
        return True
    raise DataError("exists already and is not this demo; delete it or choose another folder", final)
