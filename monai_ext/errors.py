"""Errors that a user can cause: ``ValueError`` with one complete, actionable sentence; and work not done in full."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """Wrong input of any kind; the command line prints its message without a traceback and exits with 2."""


class DataError(UserError):
    """Data that cannot be used: a missing or damaged file, a wrong column, shape or value.

    Args:
        message: what is wrong and what to do.
        path: the file or folder of the case; put in front of the message when given.
        code: the kind of the finding where a check lists it, one of `monai_ext.data.problems.KINDS`.
    """

    def __init__(self, message: str, path: str | Path | None = None, code: str = "unusable") -> None:
        super().__init__(f"{path}: {message}" if path is not None else message)
        self.path = Path(path) if path is not None else None
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        # The default rebuilds from ``args`` and would lose the path on the way back from a worker process.
        return _rebuild_data_error, (str(self), self.path, self.code)


def _rebuild_data_error(message: str, path: Path | None, code: str) -> DataError:
    error = DataError(message, code=code)
    error.path = path
    return error


class WriteError(OSError, UserError):
    """A file that could not be written: a full disk, a read-only folder, a quota. Nothing has its final name."""


class WeightsError(UserError):
    """A checkpoint that does not fit: another architecture, other settings, or not a checkpoint at all."""


class ConfigError(UserError):
    """A configuration or an override that matches nothing, or names something that does not exist."""


class RunLockedError(UserError):
    """Another living process writes to this run folder."""


class IncompleteError(RuntimeError):
    """Work that was done as far as possible: some of the input was refused or damaged, and reported.

    The command line prints its message and exits with 1, as for a failed check.
    """
