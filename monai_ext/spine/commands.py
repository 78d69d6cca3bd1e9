"""``train-cascade`` and ``demo``: train all stages of spinal_cord_cascade in turn, and predict with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def train_cascade(
    context: typer.Context,
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="Folder with a folder for each stage.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Where runs and networks go.")],
    stages: Annotated[
        str | None, typer.Option("--stages", help="Names of the stages to train, as 'cord lesion'; default all.")
    ] = None,
    config_file: Annotated[
        str | None,
        typer.Option("--config_file", help="train.json, or a list: \"['.../train.json','.../demo.json']\"."),
    ] = None,
) -> None:
    """Train every stage that has not finished yet, and put the best networks into OUTPUT_DIR/models.

    Any override of the config can follow, for all stages (--max_epochs 50) or for one (--lesion.max_epochs 100).
    Called again with the same settings and data, it keeps finished stages and resumes the one that was interrupted.
    """
    from monai_ext.settings import find_bundle, parse_files, parse_overrides
    from monai_ext.spine.training import STAGES, CascadeTraining

    default = f"{find_bundle('spinal_cord_cascade')}/configs/train.json" if config_file is None else config_file
    chosen = stages.replace(",", " ").split() if stages is not None else STAGES
    training = CascadeTraining(parse_files(default), dataset_dir, output_dir, chosen, parse_overrides(context.args))
    models = training.run()
    if command := training.prediction_command():
        typer.echo(f"\nto predict: {command}")
    typer.echo(f"\nnetworks: {models}")


def extract_slices(
    dataset_dir: Annotated[Path, typer.Option("--dataset_dir", help="Folder with one for each stage, or of BIDS.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to write; give it to training as --dataset_dir.")],
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; default one per CPU, at most 8.")] = None,
) -> None:
    """Write the slices of training volumes as small files: a training on them gets the same values, in less time.

    What can't be used is left out; all of it is listed at the end, and the exit code is 1.
    """
    from monai_ext.spine import extraction

    count, problems = extraction.extract_slices(dataset_dir, output, workers)
    for problem in problems:
        typer.echo(f"{problem.severity}: {problem}", err=True)
    errors = [problem for problem in problems if problem.severity == "error"]
    typer.echo(f"{count} slices, {len(errors)} problems")
    typer.echo(str(output))
    if errors:
        raise typer.Exit(1)


def demo_cascade(configs: Path, dataset_dir: Path, output_dir: Path, overrides: Mapping[str, Any]) -> None:
    """Make data, train all stages, predict the series, export every stage, predict again from the exports alone.

    Args:
        configs: of the bundle.
        dataset_dir: where the synthetic data go.
        output_dir: of everything else.
        overrides: settings of the training, see `monai_ext.spine.training.CascadeTraining`.
    """
    from monai.bundle import run
    from monai.bundle.scripts import ckpt_export

    from monai_ext.spine.demo import make_demo
    from monai_ext.spine.training import CascadeTraining

    def announce(step: str, where: Path) -> None:
        typer.echo(f"\n== {step}: {where}", err=True)

    def predict(output: Path, **settings: Any) -> None:
        announce("prediction", output)
        run(
            config_file=inference,
            dataset_dir=str(dataset_dir),
            output_dir=str(output),
            models_dir=str(models),
            **settings,
        )

    inference = str(configs / "inference.json")
    announce("synthetic data", dataset_dir)
    typer.echo(str(make_demo(dataset_dir)))
    announce("training of all stages", output_dir)
    training = [str(configs / "train.json"), str(configs / "demo.json")]
    models = CascadeTraining(training, dataset_dir, output_dir, overrides=overrides).run()
    predict(output_dir / "inference")
    for folder in sorted(path for path in models.iterdir() if path.is_dir()):
        announce("export", folder / "model.ts")
        ckpt_export(
            net_id="network_def",
            filepath=str(folder / "model.ts"),
            ckpt_file=str(folder / "model.pt"),
            key_in_ckpt="model",
            config_file=str(folder / "inference.json"),
            meta_file=str(folder / "metadata.json"),
        )
    predict(output_dir / "inference_exported", weights="model.ts")
    typer.echo(f"\nreport of the series: {output_dir / 'inference' / 'report.html'}")
