"""Training patches of the sets, each with a case name and a stamp of its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.cached_file import made_from_file
from monai_ext.data.patches_file import cached_patches
from monai_ext.errors import DataError
from monai_ext.io import read_json


def patches(
    sets: Sequence[Mapping[str, str]],
    patch_size: Sequence[int],
    file: str | Path,
    min_bbox_percent: float = 0.95,
    min_labeled_ratio: float = 0.07,
    cover_tail: bool = False,
    ignore_label: float | None = None,
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Patches with enough of the sets' reference labels.

    Args:
        sets: see `volume_sets`; only ``ref_label`` is read.
        patch_size: voxels along Z, Y, X.
        file: JSON with the patches, used while labels and settings are unchanged, else written (see `cached_patches`).
        min_bbox_percent: fraction (0 to 1) of a patch that the bounding box of its labels must fill.
        min_labeled_ratio: fraction (0 to 1) of a patch's voxels that must be labelled.
        cover_tail: also take patches that end where the labels end.
        ignore_label: value of a reference label that is no label; None for none.
        workers: threads; default one per CPU, at most 8.

    Returns:
        ``{"case": "volume 0 at 128 0 64", "volume_idx": 0, "start_pos": [128, 0, 64], "stamp": ...}`` per patch;
        ``volume_idx`` counts the sets from 0, ``stamp`` is a hash of the reference label's stored chunks.

    Raises:
        ConfigError: for a setting out of range, see `find_patches`.
        DataError: when no patch has enough labels, or a label can't be read.
        WriteError: when ``file`` can't be written.
    """
    labels = [entry["ref_label"] for entry in sets]
    options: dict[str, Any] = {"cover_tail": cover_tail, "ignore_label": ignore_label, "workers": workers}
    found = cached_patches(file, labels, patch_size, min_bbox_percent, min_labeled_ratio, **options)
    if not found:
        raise DataError(
            f"no patch of {tuple(patch_size)} voxels has enough labels; lower min_bbox_percent ({min_bbox_percent:g}) "
            f"or min_labeled_ratio ({min_labeled_ratio:g}), or take a smaller patch",
            labels[0] if len(labels) == 1 else None,
        )
    stamps = [label["chunks"][:16] for label in read_json(made_from_file(file))["labels"]]
    return [{"case": case_name(record), **record, "stamp": stamps[record["volume_idx"]]} for record in found]


def case_name(record: Mapping[str, Any]) -> str:
    """``volume 0 at 128 0 64``: unique among the patches of a run."""
    return f"volume {record['volume_idx']} at {' '.join(map(str, record['start_pos']))}"
