"""Command-line tasks of spine MRI: demo data, dataset check, training of the cascade and its demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_ext.places import Place
from monai_ext.spine.commands import demo_cascade, extract_slices, train_cascade
from monai_ext.task import Command

BUNDLE = "spinal_cord_cascade"
COMMANDS = {
    "train-cascade": Command(train_cascade, overrides=True),
    "extract-slices": Command(extract_slices),
}
demo = demo_cascade


def demo_data(output: Path, seed: int = 0, size: str = "small") -> Path:
    """See `monai_ext.spine.demo.make_demo`."""
    from monai_ext.spine.demo import make_demo

    return make_demo(output, seed=seed, size=size)


def trainings(dataset_dir: Path) -> dict[str, str | None]:
    """See `monai_ext.spine.checking.trainings`."""
    from monai_ext.spine.checking import trainings

    return trainings(dataset_dir)


def check(dataset_dir: Path, workers: int | Place | None = None) -> list[Any]:
    """See `monai_ext.spine.checking.check`."""
    from monai_ext.spine.checking import check

    return check(dataset_dir, workers=workers)
