"""``python -m monai_ext train-cascade``: all stages of spinal_cord_cascade, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_cascade(
    context: typer.Context,
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="Folder with a folder for each stage.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Where runs and networks go.")],
    stages: Annotated[
        str | None, typer.Option("--stages", help="Names of the stages to train, as 'cord lesion'; default all.")
    ] = None,
    config_file: Annotated[
        str | None,
        typer.Option("--config_file", help="train.json, or a list: \"['.../train.json','.../demo.json']\"."),
    ] = None,
) -> None:
    """Train every stage that has not finished yet, and put the best networks into OUTPUT_DIR/models.

    Any override of the config can follow, for all stages (--max_epochs 50) or for one (--lesion.max_epochs 100).
    Started again with the same settings and data, it keeps finished stages and goes on in the one that was interrupted.
    """
    from monai_ext.cli.overrides import parse_files, parse_overrides
    from monai_ext.cli.prepare import find_bundle
    from monai_ext.engines.cascade_training import STAGES, CascadeTraining

    default = f"{find_bundle('spinal_cord_cascade')}/configs/train.json" if config_file is None else config_file
    chosen = stages.replace(",", " ").split() if stages is not None else STAGES
    models = CascadeTraining(parse_files(default), dataset_dir, output_dir, chosen, parse_overrides(context.args)).run()
    typer.echo(f"\nnetworks: {models}")
