"""Files: written whole or not at all, read with errors that name the file, the row and the column."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from monai_ext.csv_text import as_cell, table_of
from monai_ext.errors import DataError, WriteError
from monai_ext.owners import is_abandoned, owner
from monai_ext.system_errors import writing

TEMPORARY_SUFFIX = ".partial"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it replaces ``path`` in one step.

    The file is flushed to the disk before it gets its final name, so that after a kill or a full disk the old
    file or the new one is there, never a part. Left-overs of a kill end in ``.partial`` (see `sweep_partial`).

    Args:
        path: final name; its folder is created.

    Raises:
        WriteError: with the final name, when the file can't be written (for example, when the disk is full).
        OSError: of the block, when it has no error number.
        RuntimeError: of the block, other than torch's for a file that can't be written.
    """
    final = Path(path)
    with writing(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
    with writing(final):
        # The suffix of the final name stays in front: writers such as numpy and matplotlib choose the format by it.
        handle, name = tempfile.mkstemp(
            prefix=f".{final.stem}.{owner()}.", suffix=f"{TEMPORARY_SUFFIX}{final.suffix}", dir=final.parent
        )
        os.close(handle)
    temporary = Path(name)
    try:
        with writing(final):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            # mkstemp makes files private (0600); results are meant to be shared as any other file is.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, final)
    except RuntimeError as error:
        # torch reports a full disk as RuntimeError, with a line of its C++ code for a text.
        if "inline_container" in str(error):
            raise WriteError(f"could not write {final}: is the disk full, or a limit reached?") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep_partial(folder: str | Path, shared: bool = False) -> list[Path]:
    """Remove what killed writers left below ``folder``; returns the removed files.

    Args:
        folder: searched with all below it.
        shared: whether other processes may be writing there: what is theirs stays. Otherwise the caller holds a lock.
    """
    left = (path for path in Path(folder).rglob(f".*{TEMPORARY_SUFFIX}*") if path.is_file())
    swept = [path for path in left if not shared or is_abandoned(path)]
    for path in swept:
        path.unlink(missing_ok=True)
    return swept


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, content: Any) -> Path:
    """Write strict JSON atomically; non-finite numbers are an error, write ``None`` instead (see `finite`)."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        DataError: naming the file (and line) when it is missing or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("file not found", path) from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and lists in lists in lists
        raise DataError(f"not valid JSON ({error})", path) from error


def finite(value: Any) -> Any:
    """Copy of nested dicts and lists with NaN and infinite floats as ``None``, as JSON needs it."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def write_csv(path: str | Path, rows: Iterable[dict[str, Any]], columns: Sequence[str] | None = None) -> Path:
    """Write rows as UTF-8 CSV atomically, text as no spreadsheet computes it (see `monai_ext.csv_text.as_cell`).

    Args:
        path: the file.
        rows: column → value, each.
        columns: order of the columns; default the keys of the first row.
    """
    rows = list(rows)
    columns = list(columns or (rows[0] if rows else []))
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        plain, quoted = (
            csv.DictWriter(file, columns, lineterminator="\n", quoting=quoting)
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        for row in ({name: name for name in columns}, *rows):
            # Python doesn't quote a carriage return by itself; in the header, no other delimiter may seem to be the
            # file's own.
            special = any(isinstance(cell, str) and set(";\t\r") & set(cell) for cell in row.values())
            (quoted if special else plain).writerow({name: as_cell(value) for name, value in row.items()})
    return Path(path)


def read_csv(path: str | Path, columns: Sequence[str], unique: str | None = None) -> list[dict[str, str]]:
    """Read a CSV with a header as a list of rows; cells stay text, stripped of blanks around them.

    The delimiter may be a comma, a semicolon or a tab. A column of row numbers as pandas writes it (without a name, or
    ``Unnamed: 0``) isn't used, which is logged.

    Args:
        path: UTF-8 file (with or without byte-order mark).
        columns: columns that must exist and have a value in every row.
        unique: column in which every value must be unique.

    Raises:
        DataError: naming file, row (1 is the header) and column of a missing column, one that occurs twice, an empty
            cell, a duplicate, a row with too many cells, or text that isn't UTF-8.
    """
    path = Path(path)
    header, lines = table_of(path, columns)
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"column {missing[0]!r} is missing; the file has {header}", path, "labels")
    rows: list[dict[str, str]] = []
    seen: dict[str, int] = {}
    for number, cells in lines:
        row = dict(zip(header, cells, strict=True))
        for name in columns:
            if not row[name]:
                raise DataError(f"row {number}, column {name!r} is empty", path, "labels")
        if unique is not None:
            first = seen.setdefault(row[unique], number)
            if first != number:
                raise DataError(
                    f"row {number}, column {unique!r} repeats {row[unique]!r} of row {first}", path, "labels"
                )
        rows.append(row)
    return rows
