"""Errors that don't end a run, or not this way."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger("monai_ext")


@contextlib.contextmanager
def optional(what: str) -> Iterator[None]:
    """Go on with a warning where a hint, a picture or a report can't be made; signals and Ctrl-C pass.

    Args:
        what: name of the part, which begins the warning.
    """
    try:
        yield
    except Exception as error:  # whatever it is, a training of days is worth more
        logger.warning("%s could not be made (%s: %s); the run goes on without", what, type(error).__name__, error)
        logger.debug("%s", what, exc_info=True)


@contextlib.contextmanager
def failed_already() -> Iterator[None]:
    """Leave it at a warning where the end of a failed run can't be written, so that its own error is reported."""
    try:
        yield
    except OSError as error:
        logger.warning("%s", error)
