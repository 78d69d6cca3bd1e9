"""Command-line tasks of CT-RATE: demo data, dataset check and extraction of slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.ct_rate.commands import extract_slices
from monai_ext.places import Place
from monai_ext.task import Command

BUNDLE = "ct_rate_multilabel"
COMMANDS = {"extract-slices": Command(extract_slices)}


def demo_data(output: Path, seed: int = 0, size: str = "small") -> Path:
    """See `monai_ext.ct_rate.demo.make_demo`."""
    from monai_ext.ct_rate.demo import make_demo

    return make_demo(output, seed=seed, size=size)


def check(
    dataset_dir: Path,
    workers: int | Place | None = None,
    train_dir: Path | None = None,
    valid_dir: Path | None = None,
    train_labels: Path | None = None,
    valid_labels: Path | None = None,
    train_metadata: Path | None = None,
    valid_metadata: Path | None = None,
    metadata: str = "required",
    on_bad_volume: str = "error",
    slices_dir: Path | None = None,
) -> list[Any]:
    """See `monai_ext.ct_rate.checking.check`."""
    from monai_ext.ct_rate.checking import check

    return check(
        dataset_dir,
        workers,
        metadata,
        on_bad_volume,
        slices_dir,
        train_dir=train_dir,
        valid_dir=valid_dir,
        train_labels=train_labels,
        valid_labels=valid_labels,
        train_metadata=train_metadata,
        valid_metadata=valid_metadata,
    )
