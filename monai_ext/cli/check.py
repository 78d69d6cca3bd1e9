"""``check``: open all data of a bundle and list what is wrong; list the code in a bundle's configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_ext.cli.chosen_workers import DASK, chosen_workers
from monai_ext.cli.demo_data import unknown_bundle
from monai_ext.errors import ConfigError

# bundle -> module of monai_ext.data with `check(dataset_dir, workers=...)`
CHECKERS = {
    "brats_resnet50": "brats",
    "nuclei_vgg3d": "nuclei",
    "ct_rate_multilabel": "ct_rate",
    "spinal_cord_cascade": "spine",
    "surface_unet": "surface",
}
TRUSTED = ("monai", "torch", "ignite", "monai_ext")


def check(
    bundle: Annotated[str, typer.Argument(help="Bundle that the data are for, e.g. brats_resnet50.")],
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="The data, as in training.")],
    modality: Annotated[
        str | None, typer.Option("--modality", help="brats_resnet50: one modality; default all.")
    ] = None,
    class_csv: Annotated[
        Path | None, typer.Option("--class_csv", help="nuclei_vgg3d: the class table; default the one in the data.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default one a CPU, at most 8.")] = None,
    dask: Annotated[str | None, DASK] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the list as JSON, too.")] = None,
    bundle_root: Annotated[
        Path | None, typer.Option("--bundle_root", help="List the code in this bundle's configs, too.")
    ] = None,
) -> None:
    """Open every file and list all problems at once; exit code 1 when a run would fail."""
    import importlib
    import inspect
    from dataclasses import asdict

    from monai_ext.io import write_json

    if bundle not in CHECKERS:
        raise ConfigError(unknown_bundle("check", bundle, list(CHECKERS)))
    module = importlib.import_module(f"monai_ext.data.{CHECKERS[bundle]}")
    options = {name: value for name, value in (("modality", modality), ("class_csv", class_csv)) if value is not None}
    for name in options:
        if name not in inspect.signature(module.check).parameters:
            raise ConfigError(f"check: --{name} is no option for the data of {bundle}")
    with chosen_workers(workers, dask) as chosen:
        problems = module.check(dataset_dir, workers=chosen, **options)
    for problem in problems:
        typer.echo(f"{problem.severity:<8} {problem.path}\n         {problem.message}")
    code = list(code_in_configs(bundle_root)) if bundle_root is not None else []
    for entry in code:
        typer.echo(f"{entry['kind']:<8} {entry['file']}: {entry['id']}\n         {entry['text']}")
    errors = sum(problem.severity == "error" for problem in problems)
    typer.echo(f"{errors} errors, {len(problems) - errors} warnings in {dataset_dir}")
    if output is not None:
        content: dict[str, Any] = {"problems": [asdict(problem) for problem in problems]}
        if bundle_root is not None:
            content["code"] = code
        typer.echo(str(write_json(output, content)))
    if errors:
        raise typer.Exit(1)


def code_in_configs(bundle_root: Path) -> Iterator[dict[str, str]]:
    """What a bundle's JSON configs can run: every ``$`` expression, and targets outside well-known packages.

    A config is code: whoever runs one should have looked at these lines, or trust its author.
    """
    from monai_ext.io import read_json

    files = sorted((bundle_root / "configs").glob("*.json"))
    if not files:
        raise ConfigError(f"check: no configs/*.json in {bundle_root}; --bundle_root is the folder of one bundle")
    for file in files:
        for name, text in _strings(read_json(file)):
            target = name.rpartition("#")[2] == "_target_"
            if text.startswith("$") or (target and not text.startswith(tuple(f"{package}." for package in TRUSTED))):
                # MONAI looks a name without dots up among its own components
                if target and "." not in text and not text.startswith("$"):
                    continue
                kind = "code" if text.startswith("$") else "target"
                yield {"kind": kind, "file": file.name, "id": name, "text": text}


def _strings(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield name, node
    elif isinstance(node, dict | list):
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in entries:
            yield from _strings(value, f"{name}#{key}" if name else str(key))
