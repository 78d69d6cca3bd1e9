"""``conform PATH``: does a MONAI bundle keep what other programs rely on?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def conform_bundle(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="Folder of any MONAI bundle.")],
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="Data in the bundle's own layout; default synthetic ones.")
    ] = None,
    expect_fail: Annotated[
        list[str] | None, typer.Option("--expect-fail", metavar="NAME=REASON", help="A failure that is known; again.")
    ] = None,
    expected: Annotated[
        Path | None, typer.Option("--expected", help="JSON file with the known failures: {NAME: REASON}.")
    ] = None,
) -> None:
    """Check a copy of a bundle: files, metadata, configs, network, exports, inference, training; a line for each.

    Exit code 1 when a check fails whose failure isn't expected. Any setting of the bundle's configs can follow:
    --image_size 32. The bundle's code is run: check only what you trust.
    """
    from monai_ext import conformance
    from monai_ext.errors import ConfigError
    from monai_ext.io import read_json
    from monai_ext.settings import parse_overrides

    known = {} if expected is None else read_json(expected)
    if not isinstance(known, dict):
        raise ConfigError(f"--expected {expected}: must hold an object, name of a check → reason")
    for text in expect_fail or ():
        name, separator, reason = text.partition("=")
        if not separator or not reason:
            raise ConfigError(f"--expect-fail {text}: give NAME=REASON")
        known[name] = reason
    failed = 0
    for result in conformance.conform(path, known, parse_overrides(context.args), dataset_dir):
        typer.echo(f"{result.name:<15} {result.status:<16} {result.reason}".rstrip())
        failed += result.status == "failed"
    typer.echo(f"{path}: {failed} of {len(conformance.CHECKS)} checks failed unexpectedly")
    if failed:
        raise typer.Exit(1)
