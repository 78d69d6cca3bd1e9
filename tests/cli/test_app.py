"""What `monai-ext` says of itself."""

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from monai_ext import __version__
from monai_ext.cli.app import app

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_version_is_that_of_the_package():
    done = CliRunner().invoke(app, ["--version"], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, f"monai-ext {__version__}\n")
    assert PROJECT["version"] == __version__
