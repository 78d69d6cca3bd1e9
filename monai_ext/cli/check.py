"""``check``: open all data of a bundle and list the problems; list the code in a bundle's configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_ext.chosen_workers import DASK, chosen_workers
from monai_ext.errors import ConfigError
from monai_ext.task import find_task

TRUSTED = ("monai", "torch", "ignite", "monai_ext")


def check(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="Bundle that the data are for, such as one of bundles/.")],
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="The data, as in training.")],
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default one per CPU, at most 8.")] = None,
    dask: Annotated[str | None, DASK] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write the list as JSON, too.")] = None,
    bundle_root: Annotated[
        Path | None, typer.Option("--bundle_root", help="List the code in this bundle's configs, too.")
    ] = None,
) -> None:
    """Open every file and list all problems at once; exit code 1 when a run would fail.

    Any setting of training can follow: --modality t1ce, --class_csv FILE. Those that have to do with the data count.
    """
    import inspect
    from dataclasses import asdict

    from monai_ext.io import write_json
    from monai_ext.settings import find_bundle, parse_overrides, read_bundle_config

    task = find_task(bundle, "check")
    given = parse_overrides(context.args)
    config = read_bundle_config(str(find_bundle(bundle) / "configs" / "train.json"), given) if given else {}
    known = inspect.signature(task.check).parameters
    options = {name: config.get(name) for name in given if name in known}
    with chosen_workers(workers, dask) as chosen:
        problems = task.check(dataset_dir, workers=chosen, **options)
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
    """The code in a bundle's JSON configs: every ``$`` expression, and targets outside well-known packages.

    A config is code: read these lines before running it, unless you trust its author.

    Args:
        bundle_root: folder of one bundle, with ``configs/*.json``.

    Yields:
        ``kind`` ("code" or "target"), ``file``, ``id`` (path in the config) and ``text`` of each entry.

    Raises:
        ConfigError: when there are no such files.
        DataError: for a config that is no JSON.
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
