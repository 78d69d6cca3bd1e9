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
    subgroups: Annotated[
        str | None,
        typer.Option("--subgroups", help="Columns of the case table whose values make subgroups: scanner,sex."),
    ] = None,
    case_table: Annotated[
        Path | None, typer.Option("--case_table", help="CSV about the cases or their patients, one row each.")
    ] = None,
) -> None:
    """Write one HTML file with metrics, figures and settings of a run; it opens anywhere, without a network."""
    from monai_ext.errors import ConfigError, DataError
    from monai_ext.reports import is_cross_validation, write_cross_validation_report, write_report

    if not run_dir.is_dir():
        raise DataError("is not a folder; give the folder of a run or of a cross-validation", run_dir)
    if (subgroups is None) != (case_table is None):
        raise ConfigError("report: --subgroups names columns of --case_table; give both or neither")
    if subgroups is not None and case_table is not None:
        from monai_ext.reports.subgroups import write_subgroups

        write_subgroups(run_dir, [name.strip() for name in subgroups.split(",") if name.strip()], case_table)
    write = write_cross_validation_report if is_cross_validation(run_dir) else write_report
    typer.echo(str(write(run_dir, output)))
