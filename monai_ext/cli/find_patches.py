"""``find-patches``: where a label volume has enough labels to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def find_patches(
    label: Annotated[str, typer.Option("--label", help="Path or URL of a Zarr array or OME-Zarr image (Z, Y, X).")],
    patch_size: Annotated[tuple[int, int, int], typer.Option("--patch_size", help="Voxels along Z, Y, X.")],
    output: Annotated[Path, typer.Option("--output", help="JSON file to write; kept as it is where still true.")],
    min_bbox_percent: Annotated[
        float,
        typer.Option("--min_bbox_percent", help="Fraction of a patch that the bounding box of its labels must fill."),
    ] = 0.95,
    min_labeled_ratio: Annotated[
        float, typer.Option("--min_labeled_ratio", help="Fraction of a patch's voxels that must be labelled.")
    ] = 0.07,
    cover_tail: Annotated[
        bool, typer.Option("--cover_tail", help="Also take patches that end where the labels end.")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default one a CPU, at most 8.")] = None,
) -> None:
    """Find the patches with enough labels, in steps of half a patch, however large the volume is."""
    from monai_ext.data import cached_patches

    records = cached_patches(
        output, [label], patch_size, min_bbox_percent, min_labeled_ratio, cover_tail=cover_tail, workers=workers
    )
    typer.echo(f"{len(records)} patches")
    typer.echo(str(output))
