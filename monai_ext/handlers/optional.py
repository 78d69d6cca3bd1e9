"""Parts of a run's output that a training doesn't depend on."""

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
