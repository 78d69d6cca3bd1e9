import re

import pytest
from source_lines import PACKAGE, REPOSITORY

PAGE = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_every_test_that_the_page_names_exists(file, name):
    text = (REPOSITORY / "tests" / file).read_text(encoding="utf-8")
    assert re.search(rf"^ *def {name}\(", text, re.MULTILINE)


def test_every_row_has_a_line():
    rows = re.findall(r"^\| (\w+) \|", PAGE, re.MULTILINE)
    expected = {f"R{number}" for number in range(1, 40)} | {str(number) for number in range(1, 12)}
    assert set(rows) - {"row", "line"} == expected


def test_every_file_that_the_page_names_exists():
    for column in re.findall(r"\(((?:`[\w/.]+`(?:, )?)+)\)", PAGE):
        for file in re.findall(r"`([\w/]+\.py)`", column):
            assert (PACKAGE / file).is_file() or list(PACKAGE.rglob(file)), file
