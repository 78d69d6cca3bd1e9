"""The SQLite file of a local MLflow store: whole or not there, and its artifacts beside it."""

from __future__ import annotations

import contextlib
import glob
import logging
import sqlite3
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import TEMPORARY_SUFFIX, atomic_path
from monai_ext.mlflow_uri import forget_misread
from monai_ext.workflow import sqlite_uri

logger = logging.getLogger(__name__)

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SECONDS = 20.0  # for another process that is writing, as MLflow waits


def artifacts_of(database: Path) -> str:
    """URI of the folder ``mlruns`` beside a database, as with MONAI's handler.

    Args:
        database: path of the SQLite file.
    """
    return (database.parent / "mlruns").as_uri()


def make_sound(database: Path) -> None:
    """Make a store that is missing; set one aside that a kill or a full disk has damaged, and make it anew.

    MLflow makes its tables in dozens of steps, and never finishes those of another process. To be called by one
    process at a time.

    Args:
        database: path of the SQLite file, in a folder that exists.

    Raises:
        ConfigError: for the database of another program.
        WriteError: when the file can't be written.
    """
    reason = _damage(database)
    if reason is not None:
        aside = _set_aside(database)
        logger.warning(
            "the MLflow store %s is damaged (%s): it is now %s, and a new one is begun", database, reason, aside
        )
    if not database.exists() or not database.stat().st_size:
        _make(database)


def _damage(database: Path) -> str | None:
    """What is wrong with a store; ``None`` for one that is whole, missing or empty."""
    if not database.exists() or not database.stat().st_size:
        return None
    try:
        # Not read-only: a transaction that was killed is undone by the first who opens the file.
        with contextlib.closing(sqlite3.connect(database, timeout=_SECONDS)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and "experiments" not in tables:
                raise ConfigError(f"{database}: is the database of another program, no MLflow store; name another file")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                return str(found)
            # MLflow ends with an experiment; whatever holds none holds no run that could be lost either.
            rows = [connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in tables & _FILLED]
            return None if any(rows) else "it was never finished"
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in _DAMAGED:
            return str(error)
        raise ConfigError(f"{database}: can't be read ({error})") from error


_FILLED = {"experiments", "runs"}


def _set_aside(database: Path) -> Path:
    free = (database.with_name(f"{database.name}.damaged{n}") for n in ("", *(f"_{n}" for n in range(2, 1000))))
    aside = next(path for path in free if not path.exists())
    # SQLite would take an old journal for one of the new file.
    for ending in ("-journal", "-wal", "-shm", ""):
        part = database.with_name(database.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside


def _make(database: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in database.parent.glob(f".{glob.escape(database.stem)}.*{TEMPORARY_SUFFIX}*"):
        left.unlink(missing_ok=True)  # of a process that was killed here
    with atomic_path(database) as temporary:
        uri = sqlite_uri(temporary)
        SqlAlchemyStore(uri, artifacts_of(database)).engine.dispose()
        forget_misread(uri)


def follow_move(database: Path, experiment: Any) -> None:
    """After a folder of runs was moved or copied, look for its artifacts beside the database again.

    MLflow keeps absolute addresses. Those of the experiment and of its ended runs whose artifacts lie here are
    put right; whatever the user placed elsewhere stays there.

    Args:
        database: path of the SQLite file.
        experiment: MLflow's experiment.
    """
    before, here = str(experiment.artifact_location), artifacts_of(database)
    if before == here or not before.startswith("file:") or not before.endswith("/mlruns"):
        return
    with contextlib.closing(sqlite3.connect(database, timeout=_SECONDS)) as connection, connection:
        of_experiment = (experiment.experiment_id,)
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (here, *of_experiment)
        )
        ended = "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ? AND status != 'RUNNING'"
        for run, uri in connection.execute(ended, of_experiment).fetchall():
            if uri == f"{before}/{run}/artifacts" and (database.parent / "mlruns" / run).is_dir():
                connection.execute(
                    "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (f"{here}/{run}/artifacts", run)
                )
    logger.info("the artifacts of %s were in %s and are now in %s", experiment.name, before, here)
