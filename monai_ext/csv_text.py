"""The text of CSV files: encoding, delimiter, pandas' index column, and cells that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import DataError

logger = logging.getLogger(__name__)

# The first one is what this program writes.
DELIMITERS = (",", ";", "\t")
SAVE_AGAIN = "save it again as UTF-8 (in Excel: 'CSV UTF-8')"
# A spreadsheet computes a cell that begins so; with an apostrophe in front it shows the text. Apostrophes that are
# there already are counted along, so that reading gives back exactly what was written.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_NUMBER = re.compile(r"[+-](\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PANDAS_INDEX = re.compile(r"Unnamed: \d+(\.\d+)*")


def decoded(path: Path) -> str:
    """Content of a UTF-8 file, with or without byte-order mark.

    Raises:
        DataError: for a missing file, or text in another encoding.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError("file not found", path) from None
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror})", path) from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:1000]:
        raise DataError(f"is not UTF-8 text but UTF-16; {SAVE_AGAIN}", path, "labels")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"is not UTF-8 text (row {row}, byte {error.start}), perhaps Latin-1; {SAVE_AGAIN}", path, "labels"
        ) from error


def columns_of(path: Path, wanted: Sequence[str] = ()) -> set[str]:
    """Names of the columns of a CSV; none for a file that can't be read as one.

    Args:
        path: the file.
        wanted: see `table_of`.
    """
    try:
        return set(table_of(path, wanted)[0])
    except DataError:
        return set()


def table_of(path: Path, wanted: Sequence[str] = ()) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV, and number and cells of each row that isn't blank; an index column of pandas is dropped.

    Args:
        path: the file. Its delimiter is the one of `DELIMITERS` that finds most of the ``wanted`` columns in the
            header, else the one that occurs most often in it.
        wanted: names of columns.

    Raises:
        DataError: for a file that can't be read, isn't UTF-8 or no CSV, a row with too many cells, or a column that
            occurs twice.
    """
    text = decoded(path)
    rows = []
    try:
        delimiter = _delimiter(text, wanted)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        for cells in reader:
            if cells:  # not a blank line
                rows.append((reader.line_num, [from_cell(cell.strip()) for cell in cells]))
    except csv.Error as error:
        raise DataError(f"is not a readable CSV file ({error})", path, "labels") from error
    header = rows.pop(0)[1] if rows else []
    for number, cells in rows:
        if any(cells[len(header) :]):
            raise DataError(f"row {number} has more cells than the header has columns", path, "labels")
        cells[len(header) :] = []
        cells += [""] * (len(header) - len(cells))
    unused = _unused(header, [cells for _, cells in rows], wanted, path)
    kept = [column for column in range(len(header)) if column not in unused]
    names = [header[column] for column in kept]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"has the column {name!r} {names.count(name)} times; keep one", path, "labels")
    return names, [(number, [cells[column] for column in kept]) for number, cells in rows]


def as_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet computes: text such as ``=1+1`` gets an apostrophe; numbers stay.

    Args:
        value: of a cell.
    """
    computed = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if computed else value


def from_cell(text: str) -> str:
    """The text that `as_cell` was given.

    Args:
        text: of a cell.
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _delimiter(text: str, wanted: Iterable[str]) -> str:
    start = text[: 1 << 16].lstrip("\r\n")
    plain = re.split(r"[\r\n]", _QUOTED.sub("", start), maxsplit=1)[0]

    def fits(delimiter: str) -> tuple[int, int]:
        header = next(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter, skipinitialspace=True), [])
        return len(set(wanted) & {from_cell(name.strip()) for name in header}), plain.count(delimiter)

    return max(DELIMITERS, key=fits)  # the first of equals


def _unused(header: Sequence[str], rows: Sequence[Sequence[str]], wanted: Iterable[str], path: Path) -> set[int]:
    """Columns that hold nothing: without a name and empty throughout, or the index that pandas writes."""
    unused = set()
    for column, name in enumerate(header):
        cells = [row[column] for row in rows]
        if not name and len(header) > 1 and not any(cells):
            unused.add(column)
            continue
        unnamed = name not in wanted and (_PANDAS_INDEX.fullmatch(name) or (column == 0 and not name))
        if unnamed and all(cell.isdecimal() for cell in cells) and len(set(cells)) == len(cells):
            logger.info("%s: the column %r holds row numbers, as pandas writes them; it isn't used", path, name)
            unused.add(column)
    return unused
