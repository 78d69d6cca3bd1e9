"""``prepare``: fill the cache of prepared volumes before the first training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ext.chosen_workers import DASK, chosen_workers
from monai_ext.errors import ConfigError


def prepare(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="Bundle whose preparation to run, such as one of bundles/.")],
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="The data, as in training.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the cache; give it to training as --cache_dir.")],
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; default one per CPU, at most 8.")] = None,
    dask: Annotated[str | None, DASK] = None,
    bundle_root: Annotated[Path | None, typer.Option("--bundle_root", help="Default bundles/BUNDLE.")] = None,
    config_file: Annotated[
        str | None, typer.Option("--config_file", help="Config or list of configs; default configs/train.json.")
    ] = None,
) -> None:
    """Run the deterministic part of a bundle's preprocessing on all cases; finished cases are kept.

    Any override of the config can follow, as in training: --modality t1ce --bias_correction True.
    """
    from monai_ext.data import PreparedDataset
    from monai_ext.data import prepare as fill
    from monai_ext.settings import find_bundle, parse_files, parse_overrides, read_bundle_config

    root = find_bundle(bundle, bundle_root)
    files = parse_files(config_file) if config_file else str(root / "configs" / "train.json")
    parser = read_bundle_config(files, {"dataset_dir": str(dataset_dir), **parse_overrides(context.args)}, root)
    if "train#dataset#data" not in parser:
        raise ConfigError(f"prepare: {bundle} reads its data as they are, there is nothing to prepare; just train")
    # Training and validation set of one fold are all cases.
    sections = ("train", "validate")
    cases = [case for section in sections for case in parser.get_parsed_content(f"{section}#dataset#data")]
    names = [name for name in ("loading", "preparation") if name in parser]
    steps = [step for name in names for step in parser.get_parsed_content(name)]
    dataset = PreparedDataset(cases, steps, output)
    with chosen_workers(workers, dask) as chosen:
        done = fill(dataset, chosen)
    typer.echo(f"{done} cases prepared, {len(dataset) - done} were ready")
    typer.echo(str(output))
