"""``bundle zip``: a bundle as a file to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A bundle as a file to hand on.")


@app.callback()
def _group() -> None:
    """Keep ``zip`` a command of its own: typer would leave out the name of an only one."""


@app.command("zip")
def zip_command(
    bundle: Annotated[str, typer.Argument(help="Name of a bundle, such as one of bundles/, or its folder.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write to.")] = Path(),
) -> None:
    """Write BUNDLE_vVERSION.zip, the asset of a release: unpacked anywhere, it works beside the installed package."""
    from monai_ext.bundle_archive import zip_bundle
    from monai_ext.settings import find_bundle

    root = Path(bundle) if Path(bundle, "configs").is_dir() else find_bundle(bundle, advice="or give its folder")
    typer.echo(str(zip_bundle(root, output)))
