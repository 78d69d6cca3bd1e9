"""Command-line tasks of BraTS: demo data and the dataset check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.places import Place

BUNDLE = "brats_resnet50"


def demo_data(output: Path, seed: int = 0, size: str = "small") -> Path:
    """See `monai_ext.brats.demo.make_demo`."""
    from monai_ext.brats.demo import make_demo

    return make_demo(output, seed=seed, size=size)


def check(dataset_dir: Path, workers: int | Place | None = None, modality: str = "all") -> list[Any]:
    """See `monai_ext.brats.check`."""
    from monai_ext.brats import check

    return check(dataset_dir, workers=workers, modality=modality)
