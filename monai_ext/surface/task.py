"""Command-line tasks of surfaces in Zarr volumes: demo data, dataset check, patch search and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.places import Place
from monai_ext.surface.commands import find_patches, predict_zarr
from monai_ext.task import Command

BUNDLE = "surface_unet"
COMMANDS = {"find-patches": Command(find_patches, overrides=True), "predict-zarr": Command(predict_zarr, words=True)}


def demo_data(output: Path, seed: int = 0, size: str = "small") -> Path:
    """See `monai_ext.surface.demo.make_demo`."""
    from monai_ext.surface.demo import make_demo

    return make_demo(output, seed=seed, size=size)


def check(
    dataset_dir: Path,
    workers: int | Place | None = None,
    level: int = 0,
    channel: int | None = None,
    timepoint: int | None = None,
    ignore_label: float | None = None,
) -> list[Any]:
    """See `monai_ext.surface.checking.check`."""
    from monai_ext.surface.checking import check

    return check(dataset_dir, workers, level, channel, timepoint, ignore_label)
