"""Command-line tasks of the nuclei: demo data and the dataset check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.places import Place

BUNDLE = "nuclei_vgg3d"


def demo_data(output: Path, seed: int = 0, size: str = "small") -> Path:
    """See `monai_ext.nuclei.demo.make_demo`."""
    from monai_ext.nuclei.demo import make_demo

    return make_demo(output, seed=seed, size=size)


def check(dataset_dir: Path, workers: int | Place | None = None, class_csv: str | None = None) -> list[Any]:
    """See `monai_ext.nuclei.checking.check`."""
    from monai_ext.nuclei.checking import check

    return check(dataset_dir, workers=workers, class_csv=class_csv)
