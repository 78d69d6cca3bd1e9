"""pydicom's warnings about files: each kind once, without values, which may name the patient."""

from __future__ import annotations

import logging
import re
import warnings


class _EachKindOnce(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = re.split(r"[:'\"(\d]", record.getMessage())[0].strip()
        record.msg, record.args = f"DICOM: {kind} (said once, whatever the number of files)", ()
        is_new = kind not in self.said
        self.said.add(kind)
        return is_new


EACH_KIND_ONCE = _EachKindOnce()


def quieten() -> None:
    """Keep pydicom from warning of every file, for the rest of the process; it logs what it warns of, once."""
    logging.getLogger("pydicom").addFilter(EACH_KIND_ONCE)
    warnings.filterwarnings("ignore", module=r"pydicom\b")
