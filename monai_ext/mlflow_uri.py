"""The SQLite file that MLflow's URI of a store means."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def database_of(tracking_uri: str) -> Path | None:
    """Path of an SQLite store, as the one who opens it understands the URI; ``None`` for a server.

    Args:
        tracking_uri: MLflow's URI.
    """
    if not tracking_uri.startswith("sqlite:///"):
        return None
    from sqlalchemy.engine import make_url

    return Path(make_url(tracking_uri).database or "").absolute()


def forget_misread(tracking_uri: str) -> None:
    """Remove the empty folder that MLflow makes where a URI's ``%`` codes are the name of a path.

    Args:
        tracking_uri: of a store that MLflow has opened.
    """
    database = database_of(tracking_uri)
    misread = Path(tracking_uri.removeprefix("sqlite:///")).absolute().parent
    if database is not None and misread != database.parent:
        with contextlib.suppress(OSError):
            os.removedirs(misread)
