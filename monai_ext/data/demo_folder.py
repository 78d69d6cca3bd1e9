"""Common part of the synthetic data generators: a folder that appears as a whole, with a record of its settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_json, write_json

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

    Existing data are kept when its ``demo.json`` holds these ``settings``.

    Raises:
        DataError: when the folder holds other data.
    """
    final = Path(os.path.abspath(folder))
    partial = final.with_name(f".{final.name}.partial")
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        marker = final / "demo.json"
        if marker.is_file() and read_json(marker) == settings:
            return
        raise DataError("exists already and is not this demo; delete it or choose another folder", folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    write_json(partial / "demo.json", settings)
    os.replace(partial, final)
