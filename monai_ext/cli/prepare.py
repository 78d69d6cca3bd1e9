"""``prepare``: fill the cache of prepared volumes before the first training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ext.cli.demo_data import unknown_bundle
from monai_ext.errors import ConfigError

# bundle -> module of monai_ext.data with `find_subjects(dataset_dir, modality)`
SOURCES = {"brats_resnet50": "brats"}


def prepare(
    bundle: Annotated[str, typer.Argument(help="Bundle whose preparation to run, e.g. brats_resnet50.")],
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="The data, as in training.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the cache; the same as in training.")],
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; default one a CPU, at most 8.")] = None,
    bundle_root: Annotated[Path | None, typer.Option("--bundle_root", help="Default bundles/BUNDLE.")] = None,
    config_file: Annotated[
        list[str] | None, typer.Option("--config_file", help="Configs to merge; default configs/train.json.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="knob=value, as given in training, e.g. --set modality=t1ce")
    ] = None,
) -> None:
    """Run the deterministic part of a bundle's preprocessing on all subjects; what is done already is kept."""
    import importlib

    import yaml  # type: ignore[import-untyped]
    from monai.bundle import ConfigParser

    from monai_ext.data import PreparedDataset
    from monai_ext.data import prepare as fill

    if bundle not in SOURCES:
        raise ConfigError(unknown_bundle("prepare", bundle, list(SOURCES)))
    root = bundle_root or _find_bundle(bundle)
    files = config_file or [str(root / "configs" / "train.json")]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ConfigError(f"prepare: no file {missing[0]}; name the bundle's folder by --bundle_root")
    parser = ConfigParser(ConfigParser.load_config_files(files))
    if "preprocessing" not in parser:
        raise ConfigError(f"prepare: {files[0]} has no 'preprocessing'")
    for entry in override or []:
        key, equals, value = entry.partition("=")
        if not equals or key not in parser:
            raise ConfigError(f"prepare: --set needs knob=value with a knob of {files[0]}, got {entry!r}")
        parser[key] = yaml.safe_load(value)
    if "bundle_root" in parser:
        parser["bundle_root"] = str(root)
    transform = parser.get_parsed_content("preprocessing")
    modality = parser.get_parsed_content("modality") if "modality" in parser else "flair"
    source = importlib.import_module(f"monai_ext.data.{SOURCES[bundle]}")
    dataset = PreparedDataset(source.find_subjects(dataset_dir, modality), transform, output)
    done = fill(dataset, workers)
    typer.echo(f"{done} cases prepared, {len(dataset) - done} were ready")
    typer.echo(str(output))


def _find_bundle(bundle: str) -> Path:
    """The bundle's folder below the current one, or beside this package in a source checkout."""
    places = [Path("bundles") / bundle, Path(__file__).resolve().parents[2] / "bundles" / bundle]
    found = next((place for place in places if (place / "configs").is_dir()), None)
    if found is None:
        raise ConfigError(f"prepare: {places[0]} is not here; name the bundle's folder by --bundle_root")
    return found
