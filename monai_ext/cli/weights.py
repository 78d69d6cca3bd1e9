"""``weights BUNDLE``: public files that a training can start from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from monai_ext.large_files import LargeFile


def weights(
    bundle: Annotated[str, typer.Argument(help="Bundle to start, such as one of bundles/.")],
    get: Annotated[str | None, typer.Option("--get", metavar="NAME", help="Download the file of this name.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take a file that is here already, of a listed name."),
    ] = None,
    bundle_root: Annotated[Path | None, typer.Option("--bundle_root", help="Default bundles/BUNDLE.")] = None,
) -> None:
    """List the public pre-trained files that a bundle can start from, with licence and data; download or import one.

    A file gets its name in the bundle's folder models when it is complete and its hash is the published one. Where none
    is published, it must at least be a checkpoint that loads safely. An interrupted download goes on where it ended.
    """
    from monai_ext.errors import ConfigError
    from monai_ext.large_files import large_files
    from monai_ext.settings import find_bundle

    if get is not None and file is not None:
        raise ConfigError("--get and --import: give one of them")
    root = find_bundle(bundle, bundle_root)
    listed = {entry.path.name: entry for entry in large_files(root)}
    if get is not None:
        _get(_named(get, listed, bundle))
    elif file is not None:
        _import(_named(file.name, listed, bundle), file)
    elif not listed:
        typer.echo(f"{bundle}: no public file is known that it can start from; --pretrained_path takes any that fits")
    else:
        typer.echo("\n\n".join(_description(entry) for entry in listed.values()))


def _named(name: str, listed: dict[str, LargeFile], bundle: str) -> LargeFile:
    from monai_ext.errors import ConfigError

    if name not in listed:
        known = ", ".join(listed) or "none"
        raise ConfigError(
            f"{name}: is no listed file of {bundle} ({known}); name it so, or give --pretrained_path its path"
        )
    return listed[name]


def _get(entry: LargeFile) -> None:
    from monai_ext.download import download
    from monai_ext.errors import WeightsError

    if entry.path.exists():
        _check_present(entry)
    elif not entry.url:
        raise WeightsError(f"{entry.path.name}: has no public address; get it from its authors, then --import it")
    else:
        typer.echo(_description(entry), err=True)
        download(entry.url, entry.path, lambda received: _check(entry, received))
    _tell(entry)


def _import(entry: LargeFile, file: Path) -> None:
    from monai_ext.errors import WeightsError
    from monai_ext.io import atomic_path

    if not file.is_file():
        raise WeightsError(f"--import {file}: file not found; check the path")
    if entry.path.exists() and entry.path.samefile(file):
        _check_present(entry)
    else:
        with atomic_path(entry.path) as copy:
            shutil.copyfile(file, copy)
            _check(entry, copy)
    _tell(entry)


def _check_present(entry: LargeFile) -> None:
    from monai_ext.errors import WeightsError

    try:
        _check(entry, entry.path)
    except WeightsError as error:
        raise WeightsError(f"{error}. Remove {entry.path} first") from error


def _check(entry: LargeFile, file: Path) -> None:
    """Refuse another file than the published one; where no hash is published, one that is no checkpoint."""
    from monai_ext.errors import WeightsError

    if entry.digest:
        entry.check(file)
        return
    from monai_ext.networks import read_checkpoint

    try:
        read_checkpoint(file)
    except WeightsError as error:
        raise WeightsError(
            f"{entry.path.name}: is no checkpoint that loads safely; was a web page saved in its place?"
        ) from error


def _tell(entry: LargeFile) -> None:
    from monai_ext.large_files import digest_of

    typer.echo(f"{entry.path}: complete; {_compared(entry)}. Its sha256 is {digest_of(entry.path)}")
    typer.echo(f"start from it with {_use(entry)}")


def _compared(entry: LargeFile) -> str:
    if not entry.digest:
        return "no published hash is known, so that nothing but its format is checked"
    digits = "" if len(entry.digest) > 16 else f" ({len(entry.digest)} digits)"
    return f"checked by the published {entry.hash_type}{digits}"


def _use(entry: LargeFile) -> str:
    return f"--pretrained_path {entry.path} {entry.texts.get('use', '')}".rstrip()


def _description(entry: LargeFile) -> str:
    size = f", {entry.texts['size']}" if "size" in entry.texts else ""
    lines = {
        "file": "here" if entry.path.exists() else entry.url or "no public address",
        **{name: entry.texts[name] for name in ("source", "licence", "leakage") if name in entry.texts},
        "hash": _compared(entry),
        "use": _use(entry),
    }
    return "\n".join([f"{entry.path.name}{size}", *(f"  {name + ':':<9} {text}" for name, text in lines.items())])
