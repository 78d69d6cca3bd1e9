"""``check``: open all data of a bundle and list the problems; list the code in a bundle's configs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_ext.chosen_workers import DASK, chosen_workers
from monai_ext.errors import ConfigError
from monai_ext.task import find_task


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
    from dataclasses import asdict

    from monai_ext.data.problems import count
    from monai_ext.io import write_json
    from monai_ext.settings import parse_overrides
    from monai_ext.settings.config_code import code_in_configs

    task = find_task(bundle, "check")
    options = _options(task.check, bundle, bundle_root, parse_overrides(context.args))
    with chosen_workers(workers, dask) as chosen:
        problems = task.check(dataset_dir, workers=chosen, **options)
    for problem in problems:
        typer.echo(f"{problem.severity:<8} {problem.path}\n         {problem.message} [{problem.code}]")
        typer.echo(f"         → {problem.step}")
    code = list(code_in_configs(bundle_root)) if bundle_root is not None else []
    for entry in code:
        typer.echo(f"{entry['kind']:<8} {entry['file']}: {entry['id']}\n         {entry['text']}")
    typer.echo(f"{count(problems)} in {dataset_dir}")
    if output is not None:
        content: dict[str, Any] = {"problems": [asdict(problem) for problem in problems]}
        if bundle_root is not None:
            content["code"] = code
        typer.echo(str(write_json(output, content)))
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def _options(check: Any, bundle: str, bundle_root: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """Settings of training, checked as a training checks them, that have to do with the data."""
    import inspect

    from monai_ext.settings import find_bundle, read_bundle_config

    known = [name for name in inspect.signature(check).parameters if name not in ("dataset_dir", "workers")]
    try:
        root = bundle_root or find_bundle(bundle)
    except ConfigError:  # a package elsewhere may bring the task alone
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"check: --{name} is no option for the data of {bundle}; it has {known or 'none'}"
                ) from None
        return given
    config = read_bundle_config(str(root / "configs" / "train.json"), given) if given else {}
    return {name: config.get(name) for name in given if name in known}
