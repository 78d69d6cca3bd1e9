from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_ext.csv_text import as_cell, from_cell
from monai_ext.errors import DataError
from monai_ext.io import read_csv, write_csv

ROWS = [{"case": "a", "class": "HGG"}, {"case": "b, or c", "class": "LGG"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("wanted", [["case", "class"], []], ids=["known", "unknown"])
def test_any_usual_delimiter_is_read(tmp_path, delimiter, encoding, wanted):
    with open(tmp_path / "a.csv", "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, ["case", "class"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    assert read_csv(tmp_path / "a.csv", wanted) == ROWS


def test_the_delimiter_is_the_one_that_finds_the_columns(tmp_path):
    path = write(tmp_path / "a.csv", "case;class;a,b,c,d\nx;y;1\n")
    assert read_csv(path, ["case", "class"]) == [{"case": "x", "class": "y", "a,b,c,d": "1"}]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-16", "is not UTF-8 text but UTF-16"), ("utf-16-le", "but UTF-16"), ("latin-1", r"\(row 2, byte 12\)")],
)
def test_another_encoding_is_one_sentence_with_the_way_out(tmp_path, encoding, message):
    path = write(tmp_path / "a.csv", "case,class\nMüller,HGG\n".encode(encoding))
    with pytest.raises(DataError, match=rf"a\.csv: .*{message}.*save it again as UTF-8"):
        read_csv(path, ["case"])


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
@pytest.mark.parametrize("numbers", [(0, 1), (7, 3)], ids=["all", "of a selection"])
def test_the_index_of_pandas_is_ignored_with_a_note(tmp_path, caplog, name, numbers):
    first, second = numbers
    path = write(tmp_path / "a.csv", f"{name},case,class\n{first},a,HGG\n{second},'b,LGG\n")
    with caplog.at_level(logging.INFO):
        assert [list(row) for row in read_csv(path, ["case"])] == [["case", "class"]] * 2
    assert [f"the column {name!r} holds row numbers" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("text", [",case\nx,a\n", "number,case\n0,a\n"], ids=["other text", "a name"])
def test_a_column_that_means_something_is_no_index(tmp_path, text):
    assert len(read_csv(write(tmp_path / "a.csv", text), ["case"])[0]) == 2


def test_columns_that_a_spreadsheet_appends_are_ignored(tmp_path):
    assert read_csv(write(tmp_path / "a.csv", "case;class;;\na;HGG;;\n"), ["case"]) == [{"case": "a", "class": "HGG"}]


@pytest.mark.parametrize("columns", [["case"], []], ids=["wanted", "not wanted"])
def test_a_column_that_occurs_twice_is_refused(tmp_path, columns):
    with pytest.raises(DataError, match=r"a\.csv: has the column 'class' 2 times; keep one"):
        read_csv(write(tmp_path / "a.csv", "case,class,class\na,HGG,LGG\n"), columns)


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "\r=1", "-1+1", "-inf", "=", "''=1"])
def test_a_spreadsheet_shows_text_and_does_not_compute_it(tmp_path, text):
    path = write_csv(tmp_path / "a.csv", [{"case": text, text: 1}])
    with open(path, newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row if cell not in ("case", "1")]
    assert cells == ["'" + text] * 2


@pytest.mark.parametrize("value", [-0.5, "-0.5", "+3", "-1e-5", "-.5", 7, None, "plain", "a=b", "'"])
def test_numbers_and_plain_text_stay_as_they_are(value):
    assert as_cell(value) == value


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
# Blanks around a cell are no part of it, other than those that a spreadsheet takes for the beginning of a formula.
CELL = st.one_of(TEXT, st.tuples(st.sampled_from(["'", "=", "+", "-", "@", "\t", "\r"]), TEXT).map("".join)).map(
    lambda text: text.rstrip() if text[0] in "\t\r" else text.strip()
)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4), st.lists(CELL.filter(bool), min_size=2, max_size=2))
def test_what_is_written_is_read_back(tmp_path_factory, rows, names):
    names = [f"{name}{number}" for number, name in enumerate(names)]
    table = [dict(zip(names, row, strict=True)) for row in rows]
    path = write_csv(tmp_path_factory.mktemp("csv") / "a.csv", table)
    assert read_csv(path, names) if all(map(all, rows)) else read_csv(path, []) == table
    assert all(from_cell(as_cell(cell)) == cell for row in rows for cell in row)
