"""What the programs write on a terminal, or where their output goes instead."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TextIO

_COLOURS = {logging.WARNING: "\033[33m", logging.ERROR: "\033[31m", logging.CRITICAL: "\033[31m"}
_PLAIN = "\033[0m"


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """Log lines that progress bars make way for; each warning once; warnings and errors in colour on a terminal.

    ``NO_COLOR=1`` switches the colour off (https://no-color.org).

    Args:
        stream: standard output or standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._warned: set[tuple[str, str]] = set()
        self._colours = _COLOURS if self.stream.isatty() and not os.environ.get("NO_COLOR") else {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        if record.levelno == logging.WARNING:
            said = (record.name, record.getMessage())
            if said in self._warned:
                return
            self._warned.add(said)
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line, in the colour of its level."""
        line = super().format(record)
        colour = self._colours.get(record.levelno)
        return f"{colour}{line}{_PLAIN}" if colour else line


def tidy_console() -> None:
    """Put a `ConsoleHandler` in the place of each plain one of the root logger, and silence what tells a user nothing.

    A bundle's ``logging.conf`` can't name the handler: MONAI takes only those of Python's own there.
    """
    # Every LoadImage of MONAI makes all its readers, one of which warns of a package that DICOM could be faster with.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")
    root = logging.getLogger()
    for plain in root.handlers[:]:
        if type(plain) is logging.StreamHandler and plain.stream in (sys.stdout, sys.stderr):
            tidy = ConsoleHandler(plain.stream)
            tidy.setLevel(plain.level)
            tidy.setFormatter(plain.formatter)
            root.removeHandler(plain)
            root.addHandler(tidy)
