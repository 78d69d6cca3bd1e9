"""Patches cached in a file, and found again when their inputs have changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.cached_file import cached
from monai_ext.data.patches import find_patches
from monai_ext.data.volumes_zarr import volume_identity


def cached_patches(
    file: str | Path,
    labels: Sequence[str | Path],
    patch_size: Sequence[int],
    min_bbox_percent: float = 0.95,
    min_labeled_ratio: float = 0.07,
    *,
    cover_tail: bool = False,
    ignore_label: float | None = None,
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Patches of several volumes as `find_patches` finds them, from ``file`` while it is up to date.

    ``file`` holds ``[{"volume_idx": 0, "start_pos": [z, y, x]}, ...]``. Its inputs are recorded beside it, in
    ``<name>.made_from.json``: arguments, and for each label its path, shape, type, and a digest of the sizes and times
    of all its chunks. Any difference, also in the file itself, is logged, and the patches are found again. Both files
    are written whole or not at all.

    Args:
        file: JSON file of the patches; its folder is created.
        labels: paths or URLs; ``volume_idx`` counts them from 0.
        patch_size: see `find_patches`.
        min_bbox_percent: see `find_patches`.
        min_labeled_ratio: see `find_patches`.
        cover_tail: see `find_patches`.
        ignore_label: see `find_patches`.
        workers: see `find_patches`.

    Raises:
        ConfigError: see `find_patches`.
        DataError: see `find_patches`.
    """
    made_from: dict[str, Any] = {
        "patch_size": np.asarray(patch_size).tolist(),
        "min_bbox_percent": min_bbox_percent,
        "min_labeled_ratio": min_labeled_ratio,
        "cover_tail": cover_tail,
        "labels": [volume_identity(label) for label in labels],
        "ignore_label": ignore_label,
    }

    def find() -> list[dict[str, Any]]:
        options: dict[str, Any] = {"cover_tail": cover_tail, "ignore_label": ignore_label, "workers": workers}
        return [
            {"volume_idx": index, "start_pos": list(start)}
            for index, label in enumerate(labels)
            for start in find_patches(label, patch_size, min_bbox_percent, min_labeled_ratio, **options)
        ]

    return cached(Path(file), made_from, find, "the patches are found again")
