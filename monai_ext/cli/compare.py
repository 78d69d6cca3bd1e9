"""``compare``: training runs side by side, from MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Two folders, of runs or of cross-validations, that predict the same cases.", metavar="A B"
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking_uri", help="MLflow's URI or an SQLite file; default: MLFLOW_TRACKING_URI, else runs/mlflow.db."
        ),
    ] = None,
    experiment_name: Annotated[str | None, typer.Option("--experiment_name", help="Default: all experiments.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Metric to sort by and to plot; default: auc where there is one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the table as FILE.csv, and FILE.png with the figure.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="Folder of the runs whose mlflow.db to read.")
    ] = None,
) -> None:
    """Print training runs as a table, best first: status, best metrics, the parameters that differ, duration.

    With two folders: whether they differ on their cases, with intervals and p (DeLong for AUC, else a paired bootstrap
    over patients; not corrected for the number of metrics).
    """
    if folders:
        return _compare_two(folders, metric, output)
    from monai_ext.reports.comparison import comparison_rows, console_table, write_comparison
    from monai_ext.reports.tracked_runs import load_runs, store_to_read

    chosen, runs = load_runs(tracking_uri or store_to_read(output_dir), experiment_name, metric)
    typer.echo(console_table(comparison_rows(runs, chosen)))
    if output is not None:
        for path in write_comparison(runs, chosen, output):
            typer.echo(f"wrote {path}")


def _compare_two(folders: list[Path], metric: str | None, output: Path | None) -> None:
    from monai_ext.errors import ConfigError
    from monai_ext.io import write_csv
    from monai_ext.reports.comparison import console_table
    from monai_ext.reports.paired import compare_folders, difference_rows, known_metric

    if len(folders) != 2:
        raise ConfigError(f"compare: give two folders of runs or cross-validations, or none; got {len(folders)}")
    rows = difference_rows(known_metric(compare_folders(*folders), metric))
    typer.echo(console_table([{"parent": None, **row} for row in rows], widest=48))
    if output is not None:
        typer.echo(f"wrote {write_csv(output, rows)}")
