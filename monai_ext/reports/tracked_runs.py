"""Training runs in an MLflow store, which is read only."""

from __future__ import annotations

import difflib
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics.direction import lower_is_better
from monai_ext.mlflow_outbox import mlflow_reason, short_waits
from monai_ext.mlflow_uri import database_of, forget_misread
from monai_ext.workflow import default_tracking_uri, sqlite_uri


@dataclass
class ComparedRun:
    """One run of the MLflow store.

    Args:
        run_id: MLflow's id.
        name: MLflow's run name.
        experiment: name of the experiment.
        status: such as "finished", "failed" or "running".
        parent_id: id of the run that this one is nested in; ``None`` without one.
        parameters: logged parameters as text.
        best: metric → best value, as logged (``best_<metric>``), else the best of the history.
        history: (epoch, value) of the compared metric.
        seconds: duration; ``None`` for a run that hasn't ended.
        children: nested runs, such as the folds of a cross-validation.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    parent_id: str | None
    parameters: dict[str, str]
    best: dict[str, float]
    history: list[tuple[int, float]]
    seconds: float | None
    children: list[ComparedRun] = field(default_factory=list)

    def walk(self, depth: int = 0) -> Iterator[tuple[ComparedRun, int]]:
        """The run and all runs nested in it, with their depth."""
        yield self, depth
        for child in self.children:
            yield from child.walk(depth + 1)


def store_to_read(output_dir: str | Path | None = None) -> str:
    """URI of the store to compare.

    An ``output_dir`` overrides ``MLFLOW_TRACKING_URI``, which overrides the default of trainings below ``runs``
    (`monai_ext.workflow.default_tracking_uri`).

    Args:
        output_dir: folder of runs with an ``mlflow.db`` in it or in the folder above; None for the default store.
    """
    if output_dir is None:
        return default_tracking_uri("runs/of_a_bundle")
    folder = Path(output_dir)
    # The runs of one bundle are one level below the store that all bundles share.
    found = next((place for place in (folder, folder.absolute().parent) if (place / "mlflow.db").is_file()), folder)
    return sqlite_uri(found / "mlflow.db")


def load_runs(
    tracking_uri: str, experiment_name: str | None = None, metric: str | None = None
) -> tuple[str, list[ComparedRun]]:
    """Read the runs, best first, nested runs below their parent; the store is not changed.

    Args:
        tracking_uri: MLflow's URI, or the path of an SQLite file.
        experiment_name: None for all experiments.
        metric: the metric to sort by and to plot; default: see `choose_metric`.

    Returns:
        The metric and the runs.

    Raises:
        DataError: when there is no store, it can't be read, or it has no runs.
        ConfigError: for an unknown experiment or metric, with the nearest name.
    """
    import mlflow

    short_waits()
    uri = _existing(tracking_uri)
    # MLflow's searches use the store of the whole process, which is kept in an environment variable, too.
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        names = {item.experiment_id: item.name for item in mlflow.search_experiments()}
        if experiment_name is not None:
            if experiment_name not in names.values():
                raise ConfigError(_unknown("experiment", experiment_name, names.values()))
            names = {identifier: name for identifier, name in names.items() if name == experiment_name}
        found = mlflow.search_runs(list(names), output_format="list")
        if not found:
            raise DataError(f"the MLflow store {tracking_uri} has no runs yet")
        keys = [key for run in found if (key := run.data.params.get("key_metric")) not in (None, "None")]
        chosen = choose_metric((run.data.metrics for run in found), metric, keys)
        better = min if lower_is_better(chosen) or f"-{chosen}" in keys else max
        client = mlflow.MlflowClient()
        runs = [_compared(client, run, names[run.info.experiment_id], chosen, better) for run in found]
    except mlflow.MlflowException as error:
        raise DataError(f"the MLflow store {tracking_uri} can't be read: {mlflow_reason(error)}") from error
    finally:
        mlflow.set_tracking_uri(before)
        forget_misread(uri)
    return chosen, _nested(runs, chosen, better)


def choose_metric(logged: Iterable[dict[str, float]], wanted: str | None = None, chosen_by: Sequence[str] = ()) -> str:
    """The wanted metric if any run has it, else the one that most runs chose their best epoch by; where they don't say,
    ``auc`` or else the first that was logged as best.

    Args:
        logged: metrics of each run.
        wanted: name, with or without ``best_``; None to choose.
        chosen_by: the metric that chose the best epoch, of each run that says so, perhaps with ``-`` in front.

    Raises:
        ConfigError: when no run has the wanted one, with the nearest name.
    """
    keys = dict.fromkeys(key for metrics in logged for key in metrics)
    best = [key.removeprefix("best_") for key in keys if key.startswith("best_")]
    known = list(dict.fromkeys([*best, *(key for key in keys if not key.startswith("best_"))]))
    if wanted is None:
        named = Counter(name.removeprefix("-") for name in chosen_by)
        found = [name for name, _ in named.most_common() if name in known]
        if found:
            return found[0]
        return "auc" if "auc" in known or not known else known[0]
    name = wanted.removeprefix("best_")
    if name not in known:
        raise ConfigError(_unknown("metric", wanted, known))
    return name


def _compared(client: Any, run: Any, experiment: str, metric: str, better: Callable[..., Any]) -> ComparedRun:
    history = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]
    finite = sorted((step, value) for step, value in history if math.isfinite(value))
    best = {
        name.removeprefix("best_"): value
        for name, value in run.data.metrics.items()
        if name.startswith("best_") and math.isfinite(value)
    }
    # A run that was killed has no "best" of its own, and the store's value is the last one.
    if metric not in best and finite:
        best[metric] = better(value for _, value in finite)
    start, end = run.info.start_time, run.info.end_time
    return ComparedRun(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        experiment=experiment,
        status=run.info.status.lower(),
        parent_id=run.data.tags.get("mlflow.parentRunId"),
        parameters=dict(run.data.params),
        best=best,
        history=finite,
        seconds=(end - start) / 1000 if start and end else None,
    )


def _nested(runs: list[ComparedRun], metric: str, better: Callable[..., Any]) -> list[ComparedRun]:
    """Children below their parents, both best first; a parent without the metric counts by its children's mean."""
    known = {run.run_id: run for run in runs}
    for run in runs:
        if run.parent_id in known:
            known[run.parent_id].children.append(run)
    sign = 1 if better is min else -1

    def rank(run: ComparedRun) -> tuple[bool, float, str]:
        own = run.best.get(metric)
        values = [own] if own is not None else [c.best[metric] for c in run.children if metric in c.best]
        return not values, sign * sum(values) / len(values) if values else 0.0, run.name

    for run in runs:
        run.children.sort(key=rank)
    return sorted((run for run in runs if run.parent_id not in known), key=rank)


def _existing(tracking_uri: str) -> str:
    """The URI, after a check that a store exists: MLflow would create an empty one."""
    uri = tracking_uri if "://" in tracking_uri or tracking_uri.startswith("file:") else sqlite_uri(tracking_uri)
    path = database_of(uri)
    if path is None:
        return uri
    if not path.is_file():
        raise DataError(f"there is no MLflow store {path}; train first, or name one with --tracking_uri", None)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        busy = isinstance(error, sqlite3.OperationalError)  # locked by another program, say
        reason = "can't be read" if busy else "is not an MLflow store"
        raise DataError(f"{reason} ({error})", path) from error
    if "experiments" not in tables:
        raise DataError("is not an MLflow store (it has no table of experiments)", path)
    return uri


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {names}"
    return f"compare: no {kind} is called {name!r}; {hint}"
