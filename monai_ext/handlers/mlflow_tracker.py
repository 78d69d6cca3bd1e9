"""A run's parameters, curves, artifacts and end in MLflow."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from monai_ext.errors import ConfigError
from monai_ext.handlers.mlflow_store import artifacts_of, follow_move, make_sound
from monai_ext.handlers.tracking import finite_numbers
from monai_ext.mlflow_entries import begin_run
from monai_ext.mlflow_outbox import CATCHING_UP, Outbox, mlflow_reason, no_answer, short_waits
from monai_ext.mlflow_uri import database_of, forget_misread
from monai_ext.system_errors import explained, writing

logger = logging.getLogger(__name__)

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
# Seconds for others that begin a run in the same SQLite file; the first one makes its tables.
_PATIENCE = 120.0


class MLflowTracker:
    """One MLflow run for one training run.

    MONAI's `MLFlowHandler` continues any unfinished run of its experiment, sets no parent, and leaves a crashed run
    open; this one creates its run by id, continues the same one after a resume, and always records the end state. Once
    it has started, a server that is away or refuses something costs a warning and seconds, see `Outbox`.

    Args:
        tracking_uri: ``sqlite:///PATH`` or the URL of a server.
        experiment_name: name of the experiment, which is created when missing.
        run_name: displayed name of the run.
        parent_run_id: run of which this is a child (a fold of a cross-validation).
        run_id: existing run to continue; ``None`` for a new one.
        folder: folder of the run, which keeps what the server doesn't take, for ``python -m monai_ext sync``.
        tags: further tags of a new run; MLflow itself says who begins it, with which program and commit.

    Raises:
        ConfigError: when the store can't be opened; a server that doesn't answer is none for a child with a folder.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment_name: str,
        run_name: str,
        parent_run_id: str | None = None,
        run_id: str | None = None,
        folder: str | Path | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        short_waits()
        self.tracking_uri = tracking_uri
        with _one_at_a_time(tracking_uri):
            try:
                self.client, experiment = open_store(tracking_uri, experiment_name)
                self._outbox = Outbox(self.client, tracking_uri, folder)
                self._run_id = self._reopen(run_id) or begin_run(
                    self.client, experiment, run_name, _all_tags(parent_run_id, tags)
                )
            except ConfigError:
                raise
            except Exception as error:
                why = mlflow_reason(error)
                if not no_answer(error):
                    raise ConfigError(f"--tracking_uri {tracking_uri}: can't be used ({why})") from error
                if parent_run_id is None or folder is None:
                    raise ConfigError(
                        f"--tracking_uri {tracking_uri}: the server does not answer ({why}); start it, or train "
                        "without it by --tracking_uri none"
                    ) from error
                # The training as a whole has begun long ago: a fold goes on without the server.
                self._begin_later(experiment_name, run_name, _all_tags(parent_run_id, tags), run_id, folder)
        self._outbox.forget("end", self._run_id)

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; a name of our own until the server has answered a run that began without it."""
        return self._outbox.ids.get(self._run_id, self._run_id)

    def _begin_later(
        self, experiment: str, run_name: str, tags: dict[str, str], known: str | None, folder: str | Path
    ) -> None:
        import mlflow

        self.client = mlflow.MlflowClient(self.tracking_uri)
        self._outbox = Outbox(self.client, self.tracking_uri, folder)
        self._run_id = known or f"later_{uuid.uuid4().hex}"
        if known is None:
            names = {"experiment_name": experiment, "run_name": run_name, "tags": tags}
            self._outbox.put("begin", self._run_id, **names, milliseconds=_now())

    def _reopen(self, run_id: str | None) -> str | None:
        from mlflow.exceptions import MlflowException

        if run_id is None or self._outbox.holds("begin", run_id):
            return run_id
        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if no_answer(error):
                raise
            logger.warning("MLflow run %s is not in %s: going on in a new one", run_id, self.tracking_uri)
            return None
        return run_id

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters; those logged before keep their value.

        Args:
            values: parameters by name; as text, at most 6000 characters each.
        """
        texts = {key: str(value)[:6000] for key, value in values.items()}
        self._outbox.put("parameters", self._run_id, values=texts)

    def metrics(self, values: Mapping[str, Any], step: int = 0) -> None:
        """Log the finite numbers among the values.

        Args:
            values: metrics by name; others than finite numbers are left out.
            step: step of all of them, such as the epoch.
        """
        numbers = {name: float(value) for name, value in finite_numbers(values).items()}
        self._outbox.put("metrics", self._run_id, values=numbers, step=step, milliseconds=_now())

    def best(self, values: Mapping[str, Any]) -> None:
        """Log the numbers that sum the run up, as metrics without an epoch.

        Args:
            values: by name, such as ``best_auc``.
        """
        self.metrics(values)

    def samples(self, samples: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics at times instead of epochs.

        Args:
            samples: milliseconds since 1970, and values by name.
        """
        if samples:
            self._outbox.put("samples", self._run_id, samples=[[when, dict(values)] for when, values in samples])

    def inputs(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Log the data sets that the run uses.

        Args:
            datasets: arguments of `mlflow.entities.Dataset`, and ``context``, such as ``"train"``.
        """
        if datasets:
            self._outbox.put("inputs", self._run_id, datasets=[dict(one) for one in datasets])

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Copy a file or a folder into the run's artifacts.

        Args:
            path: path of the file or folder; a missing one is skipped.
            folder: folder within the artifacts; default the top.
        """
        self._outbox.put("artifact", self._run_id, path=str(Path(path).absolute()), folder=folder)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Log a PNG file as the picture of a step, which the MLflow pages show with a slider over the steps.

        Args:
            name: name of the series of pictures.
            path: path of the file.
            step: step, such as the epoch.
        """
        self._outbox.put("picture", self._run_id, path=str(path.absolute()), name=name, step=step)

    def model(self, folder: Path, epoch: int, register: str | None = None) -> None:
        """Hand a model over: once MLflow has it, as ``runs:/<id>/model`` with the run's metrics, its folder is removed.

        Args:
            folder: folder of the run in which it lies, see `monai_ext.mlflow_network.write_network`.
            epoch: number of its epoch, from 1.
            register: name of the registered model of which it becomes a version; ``None`` for none.
        """
        self._outbox.put("model", self._run_id, path=str(folder.absolute()), epoch=epoch, register=register)

    def finish(self, status: str = FINISHED) -> None:
        """Write the end state; first, unless the run was killed and is in a hurry, what the server has not taken yet.

        Args:
            status: MLflow's word: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        """
        if self._outbox.waiting and status != KILLED:
            self._outbox.send_waiting(CATCHING_UP)
        self._outbox.put("end", self._run_id, status=status, milliseconds=_now())
        self._outbox.say_what_waits()

    def mark_failed(self, run_id: str) -> None:
        """Write the end of another run that was killed before it could do so itself.

        Args:
            run_id: MLflow's id of that run.
        """
        self._outbox.put("failed", run_id)


def _all_tags(parent: str | None, given: Mapping[str, str] | None) -> dict[str, str]:
    from mlflow.tracking.context.registry import resolve_tags

    return dict(resolve_tags({**(given or {}), **({"mlflow.parentRunId": parent} if parent else {})}))


def _now() -> int:
    return int(time.time() * 1000)


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
        # The first opening migrates the empty database, with two hundred lines of log; an error has sixty, and is said
        # in one by us.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        make_sound(database)
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(experiment_name)
    forget_misread(tracking_uri)
    if database is not None and experiment is not None:
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
        reason = explained(error) or error.strerror
        raise ConfigError(f"--tracking_uri {tracking_uri}: can't be written ({reason})") from error
    with lock:
        _take(lock, tracking_uri)
        yield


def _take(lock: IO[str], tracking_uri: str) -> None:
    """Wait for another process to have begun its run, but not for one that is suspended in it."""
    deadline = time.monotonic() + _PATIENCE
    with writing(lock.name):
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"--tracking_uri {tracking_uri}: another process has held {lock.name} for {_PATIENCE:.0f} s; "
                        "end it (fuser shows which), or name another store"
                    ) from None
            time.sleep(0.1)
