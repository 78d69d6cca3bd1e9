"""Entries for MLflow: sent while its server answers, kept in the run's folder while it doesn't."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from monai_ext.error_report import chain
from monai_ext.errors import DataError
from monai_ext.io import write_text
from monai_ext.mlflow_entries import SEND

logger = logging.getLogger(__name__)

FILE = "mlflow_waiting.jsonl"
# Seconds until a server that didn't answer is tried again. One that hangs costs a time-out each time, so seldom.
PAUSE = 600.0
# Seconds after which a training goes on although entries still wait: a slow server may have missed many.
CATCHING_UP = 10.0


def short_waits() -> None:
    """Let MLflow wait for seconds instead of minutes; variables that the user has set are kept.

    MLflow's own defaults are 120 s for each of 8 attempts.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def no_answer(error: BaseException) -> bool:
    """Whether an error means that a next request would wait as long: the server could not be reached, or another
    process has locked the SQLite file."""
    import requests

    kinds = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    return any(isinstance(link, kinds) or _is_locked(link) for link in chain(error))


def _is_locked(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def mlflow_reason(error: BaseException) -> str:
    """The first line of an error of MLflow; of a server that doesn't answer, that of the cause."""
    cause = list(chain(error))[-1] if no_answer(error) else error
    return next(iter(str(cause).splitlines()), "") or type(cause).__name__


class Outbox:
    """Sends a run's entries to MLflow at once, or keeps those that it did not take for the next contact.

    No error of MLflow is raised. After a request without an answer there are none for ten minutes. What MLflow refuses
    doesn't hold up the rest.

    Args:
        client: `mlflow.MlflowClient` of the store.
        tracking_uri: the store's URI, which is kept with the entries.
        folder: folder of the run, in which ``mlflow_waiting.jsonl`` keeps entries; ``None``: they are kept until the
            process ends.
    """

    def __init__(self, client: Any, tracking_uri: str, folder: str | Path | None = None) -> None:
        self.client = client
        self.tracking_uri = tracking_uri
        self.folder = Path(folder).absolute() if folder is not None else None
        self.waiting = read_waiting(self.folder) if self.folder is not None else []
        self.away = False
        self.reason = ""
        # Runs that began without the server: name in the entries -> MLflow's id, once it is known.
        self.ids: dict[str, str] = {}
        self._next_attempt = 0.0

    def put(self, kind: str, run_id: str, **arguments: Any) -> None:
        """Send an entry (with what waits, if its time has come), or keep it.

        Args:
            kind: one of `monai_ext.mlflow_entries.SEND`.
            run_id: MLflow's id of the run, or a name that an entry of the kind ``begin`` has given it.
            arguments: those of that kind, plain values.
        """
        if self.waiting and kind != "end" and time.monotonic() >= self._next_attempt:
            self.send_waiting(CATCHING_UP)
        entry = {"tracking_uri": self.tracking_uri, "run_id": run_id, "kind": kind, **arguments}
        if self.away or not self._sent(entry):
            self._keep(entry)

    def send_waiting(self, seconds: float = float("inf")) -> int:
        """Send the entries that wait for this store, in their order; returns the number of those sent.

        Args:
            seconds: time after which no further one is begun.
        """
        before, self.away = self.waiting, False
        end = time.monotonic() + seconds
        self.waiting = [
            entry
            for entry in before
            if entry["tracking_uri"] != self.tracking_uri
            or self.away
            or time.monotonic() > end
            or not self._sent(entry)
        ]
        self._next_attempt = time.monotonic() + PAUSE
        sent = len(before) - len(self.waiting)
        if sent:
            self._rewrite()
            logger.info("MLflow has taken %d entries that waited", sent)
        return sent

    def holds(self, kind: str, run_id: str) -> bool:
        """Whether an entry of a kind waits for a run."""
        return any((entry["kind"], entry["run_id"]) == (kind, run_id) for entry in self.waiting)

    def forget(self, kind: str, run_id: str) -> None:
        """Drop the entries of a kind, such as the end of a run that goes on."""
        self.waiting = [entry for entry in self.waiting if (entry["kind"], entry["run_id"]) != (kind, run_id)]
        self._rewrite()

    def say_what_waits(self) -> None:
        """Warn of entries that MLflow has not taken, and say how to send them."""
        if self.waiting and self.folder is not None:
            command = f'python -m monai_ext sync "{self.folder}"'
            logger.warning("MLflow has not taken %d entries yet; send them by: %s", len(self.waiting), command)
        elif self.waiting:
            logger.warning("MLflow has not taken %d entries, which are lost", len(self.waiting))

    def _sent(self, entry: dict[str, Any]) -> bool:
        arguments = {key: value for key, value in entry.items() if key not in ("tracking_uri", "kind")}
        arguments["run_id"] = self.ids.get(entry["run_id"], entry["run_id"])
        if "path" in arguments:
            arguments["path"] = Path(self.folder or "/", arguments["path"])
        try:
            answer = SEND[entry["kind"]](self.client, **arguments)
        except Exception as error:
            self.reason = mlflow_reason(error)
            if no_answer(error):
                self.away, self._next_attempt = True, time.monotonic() + PAUSE
                kept = f"in {self.folder / FILE}" if self.folder is not None else "until the end"
                logger.warning("MLflow does not answer (%s): its entries are kept %s", self.reason, kept)
            else:
                logger.warning("MLflow did not take an entry: %s", self.reason)
            return False
        if entry["kind"] == "begin":
            self.ids[entry["run_id"]] = str(answer)
        return True

    def _keep(self, entry: dict[str, Any]) -> None:
        if self.folder is not None and "path" in entry:
            entry["path"] = os.path.relpath(entry["path"], self.folder)  # the folder may be moved
            if _outside(entry):
                logger.warning("%s is outside the run and not kept for MLflow", entry["path"])
                return
        self.waiting.append(entry)
        if self.folder is None:
            return
        try:
            with open(self.folder / FILE, "a", encoding="utf-8") as file:
                file.write(_line(entry))
        except OSError as error:
            logger.warning("%s: could not be written (%s)", self.folder / FILE, error.strerror)

    def _rewrite(self) -> None:
        if self.folder is None:
            return
        for entry in self.waiting:
            entry["run_id"] = self.ids.get(entry["run_id"], entry["run_id"])
        if self.waiting:
            write_text(self.folder / FILE, "".join(map(_line, self.waiting)))
        else:
            (self.folder / FILE).unlink(missing_ok=True)


def read_waiting(folder: Path) -> list[dict[str, Any]]:
    """The entries that wait in the folder of a run; a damaged line is left out with a warning.

    Args:
        folder: folder of the run.

    Raises:
        DataError: for a file outside the folder: a run folder from elsewhere can't have other files sent.
    """
    path = folder / FILE
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], 1):
        try:
            entry = json.loads(line)
            texts = (entry["tracking_uri"], entry["run_id"], entry.get("path", "."))
            known = entry["kind"] in SEND and all(text and isinstance(text, str) for text in texts)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = False
        if not known:
            logger.warning("%s: line %d is damaged and left out", path, number)
        elif _outside(entry):
            raise DataError(f"line {number} names a file outside the run ({entry['path']}); remove the line", path)
        else:
            entries.append(entry)
    return entries


def _outside(entry: dict[str, Any]) -> bool:
    return os.path.normpath(entry.get("path", "")).startswith(("..", "/"))


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"
