"""A run's parameters, curves, artifacts and end in MLflow."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.handlers.mlflow_store import artifacts_of, database_of, follow_move, forget_misread, make_sound

logger = logging.getLogger(__name__)

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


class MLflowTracker:
    """One MLflow run for one training run.

    MONAI's `MLFlowHandler` continues any unfinished run of its experiment, sets no parent, and leaves a crashed run
    open; this one creates its run by id, continues the same one after a resume, and always records the end state. Once
    it has started, errors of the server are logged and never stop the training.

    Args:
        tracking_uri: ``sqlite:///PATH`` or the URL of a server.
        experiment_name: name of the experiment, which is created when missing.
        run_name: displayed name of the run.
        parent_run_id: run of which this is a child (a fold of a cross-validation).
        run_id: existing run to continue; ``None`` for a new one.

    Raises:
        ConfigError: when the store can't be opened.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment_name: str,
        run_name: str,
        parent_run_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        with _one_at_a_time(tracking_uri):
            try:
                self.client, experiment = open_store(tracking_uri, experiment_name)
                self.run_id = self._reopen(run_id) or self._create(experiment, run_name, parent_run_id)
            except ConfigError:
                raise
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ConfigError(f"--tracking_uri {tracking_uri}: can't be used ({reason})") from error

    def _create(self, experiment: str, run_name: str, parent: str | None) -> str:
        tags = {"mlflow.runName": run_name}
        if parent:
            tags["mlflow.parentRunId"] = parent
        return str(self.client.create_run(experiment, tags=tags, run_name=run_name).info.run_id)

    def _reopen(self, run_id: str | None) -> str | None:
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return None
        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException:
            logger.warning("MLflow run %s is not in %s: going on in a new one", run_id, self.tracking_uri)
            return None
        return run_id

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters; those logged before keep their value.

        Args:
            values: parameters by name; as text, at most 6000 characters each.
        """
        from mlflow.entities import Param

        def log() -> None:
            known = self.client.get_run(self.run_id).data.params
            new = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in known]
            for start in range(0, len(new), 100):
                self.client.log_batch(self.run_id, params=new[start : start + 100])

        self._try(log)

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Log the finite numbers among the values.

        Args:
            values: metrics by name; others than finite numbers are left out.
            step: step of all of them, such as the epoch.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}
        entries = [Metric(key, value, now, step) for key, value in numbers.items()]
        self._try(lambda: self.client.log_batch(self.run_id, metrics=entries))

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Copy a file or a folder into the run's artifacts.

        Args:
            path: path of the file or folder; a missing one is skipped.
            folder: folder within the artifacts; default the top.
        """
        path = Path(path)
        if path.is_dir():
            self._try(lambda: self.client.log_artifacts(self.run_id, str(path), folder))
        elif path.exists():
            self._try(lambda: self.client.log_artifact(self.run_id, str(path), folder))

    def picture(self, name: str, path: str | Path, step: int) -> None:
        """Log a PNG file as the picture of a step, which the MLflow pages show with a slider over the steps.

        Args:
            name: name of the series of pictures.
            path: path of the file.
            step: step, such as the epoch.
        """
        from matplotlib.image import imread

        self._try(lambda: self.client.log_image(self.run_id, imread(path), key=name, step=step))

    def finish(self, status: str = FINISHED) -> None:
        """Write the end state.

        Args:
            status: MLflow's word: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        """
        self._try(lambda: self.client.set_terminated(self.run_id, status))

    def mark_failed(self, run_id: str) -> None:
        """Write the end of another run that was killed before it could do so itself.

        Args:
            run_id: MLflow's id of that run.
        """

        def mark() -> None:
            if self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, FAILED)

        self._try(mark)

    def _try(self, action: Callable[[], Any], attempts: int = 3) -> None:
        for attempt in range(attempts):
            try:
                action()
                return
            except Exception as error:
                if attempt == attempts - 1:
                    logger.warning("MLflow did not take an entry: %s", str(error).splitlines()[0])
                else:
                    time.sleep(0.2 * 2**attempt)


def open_store(tracking_uri: str, experiment_name: str) -> tuple[Any, str]:
    """A client and the id of an experiment, which is created when missing.

    Artifacts of a SQLite store lie in ``mlruns`` beside the database, as with MONAI's handler.

    Args:
        tracking_uri: of a database (``sqlite:///PATH``) or a server.
        experiment_name: its name in the store.

    Raises:
        ConfigError: for a store that MLflow no longer has, or a deleted experiment.
        MlflowException: when the experiment can't be created.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    if "://" not in tracking_uri or tracking_uri.startswith("file:"):
        raise ConfigError(
            f"--tracking_uri {tracking_uri}: MLflow keeps runs in a database or on a server; "
            "give sqlite:///PATH/mlflow.db or http://..."
        )
    database = database_of(tracking_uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        # The first opening migrates the empty database, with two hundred lines of log.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        make_sound(database)
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(experiment_name)
    if database is not None:
        forget_misread(tracking_uri, database)
        if experiment is not None:
            follow_move(database, experiment)
    if experiment is None:
        location = artifacts_of(database) if database is not None else None
        try:
            return client, str(client.create_experiment(experiment_name, artifact_location=location))
        except MlflowException:
            experiment = client.get_experiment_by_name(experiment_name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise ConfigError(f"--experiment_name {experiment_name}: was deleted in {tracking_uri}; restore it or rename")
    return client, str(experiment.experiment_id)


@contextlib.contextmanager
def _one_at_a_time(tracking_uri: str) -> Iterator[None]:
    """Two processes that create the tables of one fresh SQLite file at once would crash one of them."""
    database = database_of(tracking_uri)
    if database is None:
        yield
        return
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock = open(database.with_name(f".{database.name}.lock"), "w")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"--tracking_uri {tracking_uri}: can't be written ({error.strerror})") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
