"""``compare``: training runs side by side, from MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
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
    """Print training runs as a table, best first: status, best metrics, the parameters that differ, duration."""
    from monai_ext.reports.comparison import comparison_rows, console_table, write_comparison
    from monai_ext.reports.tracked_runs import load_runs, store_to_read

    chosen, runs = load_runs(tracking_uri or store_to_read(output_dir), experiment_name, metric)
    typer.echo(console_table(comparison_rows(runs, chosen)))
    if output is not None:
        for path in write_comparison(runs, chosen, output):
            typer.echo(f"wrote {path}")
