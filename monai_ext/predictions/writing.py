"""Predictions as files: all files or none, and finite values only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.errors import DataError, WriteError
from monai_ext.io import atomic_path, write_csv, write_json


@dataclass
class Files:
    """Contents of files by file name, to be written together.

    Args:
        tables: CSV files, as rows with the same keys.
        arrays: ``.npy`` files.
        documents: JSON files.
    """

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: str | Path) -> None:
        """Write all files; none gets its name before all are on the disk.

        Args:
            folder: where to write; it is created.

        Raises:
            WriteError: when one can't be written; earlier files in the folder are then unchanged.
        """
        with contextlib.ExitStack() as together:

            def put(name: str, write: Callable[[Path], Any]) -> None:
                final = Path(folder) / name
                temporary = together.enter_context(atomic_path(final))
                try:
                    write(temporary)
                except WriteError as error:  # of the temporary file, whose name tells nobody anything
                    raise WriteError(str(error).replace(str(temporary), str(final))) from error

            for name, rows in self.tables.items():
                put(name, partial(write_csv, rows=rows, columns=None if rows else ["case"]))
            for name, array in self.arrays.items():
                put(name, partial(_write_array, array=array))
            for name, content in self.documents.items():
                put(name, partial(write_json, content=content))


def _write_array(path: Path, array: np.ndarray) -> None:
    # Flushed here already, as the others are: a full disk must show before the first file has its name.
    with atomic_path(path) as temporary:
        np.save(temporary, array)


def refuse_nonfinite(names: Iterable[str]) -> None:
    """Refuse predictions that are NaN or infinite.

    Args:
        names: cases whose predictions are not finite.

    Raises:
        DataError: naming the first one, when there are any.
    """
    for name in names:
        raise DataError("its predictions are not finite; check the image, the checkpoint and the precision", name)


def table_name(level: str | None, plain: str) -> str:
    """``predictions_<level>.csv``; the plain name where the items are the cases."""
    return plain if level is None else f"predictions_{level}.csv"
