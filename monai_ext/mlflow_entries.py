"""Kinds of entries for MLflow, each with the function that sends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Name of a run's model: runs:/<id>/model.
MODEL = "model"


def begin_run(
    client: Any, experiment: str, run_name: str, tags: dict[str, str], milliseconds: int | None = None
) -> str:
    """Create a run; returns its id.

    Args:
        client: `mlflow.MlflowClient` of the store.
        experiment: id of the experiment.
        run_name: displayed name of the run.
        tags: texts by name, such as ``mlflow.parentRunId``.
        milliseconds: when it began, since 1970; default: now.
    """
    return str(client.create_run(experiment, milliseconds, tags, run_name).info.run_id)


def _send_begin(
    client: Any, run_id: str, experiment_name: str, run_name: str, tags: dict[str, str], milliseconds: int
) -> str:
    experiment = client.get_experiment_by_name(experiment_name)
    return begin_run(client, experiment.experiment_id, run_name, tags, milliseconds)


def _send_parameters(client: Any, run_id: str, values: dict[str, str]) -> None:
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(key, value) for key, value in values.items() if key not in known]
    for start in range(0, len(new), 100):
        client.log_batch(run_id, params=new[start : start + 100])


def _send_metrics(client: Any, run_id: str, values: dict[str, float], step: int, milliseconds: int) -> None:
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(key, value, milliseconds, step) for key, value in values.items()])


def _send_samples(client: Any, run_id: str, samples: list[tuple[int, dict[str, float]]]) -> None:
    """Metrics at times: (milliseconds since 1970, values) each; their step is the second."""
    from mlflow.entities import Metric

    found = [Metric(key, value, time, time // 1000) for time, values in samples for key, value in values.items()]
    for start in range(0, len(found), 1000):
        client.log_batch(run_id, metrics=found[start : start + 1000])


def _send_inputs(client: Any, run_id: str, datasets: list[dict[str, str]]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for described in datasets:
        context = InputTag("mlflow.data.context", described["context"])
        known = {name: value for name, value in described.items() if name != "context"}
        inputs.append(DatasetInput(Dataset(**known), [context]))
    client.log_inputs(run_id, inputs)


def _send_artifact(client: Any, run_id: str, path: Path, folder: str | None) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), folder)
    elif path.exists():
        client.log_artifact(run_id, str(path), folder)


def _send_picture(client: Any, run_id: str, path: Path, name: str, step: int) -> None:
    from matplotlib.image import imread

    client.log_image(run_id, imread(path), key=name, step=step)


def _send_model(client: Any, run_id: str, path: Path, epoch: int, register: str | None) -> None:
    """The run's only model `MODEL`; its folder is removed afterwards, so that the store has the only copy."""
    from mlflow.models import Model

    if not (path / "MLmodel").is_file():
        return
    experiment = client.get_run(run_id).info.experiment_id
    before = client.search_logged_models([experiment], f"source_run_id = '{run_id}' AND name = '{MODEL}'")
    # An attempt may have ended in the middle of it, or after it.
    logged = next((one for one in before if one.params.get("epoch") == str(epoch)), None) or client.create_logged_model(
        experiment, MODEL, run_id, params={"epoch": str(epoch)}
    )
    if str(logged.status) != "READY":
        model = Model.load(str(path))
        model.run_id, model.model_id, model.model_uuid = run_id, logged.model_id, logged.model_id
        model.artifact_path = logged.artifact_location
        model.save(str(path / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(path))
        client.finalize_logged_model(logged.model_id, "READY")
        _relate(client, run_id, logged.model_id, epoch)
    if register:
        _register(client, run_id, logged, register)
    for other in before:
        if other.model_id != logged.model_id:
            client.delete_logged_model(other.model_id)
    shutil.rmtree(path)


def _relate(client: Any, run_id: str, model_id: str, epoch: int) -> None:
    """Make a model an output of its run, with the run's best metrics."""
    from mlflow.entities import LoggedModelOutput, Metric

    client.log_outputs(run_id, [LoggedModelOutput(model_id, epoch)])
    names = [name for name in client.get_run(run_id).data.metrics if name.startswith("best_")]
    known = [metric for name in names for metric in client.get_metric_history(run_id, name)]
    client.log_batch(
        run_id, metrics=[Metric(one.key, one.value, one.timestamp, one.step, model_id=model_id) for one in known]
    )


def _register(client: Any, run_id: str, logged: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Not models:/ID, which MLflow looks for in MLFLOW_TRACKING_URI, whatever the client's store is. A number of seconds
    # would let it ask again and again whether the version is ready.
    source = logged.artifact_location
    client.create_model_version(name, source, run_id, model_id=logged.model_id, await_creation_for=0)


def _send_end(client: Any, run_id: str, status: str, milliseconds: int) -> None:
    client.set_terminated(run_id, status, milliseconds)


def _send_failed(client: Any, run_id: str) -> None:
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FAILED")


SEND: dict[str, Callable[..., Any]] = {
    "begin": _send_begin,
    "parameters": _send_parameters,
    "metrics": _send_metrics,
    "samples": _send_samples,
    "inputs": _send_inputs,
    "artifact": _send_artifact,
    "picture": _send_picture,
    "model": _send_model,
    "end": _send_end,
    "failed": _send_failed,
}
