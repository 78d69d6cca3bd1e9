"""``check``: open all data of a bundle and list the problems; list the code in a bundle's configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_ext.chosen_workers import DASK, chosen_workers
from monai_ext.errors import ConfigError
from monai_ext.task import find_task

_SEE = "the findings say why no input could be prepared"


def check(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="Bundle that the data are for, such as one of bundles/.")],
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="The data, as in training.")],
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default one per CPU, at most 8.")] = None,
    dask: Annotated[str | None, DASK] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", min=0, help="Inputs to prepare and look at; default all, 0 for none.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the findings to a .json or .html, too.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Draw a dozen prepared inputs into a .png or .html.")
    ] = None,
    bundle_root: Annotated[
        Path | None, typer.Option("--bundle_root", help="List the code in this bundle's configs, too; none of it runs.")
    ] = None,
) -> None:
    """Open every file, prepare every input, and list all problems at once; exit code 1 when a run would fail.

    Any setting of training can follow: --modality t1ce, --class_csv FILE, --percentiles "[0.5, 99.5]".
    """
    from monai_ext.data.problems import count
    from monai_ext.settings import parse_overrides
    from monai_ext.settings.config_code import code_in_configs

    _check_suffix("--output", output, (".json", ".html"))
    _check_suffix("--preview", preview, (".png", ".html"))
    task = find_task(bundle, "check")
    given = parse_overrides(context.args)
    options = _options(task.check, bundle, bundle_root, given)
    with chosen_workers(workers, dask) as chosen:
        problems = task.check(dataset_dir, workers=chosen, **options)
    found = _prepared(bundle, bundle_root, dataset_dir, given, sample, workers, preview or output)
    problems += _further(found.problems, problems)
    for problem in problems:
        typer.echo(f"{problem.severity:<8} {problem.path}\n         {problem.message} [{problem.code}]")
        typer.echo(f"         → {problem.step}")
    code = list(code_in_configs(bundle_root)) if bundle_root is not None else []
    for entry in code:
        typer.echo(f"{entry['kind']:<8} {entry['file']}: {entry['id']}\n         {entry['text']}")
    if found.sentence:
        typer.echo(found.sentence)
    typer.echo(f"{count(problems)} in {dataset_dir}")
    for path in _write(f"Check of {dataset_dir}", problems, found, code if bundle_root else None, output, preview):
        typer.echo(str(path))
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def _check_suffix(option: str, path: Path | None, allowed: tuple[str, ...]) -> None:
    if path is not None and path.suffix.lower() not in allowed:
        raise ConfigError(f"{option} {path}: must end with {' or '.join(allowed)}")


def _prepared(
    bundle: str,
    bundle_root: Path | None,
    dataset_dir: Path,
    given: dict[str, Any],
    sample: int | None,
    workers: int | None,
    picture: Path | None,
) -> Any:
    """The inputs of the bundle, as its configs prepare them. Code of a --bundle_root is only listed, never run."""
    from monai_ext.cli.prepared_check import PreparedCheck, all_checks, check_prepared
    from monai_ext.settings import find_bundle

    if sample == 0:
        return PreparedCheck(sentence="no input was prepared (--sample 0)")
    if bundle_root is not None:
        return PreparedCheck(sentence="no input was prepared: the code of a --bundle_root is listed, but not run")
    try:
        root = find_bundle(bundle)
    except ConfigError:  # a package elsewhere may bring the task alone
        return PreparedCheck(sentence=f"no input was prepared: the configs of {bundle} are not below this folder")
    show = picture is not None and picture.suffix.lower() != ".json"
    trainings = getattr(find_task(bundle, "check"), "trainings", None)
    if trainings is None or "stage" in given:
        return check_prepared(root, dataset_dir, given, sample, workers, show)
    several = trainings(dataset_dir).items()
    return all_checks(
        {name: check_prepared(root, dataset_dir, given, sample, workers, show, overlay) for name, overlay in several}
    )


def _further(found: list[Any], known: list[Any]) -> list[Any]:
    """What the files themselves didn't show: a damaged one can't be prepared either."""
    bad = {problem.path for problem in known if problem.severity == "error"}
    repeated = ("not-prepared", "not-looked-at")
    return [problem for problem in found if not (bad and problem.code in repeated and problem.path in bad)]


def _write(
    title: str, problems: list[Any], found: Any, code: list[Any] | None, output: Path | None, preview: Path | None
) -> Iterator[Path]:
    from dataclasses import asdict

    from monai_ext.io import write_json
    from monai_ext.reports.check_page import write_check_page
    from monai_ext.reports.contact_sheet import contact_sheet
    from monai_ext.reports.plots import save

    sheet = contact_sheet(found.shown) if found.shown else None
    if output is not None and output.suffix.lower() == ".json":
        content: dict[str, Any] = {"problems": [asdict(problem) for problem in problems]}
        content["inputs"] = {"looked_at": found.looked_at, "of": found.available, "sentence": found.sentence}
        if code is not None:
            content["code"] = code
        yield write_json(output, content)
    pages = [path for path in (output, preview) if path is not None and path.suffix.lower() == ".html"]
    for path in dict.fromkeys(pages):
        yield write_check_page(path, title, problems, found.sentence, sheet)
    if preview is not None and sheet is None:  # no error of its own: the findings say how bad it is
        typer.echo(f"--preview {preview}: no picture, there is nothing to draw; {found.sentence or _SEE}")
    elif preview is not None and sheet is not None and preview.suffix.lower() == ".png":
        yield save(sheet, preview)


def _options(check: Any, bundle: str, bundle_root: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """Settings of training, checked as a training checks them, that have to do with the data."""
    import inspect

    from monai_ext.settings import find_bundle, read_bundle_config

    known = [name for name in inspect.signature(check).parameters if name not in ("dataset_dir", "workers")]
    try:
        root = find_bundle(bundle, bundle_root)
    except ConfigError:  # a package elsewhere may bring the task alone
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"check: --{name} is no option for the data of {bundle}; it has {known or 'none'}"
                ) from None
        return given
    if not given:
        return {}
    config = read_bundle_config(str(root / "configs" / "train.json"), given)
    return {name: config.get_parsed_content(name) for name in given if name in known}
