"""Whose a temporary file is: what a living process writes isn't swept by another one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from pathlib import Path

import psutil

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
# A later process may get the number of this one.
_TOKEN = secrets.token_hex(4)
_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)-([0-9a-f]{8})\.")
_DAY = 86400.0


def owner() -> str:
    """This process in the name of a temporary file or folder: machine, process number, and a random token."""
    return f"{_HOST}-{os.getpid()}-{_TOKEN}"


def is_abandoned(path: Path) -> bool:
    """Whether no living process will go on with a temporary file or folder.

    Nobody knows of the processes of another machine: what they wrote to within a day stays.

    Args:
        path: with an `owner` in its name; one without is abandoned.
    """
    found = _OWNER.search(path.name)
    if found is None:
        return True
    host, number, token = found.groups()
    if host != _HOST:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > _DAY
        return False
    if int(number) == os.getpid():
        return token != _TOKEN
    try:
        # One that was killed may wait long for its parent to notice.
        return psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # another user's
        return False


def hidden_folder(final: Path) -> Path:
    """Make a folder in which this process can prepare ``final``, beside it; remove those that killed processes left.

    Args:
        final: name that the folder will get when it is complete.
    """
    for left in final.parent.glob(f".{glob.escape(final.name)}.*partial"):
        if is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = final.with_name(f".{final.name}.{owner()}.{secrets.token_hex(4)}.partial")
    folder.mkdir(parents=True)
    return folder
