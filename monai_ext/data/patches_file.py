"""Found patches kept in a file, and found again when what they depend on has changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.patches import find_patches
from monai_ext.data.volumes_zarr import fingerprint
from monai_ext.errors import DataError
from monai_ext.io import read_json, write_json

logger = logging.getLogger(__name__)


def cached_patches(
    file: str | Path,
    labels: Sequence[str | Path],
    patch_size: Sequence[int],
    min_bbox_percent: float = 0.95,
    min_labeled_ratio: float = 0.07,
    *,
    cover_tail: bool = False,
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Patches of several volumes as `find_patches` finds them, from ``file`` where it is still true.

    ``file`` holds ``[{"volume_idx": 0, "start_pos": [z, y, x]}, ...]``. What it was made from lies beside it, in
    ``<name>.made_from.json``: arguments, and for each label its place, shape, type, and a digest of the sizes and times
    of all its chunks. Whatever differs, in the file itself too, is logged, and the patches are found anew. Both files
    are written whole or not at all.

    Args:
        file: of the patches; its folder is created.
        labels: paths or URLs; ``volume_idx`` counts them from 0.

    Other arguments and errors: see `find_patches`.
    """
    file = Path(file)
    made_from: dict[str, Any] = {
        "patch_size": np.asarray(patch_size).tolist(),
        "min_bbox_percent": min_bbox_percent,
        "min_labeled_ratio": min_labeled_ratio,
        "cover_tail": cover_tail,
        "labels": [fingerprint(label) for label in labels],
    }
    if file.exists():
        stale = _difference(file, made_from)
        if not stale:
            return read_json(file)
        logger.warning("%s: %s; the patches are found again", file, stale)
    records = [
        {"volume_idx": index, "start_pos": list(start)}
        for index, label in enumerate(labels)
        for start in find_patches(
            label, patch_size, min_bbox_percent, min_labeled_ratio, cover_tail=cover_tail, workers=workers
        )
    ]
    # A kill between the two leaves a digest of other patches: stale, never wrong.
    write_json(file, records)
    write_json(_made_from(file), {**made_from, "patches": _digest(file)})
    return records


def _made_from(file: Path) -> Path:
    return file.with_name(f"{file.stem}.made_from.json")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _difference(file: Path, made_from: dict[str, Any]) -> str | None:
    """What makes ``file`` stale, in words; None when nothing does."""
    try:
        then = read_json(_made_from(file))
    except DataError:
        return f"what it was made from is not known ({_made_from(file).name})"
    if not isinstance(then, dict) or then.get("patches") != _digest(file):
        return "its content is not what was written"
    changed = [name for name, value in made_from.items() if then.get(name) != value]
    return f"{' and '.join(changed)} changed" if changed else None
