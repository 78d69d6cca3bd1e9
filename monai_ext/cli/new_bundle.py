"""``new-bundle``: a small working bundle with its package, as a template for your own."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from monai_ext.errors import ConfigError
from monai_ext.io import write_text
from monai_ext.task import find_tasks

TEMPLATE = Path(__file__).parent / "template"
# Name of the template in its files and their paths.
PLACEHOLDER = "my_bundle"
# The package lies beside these: folders of a project and of the checkout that hold something else.
_FOLDERS = {"benchmarks", "bundles", "data", "docs", "runs", "tests"}


def new_bundle(
    name: Annotated[str, typer.Argument(help="Name of bundle and package: lower-case letters, digits and _.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write; must be empty or not exist.")],
) -> None:
    """Write a small bundle that works (two classes of images), with its package, to start your own from."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"new-bundle {name}: a name has lower-case letters, digits and _, and begins with a letter")
    if keyword.iskeyword(name):
        raise ConfigError(f"new-bundle {name}: is a word of Python; choose another name")
    if name in _FOLDERS:
        raise ConfigError(f"new-bundle {name}: a project has another folder of this name; choose another one")
    if name in find_tasks() or importlib.util.find_spec(name) is not None:
        raise ConfigError(f"new-bundle {name}: there is a bundle or package of this name; choose another one")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output {output}: exists and is not an empty folder; choose another one")
    for file in sorted(TEMPLATE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            target = output / file.relative_to(TEMPLATE).as_posix().replace(PLACEHOLDER, name)
            write_text(target, file.read_text(encoding="utf-8").replace(PLACEHOLDER, name))
    folder = shlex.quote(str(output))
    typer.echo(f"{output}: see README.md there; to begin, `cd {folder}` and `pip install --no-deps --editable .`")
