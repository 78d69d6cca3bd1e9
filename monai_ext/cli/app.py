"""The command-line application: registers the commands."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import typer

from monai_ext import __version__
from monai_ext.cli import bundle as bundle_commands
from monai_ext.cli.check import check
from monai_ext.cli.compare import compare
from monai_ext.cli.conform import conform_bundle
from monai_ext.cli.cross_validate import cross_validate
from monai_ext.cli.demo import demo
from monai_ext.cli.demo_data import demo_data
from monai_ext.cli.domain_commands import OVERRIDES, add_command
from monai_ext.cli.new_bundle import new_bundle
from monai_ext.cli.onnx import onnx
from monai_ext.cli.prepare import prepare
from monai_ext.cli.report import report
from monai_ext.cli.settings import settings
from monai_ext.cli.sync import sync
from monai_ext.cli.weights import weights
from monai_ext.task import Command, commands_of, find_tasks

app = typer.Typer(
    name="python -m monai_ext",
    help="Data, runs and results of the bundles, from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"monai-ext {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options before a command."""


app.command("demo-data")(demo_data)
app.command("demo", context_settings=OVERRIDES)(demo)
app.command("check", context_settings=OVERRIDES)(check)
app.command("prepare", context_settings=OVERRIDES)(prepare)
app.command("cross-validate", context_settings=OVERRIDES)(cross_validate)
app.command("compare")(compare)
app.command("conform", context_settings=OVERRIDES)(conform_bundle)
app.command("report")(report)
app.command("onnx")(onnx)
app.command("sync")(sync)
app.command("settings")(settings)
app.command("weights")(weights)
app.command("new-bundle")(new_bundle)
app.add_typer(bundle_commands.app, name="bundle")
_BY_NAME: dict[str, dict[str, Command]] = defaultdict(dict)
for bundle, task in find_tasks().items():
    for name, command in commands_of(task).items():
        _BY_NAME[name][bundle] = command
for name, commands in _BY_NAME.items():
    add_command(app, name, commands)
