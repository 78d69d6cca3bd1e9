"""``demo-data``: small, learnable data in the real on-disk format of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ext.errors import ConfigError

# bundle -> module of monai_ext.demo with `make_demo(output, seed, size)`
GENERATORS = {
    "brats_resnet50": "brats",
    "nuclei_vgg3d": "nuclei",
    "ct_rate_multilabel": "ct_rate",
    "spinal_cord_cascade": "spine",
    "surface_unet": "surface",
}


def demo_data(
    bundle: Annotated[str, typer.Argument(help="Bundle that the data are for, e.g. brats_resnet50.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write; usable as --dataset_dir.")],
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option("--size", help="small, or full for real image sizes.")] = "small",
) -> None:
    """Write made-up data to try a bundle with; never patient data, never for conclusions."""
    import importlib

    if bundle not in GENERATORS:
        raise ConfigError(unknown_bundle("demo-data", bundle, list(GENERATORS)))
    module = importlib.import_module(f"monai_ext.demo.{GENERATORS[bundle]}")
    typer.echo(str(module.make_demo(output, seed=seed, size=size)))


def unknown_bundle(command: str, bundle: str, known: list[str]) -> str:
    """One sentence for a bundle that a command doesn't know, with the nearest name."""
    import difflib

    near = difflib.get_close_matches(bundle, known, 1, 0.4)
    return f"{command}: no bundle {bundle!r}; " + (f"did you mean {near[0]!r}?" if near else f"known: {known}")
