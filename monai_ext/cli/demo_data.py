"""``demo-data``: small, learnable synthetic data in the file layout of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ext.task import find_task


def demo_data(
    bundle: Annotated[str, typer.Argument(help="Bundle that the data are for, such as one of bundles/.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write; usable as --dataset_dir.")],
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option("--size", help="small, or full for real image sizes.")] = "small",
) -> None:
    """Write synthetic data to try a bundle with; never patient data, never for conclusions."""
    typer.echo(str(find_task(bundle, "demo-data").demo_data(output, seed=seed, size=size)))
