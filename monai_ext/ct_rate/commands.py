"""``extract-slices``: the slices of CT-RATE's volumes as small files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ext.chosen_workers import DASK, chosen_workers


def extract_slices(
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="CT-RATE's folder.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write; give it to training as --slices_dir.")],
    num_slices: Annotated[int, typer.Option("--num_slices", min=1, help="Slices per volume.")] = 12,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; default one per CPU, at most 8.")] = None,
    dask: Annotated[str | None, DASK] = None,
    size: Annotated[int, typer.Option("--size", min=1, help="Edge length of a slice in pixels.")] = 224,
    clahe: Annotated[bool, typer.Option("--clahe", help="Raise local contrast; inference has to do the same.")] = False,
    train_dir: Annotated[Path | None, typer.Option("--train_dir", help="Folder of the training volumes.")] = None,
    valid_dir: Annotated[Path | None, typer.Option("--valid_dir", help="Folder of the validation volumes.")] = None,
    train_labels: Annotated[Path | None, typer.Option("--train_labels", help="Their label table.")] = None,
    valid_labels: Annotated[Path | None, typer.Option("--valid_labels", help="Their label table.")] = None,
    train_metadata: Annotated[Path | None, typer.Option("--train_metadata", help="Their metadata table.")] = None,
    valid_metadata: Annotated[Path | None, typer.Option("--valid_metadata", help="Their metadata table.")] = None,
    metadata: Annotated[
        str, typer.Option("--metadata", help="required, or optional where the headers are enough.")
    ] = "required",
) -> None:
    """Write slices that represent each CT, and tables of them with labels; finished volumes are kept.

    A volume that can't be used is left out; all of them are listed at the end, and the exit code is 1.
    """
    from monai_ext import ct_rate

    index = ct_rate.volumes(
        dataset_dir,
        train_dir,
        valid_dir,
        train_labels,
        valid_labels,
        train_metadata,
        valid_metadata,
        metadata,
        on_bad_volume="skip",
    )
    with chosen_workers(workers, dask) as chosen:
        found = ct_rate.extract_slices(index, output, num_slices, size, clahe, chosen)
    for problem in found:
        typer.echo(f"{problem.path}\n    {problem.message}", err=True)
    problems = [problem for problem in found if problem.severity == "error"]
    typer.echo(f"slices of {len(index.volumes) + len(index.problems) - len(found)} volumes; {len(problems)} problems")
    typer.echo(str(output))
    if problems:
        raise typer.Exit(1)
