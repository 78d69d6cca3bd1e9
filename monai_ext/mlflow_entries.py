"""Kinds of entries for MLflow, each with the function that sends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def begin_run(
    client: Any, experiment: str, run_name: str, parent: str | None = None, milliseconds: int | None = None
) -> str:
    """Create a run; returns its id.

    Args:
        client: `mlflow.MlflowClient` of the store.
        experiment: id of the experiment.
        run_name: displayed name of the run.
        parent: id of the run of which this is a child.
        milliseconds: when it began, since 1970; default: now.
    """
    tags = {"mlflow.runName": run_name, **({"mlflow.parentRunId": parent} if parent else {})}
    return str(client.create_run(experiment, milliseconds, tags, run_name).info.run_id)


def _send_begin(
    client: Any, run_id: str, experiment_name: str, run_name: str, parent: str | None, milliseconds: int
) -> str:
    experiment = client.get_experiment_by_name(experiment_name)
    return begin_run(client, experiment.experiment_id, run_name, parent, milliseconds)


def _send_parameters(client: Any, run_id: str, values: dict[str, str]) -> None:
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(key, value) for key, value in values.items() if key not in known]
    for start in range(0, len(new), 100):
        client.log_batch(run_id, params=new[start : start + 100])


def _send_metrics(client: Any, run_id: str, values: dict[str, float], step: int, milliseconds: int) -> None:
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(key, value, milliseconds, step) for key, value in values.items()])


def _send_artifact(client: Any, run_id: str, path: Path, folder: str | None) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), folder)
    elif path.exists():
        client.log_artifact(run_id, str(path), folder)


def _send_picture(client: Any, run_id: str, path: Path, name: str, step: int) -> None:
    from matplotlib.image import imread

    client.log_image(run_id, imread(path), key=name, step=step)


def _send_end(client: Any, run_id: str, status: str, milliseconds: int) -> None:
    client.set_terminated(run_id, status, milliseconds)


def _send_failed(client: Any, run_id: str) -> None:
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FAILED")


SEND: dict[str, Callable[..., Any]] = {
    "begin": _send_begin,
    "parameters": _send_parameters,
    "metrics": _send_metrics,
    "artifact": _send_artifact,
    "picture": _send_picture,
    "end": _send_end,
    "failed": _send_failed,
}
