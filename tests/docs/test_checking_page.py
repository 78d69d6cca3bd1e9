"""The table of codes on the page about checking data."""

from pathlib import Path

from monai_ext.data.problems import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "checking.md"


def test_the_page_lists_every_code_with_its_step():
    table = "\n".join(["| code | step |", "|---|---|", *(f"| `{code}` | {step} |" for code, step in KINDS.items())])
    listed = PAGE.read_text(encoding="utf-8").partition("KINDS -->\n")[2].strip()
    assert listed == table, f"put this below the mark on {PAGE.name}:\n{table}"
