from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from monai_ext.cli.onnx import onnx
from monai_ext.errors import DataError

app = typer.Typer()
app.command()(onnx)


def test_a_folder_without_a_trained_network_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"config/metadata\.json: not found; give the folder of a run"):
        CliRunner().invoke(app, [str(tmp_path)], catch_exceptions=False)
