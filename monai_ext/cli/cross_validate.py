"""``python -m monai_ext cross-validate``: all folds of a bundle, then their metrics together."""

from __future__ import annotations

from typing import Annotated

import typer


def cross_validate(
    context: typer.Context,
    config_file: Annotated[
        str, typer.Option("--config_file", help="train.json, or a list: \"['.../train.json','.../demo.json']\".")
    ],
    folds: Annotated[int, typer.Option("--folds", min=2, help="Number of folds.")] = 5,
) -> None:
    """Train every fold that has not finished yet, then report the out-of-fold metrics, calibration and ensemble.

    Any override of the config can follow, as with `python -m monai.bundle run`: --lr 5e-4 --modality t1ce. Called
    again with the same settings and data, it keeps finished folds and resumes the one that was interrupted.
    """
    from monai_ext.engines.cross_validation import CrossValidation
    from monai_ext.settings import parse_files, parse_overrides

    record = CrossValidation(parse_files(config_file), folds, parse_overrides(context.args)).run()
    typer.echo(f"\nout-of-fold metrics: {record}")
    typer.echo(f"report: {record.with_name('report.html')}")
    typer.echo(f"to infer with all folds: --ensemble {record} with the bundle's configs/inference.json")
