"""Decoding everything once, so that a damaged file is left out before a run begins and not met in the middle of it."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_ext.blocks import run_in_order
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError
from monai_ext.io import read_json, write_json
from monai_ext.places import Threads
from monai_ext.workflow import default_workers

logger = logging.getLogger(__name__)

FILE = "decoded.json"
FORMAT = 1  # a new one makes old files be ignored
# Cases between two writings: what a kill may forget.
_BATCH = 200


def undecodable(
    stamps: Mapping[str, Any], decode: Callable[[str], object], memory_dir: str | Path | None
) -> dict[str, Problem]:
    """Decode every case that wasn't decoded before, and return the problem of each that can't be.

    Args:
        stamps: case, such as its path → what changes with the case and the way to decode it, as JSON: sizes, times,
            settings.
        decode: decodes a case, which may take any time, in threads; it raises `DataError` for a damaged one.
        memory_dir: folder of ``decoded.json``, which remembers the good cases (a bad one is tried again, it may have
            been the disk); None remembers nothing.

    Raises:
        WriteError: when the memory can't be written.
    """
    file = Path(memory_dir) / FILE if memory_dir is not None else None
    known = _read(file)
    digests = {name: hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16] for name, of in stamps.items()}
    todo = [name for name, digest in digests.items() if known.get(name) != digest]
    problems: dict[str, Problem] = {}
    for start in range(0, len(todo), _BATCH):
        names = todo[start : start + _BATCH]
        title = f"decoding once ({start + len(names)} of {len(todo)})"
        found = run_in_order(functools.partial(_problem, decode), names, Threads(default_workers()), title)
        problems |= {name: problem for name, problem in zip(names, found, strict=True) if problem is not None}
        if file is not None:
            known |= {name: digests[name] for name in names if name not in problems}
            write_json(file, {"format": FORMAT, "decoded": known})
    return problems


def _problem(decode: Callable[[str], object], name: str) -> Problem | None:
    try:
        decode(name)
    except DataError as error:
        return Problem.of(error, name)
    return None


def _read(file: Path | None) -> dict[str, str]:
    if file is None or not file.is_file():
        return {}
    try:
        content = read_json(file)
        return dict(content["decoded"]) if content["format"] == FORMAT else {}
    except (DataError, KeyError, TypeError, ValueError):
        logger.warning("%s is damaged; everything is decoded again", file)
        return {}
