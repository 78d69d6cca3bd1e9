"""``sync RUN``: what MLflow's server did not take while a run was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sync(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs or of cross-validations.", metavar="RUN..."),
    ],
) -> None:
    """Send MLflow what it did not take while its server was away.

    The values, files and the end of a run are kept in the run folder (mlflow_waiting.jsonl) until the server has them.
    """
    for run_dir in run_dirs:
        typer.echo(f"{run_dir}: {_send(run_dir)}")


def _send(run_dir: Path) -> str:
    from monai_ext.errors import ConfigError, DataError, RunLockedError
    from monai_ext.mlflow_outbox import Outbox, read_waiting, short_waits
    from monai_ext.mlflow_uri import forget_misread
    from monai_ext.runs import being_written

    if not run_dir.is_dir():
        raise DataError("is not a folder; give the folder of a run or of a cross-validation", run_dir)
    if being_written(run_dir):
        raise RunLockedError(f"{run_dir}: is being trained, and sends what waits itself; call sync after its end")
    stores = {entry["tracking_uri"]: None for entry in read_waiting(run_dir)}
    if not stores:
        return "nothing waits for MLflow"
    import mlflow

    short_waits()
    sent = 0
    for uri in stores:
        try:
            client = mlflow.MlflowClient(uri)
        except mlflow.MlflowException as error:
            raise ConfigError(f"{run_dir}: what waits is for {uri}, which MLflow can't use ({error})") from error
        outbox = Outbox(client, uri, run_dir)
        sent += outbox.send_waiting()
        forget_misread(uri)
        _note_run_id(run_dir / "run.json", outbox.ids)
        left = sum(entry["tracking_uri"] == uri for entry in outbox.waiting)
        if left:
            raise ConfigError(
                f"{run_dir}: {left} entries still wait for MLflow at {uri} ({outbox.reason}); call sync again when it "
                "takes them"
            )
    return f"sent {sent} entries to {', '.join(stores)}"


def _note_run_id(record: Path, ids: dict[str, str]) -> None:
    """A run that began while the server was away has its id from now on."""
    from monai_ext.io import read_json, write_json

    if ids and record.is_file():
        content = read_json(record)
        known = content.get("mlflow_run_id")
        write_json(record, {**content, "mlflow_run_id": ids.get(known, known)})
