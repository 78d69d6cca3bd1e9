"""Command-line tasks of my_bundle; imported at every start, so that heavy modules are imported late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BUNDLE = "my_bundle"


def demo_data(output: Path, seed: int = 0, size: str = "small") -> Path:
    """See `my_bundle.data.make_demo`."""
    from my_bundle.data import make_demo

    return make_demo(output, seed, size)


def check(dataset_dir: Path, workers: int | None = None) -> list[Any]:
    """See `my_bundle.data.check`."""
    from my_bundle.data import check

    return check(dataset_dir, workers)
