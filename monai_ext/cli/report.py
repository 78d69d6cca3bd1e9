"""``report RUN_DIR``: one static HTML file for a run or a cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(help="Run folder, or the folder of a cross-validation.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="HTML file; default: report.html in the folder.")
    ] = None,
) -> None:
    """Write one HTML file with metrics, figures and settings of a run; it opens anywhere, without a network."""
    from monai_ext.errors import DataError
    from monai_ext.reports import is_cross_validation, write_cross_validation_report, write_report

    if not run_dir.is_dir():
        raise DataError("is not a folder; give the folder of a run or of a cross-validation", run_dir)
    write = write_cross_validation_report if is_cross_validation(run_dir) else write_report
    typer.echo(str(write(run_dir, output)))
