from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from monai_ext.cli.report import report
from monai_ext.errors import DataError
from monai_ext.io import write_json

app = typer.Typer()
app.command()(report)


def test_run_and_cross_validation_folders_are_told_apart(tmp_path: Path) -> None:
    write_json(tmp_path / "run/run.json", {"status": "failed"})
    write_json(tmp_path / "cv/cross_validation.json", {"bundle": "b", "folds": []})
    for folder, words in (("run", "The run failed"), ("cv", "cross-validation")):
        target = tmp_path / f"{folder}.html"
        result = CliRunner().invoke(app, [str(tmp_path / folder), "--output", str(target)], catch_exceptions=False)
        assert result.output.strip() == str(target)
        assert words in target.read_text()


def test_default_output_is_in_the_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "killed"})
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 0
    assert (tmp_path / "report.html").is_file()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: is not a folder"):
        CliRunner().invoke(app, [str(tmp_path / "nowhere")], catch_exceptions=False)
