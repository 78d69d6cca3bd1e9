"""The folder of one training run: its name, lock, record and files."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import logging
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from monai_ext.errors import ConfigError, DataError, RunLockedError, WriteError
from monai_ext.io import finite, read_json, sweep_partial, write_json
from monai_ext.owners import hidden_folder
from monai_ext.system_errors import writing

logger = logging.getLogger(__name__)

RUNNING, FINISHED, FAILED, KILLED = "running", "finished", "failed", "killed"
RECORD = "run.json"
# Room on the disk for the last words of a run that fills it: given back before they are written.
_RESERVE, _RESERVED_BYTES = ".reserve", 1 << 18

# POSIX locks don't exclude within one process, so that is kept here.
_held: set[Path] = set()


class RunFolder:
    """``<output_dir>/fold_<k>/run_YYYYMMDD_HHMMSS``, made when training starts and locked while it is written.

    Args:
        output_dir: folder of all runs of a bundle.
        fold: cross-validation fold, from 1.
        resume: ``None`` for a new run, ``"auto"`` for the newest unfinished run of this fold (a new one when
            there is none), or the path of a run folder.

    Raises:
        ConfigError: for a ``resume`` path that isn't a run folder.
    """

    def __init__(self, output_dir: str | Path, fold: int = 1, resume: str | None = None) -> None:
        self.parent = Path(output_dir).absolute() / f"fold_{fold}"
        self.fold = fold
        self.resume = None if resume in (None, "", False) else str(resume)
        if self.resume not in (None, "auto") and not record_of(str(self.resume)):
            raise ConfigError(
                f"--resume {self.resume}: no run folder (it has no run.json that can be read); give 'auto' or the path "
                "of one"
            )
        self.path: Path | None = None
        self.record: dict[str, Any] = {}
        self.resumed = False
        self._lock: IO[str] | None = None

    def __truediv__(self, name: str) -> Path:
        if self.path is None:
            raise RuntimeError("the run folder is not open yet")
        return self.path / name

    @property
    def name(self) -> str:
        """``fold_<k>/run_...``: unique below the output folder."""
        return f"{self.parent.name}/{(self / '').name}"

    def open(self) -> Path:
        """Make or find the folder, take its lock, remove the unfinished files of a killed run.

        Raises:
            RunLockedError: when another living process writes to it.
            ConfigError: when no new run folder can be made.
            WriteError: when the folder can't be written or locked: a full disk, rights, a file system without locks.
        """
        with writing(self.parent):
            self.parent.mkdir(parents=True, exist_ok=True)
        existing = self.to_resume()
        if existing is None and self.resume is not None:
            logger.info("--resume auto: no unfinished run in %s, starting a new one", self.parent)
        if existing is not None:
            self._take_lock(existing)
            self.record = read_json(existing / RECORD)
            self.resumed = True
            swept = sweep_partial(existing)
            if swept:
                logger.info("removed %d unfinished files of the killed run", len(swept))
            self.update(status=RUNNING, ended=None)
            self._reserve()
        else:
            self._begin()
        return self / ""

    def attach(self, path: str | Path) -> None:
        """Use a folder that the main process has opened (the other ranks of a multi-process run).

        Args:
            path: path of the folder.
        """
        self.path = Path(path)

    def update(self, **entries: Any) -> None:
        """Merge entries into ``run.json``.

        Args:
            entries: plain values by key; ``None`` where a value is unknown.
        """
        self.record.update(entries)
        write_json(self / RECORD, finite(self.record))

    def close(self, status: str, **entries: Any) -> None:
        """Write the end state, on a full disk too, and release the lock.

        Args:
            status: end state in ``run.json``: ``"finished"``, ``"failed"`` or ``"killed"``.
            entries: further ones, as in `update`.

        Raises:
            WriteError: when it can't be written; the next start finds that nobody holds the lock.
        """
        if self._lock is None:
            return
        try:
            with writing(self / _RESERVE):
                (self / _RESERVE).unlink(missing_ok=True)
            self.update(**entries, status=status, ended=now())
        finally:
            self._release()

    def end_for_main(self, event: str) -> None:
        """Write "failed" into the record of a run whose main process, which would write it, was killed.

        Called by another process of the same training; where the main one lives, nothing is written.

        Args:
            event: what happened, for the record.
        """
        record = record_of(self / "")
        if record.get("status") == RUNNING and not being_written(self / ""):
            events = [*record.get("events", []), event]
            write_json(self / RECORD, {**record, "status": FAILED, "ended": now(), "events": events})

    def unfinished(self) -> list[Path]:
        """Runs of this fold that have not finished, newest first, whoever may be writing to them.

        Folders whose record can't be read are left out, with a warning.
        """
        return [run for run in _runs(self.parent) if _status(run) not in (None, FINISHED)]

    def crashed(self) -> list[Path]:
        """Other runs of this fold recorded as running although no process holds their lock: they were killed."""
        others = (run for run in self.unfinished() if run != self.path and run not in _held)
        return [run for run in others if _status(run) == RUNNING and _is_left(run)]

    def to_resume(self) -> Path | None:
        """The run that `open` would go on in; ``None`` for a new one."""
        if self.resume is None:
            return None
        if self.resume != "auto":
            return Path(self.resume).absolute()
        return next(iter(self.unfinished()), None)

    def _begin(self) -> None:
        """Make a new folder, which others see when it is locked and has its record, never before."""
        with writing(self.parent):
            hidden = hidden_folder(self.parent / "run")
        try:
            self._take_lock(hidden)
            self.update(status=RUNNING, started=now(), ended=None)
            self._reserve()
            self._show(hidden)
        except BaseException:
            self._release()
            self.path, self.record = None, {}
            shutil.rmtree(hidden, ignore_errors=True)
            raise

    def _show(self, hidden: Path) -> None:
        stamp = datetime.datetime.now().strftime("run_%Y%m%d_%H%M%S")
        for suffix in ["", *(f"_{number}" for number in range(2, 1000))]:
            folder = self.parent / f"{stamp}{suffix}"
            try:
                hidden.rename(folder)
            except OSError as error:
                if folder.exists():
                    continue
                raise ConfigError(f"{folder}: could not make a new run folder ({error.strerror})") from error
            _held.discard(hidden)
            _held.add(folder)
            self.path = folder
            return
        raise ConfigError(f"{self.parent}: could not make a new run folder")

    def _take_lock(self, folder: Path) -> None:
        if folder in _held:
            raise RunLockedError(f"{folder}: this process already writes to it")
        # A record lock ends with its process, however that dies, and isn't inherited by data workers. The file stays
        # open, and is never opened twice here: closing any handle of it would release the lock.
        with writing(folder / ".lock"):
            lock = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                lock.close()
                raise RunLockedError(
                    f"{folder}: {holder} is writing to it; wait for its end, or start a new run without --resume"
                ) from None
            _held.add(folder)
            self._lock, self.path = lock, folder
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()

    def _reserve(self) -> None:
        with writing(self / _RESERVE):
            # Not zeros, which some file systems keep as nothing.
            (self / _RESERVE).write_bytes(os.urandom(_RESERVED_BYTES))

    def _release(self) -> None:
        if self._lock is not None:
            _held.discard(self / "")
            with contextlib.suppress(OSError):  # what was to be written to it may not fit the disk
                self._lock.close()
            self._lock = None


def _runs(parent: Path) -> list[Path]:
    def age(run: Path) -> tuple[str, int]:
        stamp, _, suffix = run.name.removeprefix("run_").partition("_")
        time, _, number = suffix.partition("_")
        return stamp + time, int(number) if number.isdigit() else 1

    return sorted((run for run in parent.glob("run_*") if run.is_dir()), key=age, reverse=True)


def record_of(run: str | Path) -> dict[str, Any]:
    """The ``run.json`` of a run; empty, with one warning, where a killed or full machine has left none that holds, or
    another program one of its own.

    Args:
        run: path of the run folder.
    """
    file = Path(run) / RECORD
    try:
        record = read_json(file)
    except (DataError, OSError) as error:
        _warn_of_damage(Path(run), str(error))
        return {}
    if isinstance(record, dict) and record.get("status") in (RUNNING, FINISHED, FAILED, KILLED):
        return record
    _warn_of_damage(Path(run), f"{file}: holds no record of a run")
    return {}


@functools.cache
def _warn_of_damage(run: Path, reason: str) -> None:
    """Once for each folder: it is looked at several times."""
    logger.warning("%s is ignored, as its record can't be read (%s)", run, reason)


def _status(run: Path) -> str | None:
    """State of a run; ``None`` where its record can't be read."""
    record = record_of(run)
    return str(record["status"]) if record else None


def being_written(run: Path) -> bool:
    """Whether a living process holds the lock of a run folder.

    Raises:
        WriteError: when that can't be known: the lock is another user's, or the file system has none.
    """
    if not (run / ".lock").exists():
        return False
    with writing(run / ".lock"), open(run / ".lock", "a", encoding="utf-8") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_left(run: Path) -> bool:
    """Whether nobody writes to a run, as far as that can be known."""
    try:
        return not being_written(run)
    except WriteError:
        return False


def finished_runs(output_dir: str | Path, fold: int) -> list[Path]:
    """Finished runs of a fold, newest first."""
    return [run for run in _runs(Path(output_dir).absolute() / f"fold_{fold}") if _status(run) == FINISHED]


def now() -> str:
    """Local time with its zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    ours = ("monai-ext", "monai", "torch", "pytorch-ignite")
    names = (*ours, "numpy", "nibabel", "itk-filtering", "scikit-learn", "mlflow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Commit of the code that runs, marked ``+changes`` when the work tree differs; ``None`` outside a repository."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
