"""The log file of a run."""

from __future__ import annotations

import logging
from pathlib import Path

from monai_ext.error_report import TRACEBACKS


class LogFile:
    """Adds a file to the root logger; it also gets the tracebacks that the console leaves out.

    Args:
        path: path of the file, which is appended to.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.handler = logging.FileHandler(path, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for logger in (logging.getLogger(), TRACEBACKS):
            logger.addHandler(self.handler)

    def close(self) -> None:
        """Detach and close the file."""
        for logger in (logging.getLogger(), TRACEBACKS):
            logger.removeHandler(self.handler)
        self.handler.close()
