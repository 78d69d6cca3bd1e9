"""The log file of a run."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from monai_ext.error_report import TRACEBACKS
from monai_ext.system_errors import writing


class LogFile:
    """Adds a file to the root logger; it also gets the tracebacks that the console leaves out.

    Args:
        path: path of the file, which is appended to.

    Raises:
        WriteError: when the file can't be written; later, by the first line that can't.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.handler = _Handler(path, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for logger in (logging.getLogger(), TRACEBACKS):
            logger.addHandler(self.handler)

    def close(self) -> None:
        """Detach and close the file."""
        for logger in (logging.getLogger(), TRACEBACKS):
            logger.removeHandler(self.handler)
        with writing(self.handler.baseFilename):
            self.handler.close()


class _Handler(logging.FileHandler):
    """Ends the run, in its own thread, when the file can't be written; once, since the end is logged, too."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__(path, encoding=encoding)
        self._has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed and threading.current_thread() is threading.main_thread():
            self._has_failed = True
            with writing(self.baseFilename):
                raise error
