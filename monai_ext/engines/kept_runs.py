"""Runs that needn't be trained again, because recipe and data are the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from monai_ext.runs import record_of

logger = logging.getLogger(__name__)


def newest_same(candidates: Sequence[Path], recipe: str, data_hash: str) -> Path | None:
    """The first of some runs that was made with this recipe and these data; unreadable ones are passed over.

    Runs of earlier versions hold no recipe: whether they had the same isn't known, so they don't count. That there
    are runs, but none of them, is logged.

    Args:
        candidates: run folders.
        recipe: see `monai_ext.settings.recipe_key`.
        data_hash: see `monai_ext.handlers.data_summary.dataset_hash`.
    """
    for candidate in candidates:
        record = record_of(candidate)
        if record.get("recipe") == recipe and record.get("data", {}).get("fingerprint") == data_hash:
            return candidate
    if candidates:
        logger.warning(
            "%s stays as it is: its settings or data differ, or a version made it that didn't record them",
            candidates[0],
        )
    return None
