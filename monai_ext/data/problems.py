"""Findings of a check: each with a stable code, so that other programs can tell them apart."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from pathlib import Path

from monai_ext.errors import UserError

logger = logging.getLogger("monai_ext")

# Code → the step that mends it, where a finding doesn't say a better one. `docs/checking.md` explains each.
KINDS = {
    "unreadable": "copy or download the file again, or repair it as the message says",
    "unusable": "repair what the message says, or remove the case",
    "not-used": "nothing, if it is not meant for this job; else rename it as the message says",
    "copies": "keep one of the files, the one you trust",
    "patients": "nothing, if that is right; else name the patient of each case in a column 'patient'",
    "joined": "nothing, if it is right; else give each series a folder and a SeriesInstanceUID of its own",
    "same-file": "nothing, if they are meant to be one; else remove the link, and copy the file that belongs there",
    "labels": "correct the table, or the folder the case lies in",
    "few-cases": "add cases of that class, or choose fewer folds",
    "not-finite": "export the image again; NaN or infinity often come from a division in an earlier step",
    "hounsfield": "correct slope and intercept in the metadata table or the file's header, or export the volume again",
    "no-lungs": "look at the volume; if it shows no chest, remove it or list it in CT-RATE's no_chest_train.txt",
    "geometry": "repair the file's header, or convert it from the original again",
    "format": "convert the file to a format that the message names",
    "too-large": "copy or download the file again; if it is whole, correct the shape in its header",
    "gap": "copy the missing slices, or nothing, if the stack was made without them",
    "mask-values": "write the mask with 0 outside and one other value inside",
    "mask-format": "write the mask again as greyscale PNG or TIFF without loss",
    "blank": "remove the case, or export its image again",
    "not-prepared": "repair what the message says, or remove the case",
    "not-looked-at": "repair what the message says, or give the check the settings of your training",
    "constant-input": "look at the file and the settings of the preparation, or remove the case",
    "narrow-input": "scale by what the images hold instead of by what their type can hold",
    "saturated-input": "widen the range of intensities that the preparation keeps",
    "mostly-padding": "take smaller crops or a smaller input, or remove the case",
    "uneven-inputs": "give all inputs one size, by the preparation or the files",
    "same-input": "remove all but one of them",
    "copies-across-sets": "remove all but one of them, or name them as one patient",
    "near-copies": "compare them; remove one, or name them as one patient",
    "near-copies-across-sets": "compare them; remove one, or name them as one patient",
    "empty-mask": "check that the masks belong to the images and hold the label as any value but 0",
    "shortcut": "balance the classes over this property, or make it the same for all cases",
}


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file or folder.

    Args:
        path: path of the file or folder, or the name of the case.
        message: what is wrong, in one sentence.
        severity: "error" (a run would fail, or learn from wrong data), "warning", or "note" (nothing to be done, but
            nothing is left out without a word).
        code: one of `KINDS`.
        files: other files that the finding is about, such as the second of two copies.
        step: what mends it; by default that of the code.
    """

    path: str
    message: str
    severity: str = "error"
    code: str = "unusable"
    files: tuple[str, ...] = ()
    step: str = field(default="")

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            raise ValueError(f"Problem: code must be one of {sorted(KINDS)}, got {self.code!r}")
        if self.severity not in ("error", "warning", "note"):
            raise ValueError(f"Problem: severity must be 'error', 'warning' or 'note', got {self.severity!r}")
        object.__setattr__(self, "step", self.step or KINDS[self.code])

    @classmethod
    def of(cls, error: UserError, path: str | Path = "", severity: str = "error", code: str | None = None) -> Problem:
        """Make a problem from an error.

        Args:
            error: its message becomes the problem's, without the path in front; its code too (see `DataError`).
            path: path of the case, for an error that has no path of its own.
            severity: see the class.
            code: in place of the error's.
        """
        where = str(getattr(error, "path", None) or path)
        found = code or getattr(error, "code", None) or "unusable"
        return cls(where, str(error).removeprefix(f"{where}: "), severity, found)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@functools.cache
def warn_once(path: str, message: str) -> None:
    """Log what a run goes on with, once per process.

    Args:
        path: file or folder it is about.
        message: one sentence.
    """
    logger.warning("%s: %s", path, message)


def count(problems: list[Problem]) -> str:
    """Numbers for the last line: "2 errors, 1 warnings", with the notes where there are any."""
    found = {word: sum(problem.severity == word for problem in problems) for word in ("error", "warning", "note")}
    notes = f", {found['note']} notes" if found["note"] else ""
    return f"{found['error']} errors, {found['warning']} warnings{notes}"
