"""``demo``: a bundle from synthetic data to an exported network, in one command."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer


def demo(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="Bundle to demonstrate, such as one of bundles/.")],
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="Folder of the synthetic data; default data/demo/BUNDLE.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option("--output_dir", help="Default runs/BUNDLE.")] = None,
    bundle_root: Annotated[Path | None, typer.Option("--bundle_root", help="Default bundles/BUNDLE.")] = None,
) -> None:
    """Make data, train, evaluate the best checkpoint, predict, and export to TorchScript and ONNX.

    A bundle that fine-tunes (it has a demo_pretrain.json) is first trained on other synthetic data, whose best
    checkpoint replaces the published weights; all stages of a cascade are trained. Any override of the training
    config can follow: --max_epochs 3 --lr 1e-4.
    """
    from monai.bundle import run
    from monai.bundle.scripts import ckpt_export

    from monai_ext import runs
    from monai_ext.cli.onnx import onnx
    from monai_ext.handlers.load_checkpoint import best_checkpoint
    from monai_ext.io import read_json
    from monai_ext.settings import find_bundle, parse_overrides, read_bundle_config
    from monai_ext.task import find_task

    # MONAI says of every config that it is code; these are the checkout's own. `check` lists the code in a config.
    warnings.filterwarnings("ignore", "parsing config_file")
    task = find_task(bundle, "demo")
    configs = find_bundle(bundle, bundle_root) / "configs"
    dataset_dir = dataset_dir or Path("data", "demo", bundle)
    output_dir = output_dir or Path("runs", bundle)
    training = [str(configs / "train.json"), str(configs / "demo.json")]
    pretraining = configs / "demo_pretrain.json"
    overrides = parse_overrides(context.args)
    own = getattr(task, "demo", None)
    if own is not None:
        own(configs, dataset_dir, output_dir, overrides)
        return
    fold = int(read_bundle_config(training, overrides).get("fold"))

    def train(files: list[str], data: Path, output: Path, seed: int, **settings: Any) -> Path:
        """Train on new synthetic data; returns the run folder."""
        _announce("synthetic data", data)
        typer.echo(str(task.demo_data(data, seed=seed)))
        _announce("training", output)
        settings = {**overrides, **settings}
        run(config_file=files, dataset_dir=str(data), output_dir=str(output), **settings)
        return runs.finished_runs(output, fold)[0]

    if pretraining.is_file() and "pretrained_path" not in overrides:
        data, output = (place.with_name(f"{place.name}_pretraining") for place in (dataset_dir, output_dir))
        folder = train([*training, str(pretraining)], data, output, seed=1)
        overrides["pretrained_path"] = str(best_checkpoint(folder))
    folder = train(training, dataset_dir, output_dir, seed=0)
    checkpoint = str(best_checkpoint(folder))
    common = {**overrides, "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}

    _announce("evaluation of the best checkpoint", output_dir / "evaluation")
    run(config_file=[*training, str(configs / "evaluate.json")], checkpoint=checkpoint, **common)

    # The run's own config has its settings; those that change no number are the demo's and the user's.
    inference = str(folder / "config" / "inference.json")
    known = read_json(inference)
    settings = {key: value for key, value in {**read_json(training[1]), **overrides}.items() if key in known}
    _announce("prediction", output_dir / "inference")
    run(config_file=inference, inputs=str(dataset_dir), **{**settings, "output_dir": str(output_dir / "inference")})

    exported = folder / "model.ts"
    _announce("export", exported)
    ckpt_export(
        filepath=str(exported),
        net_id="network_def",
        key_in_ckpt="model",
        ckpt_file=checkpoint,
        config_file=inference,
        meta_file=str(folder / "config" / "metadata.json"),
    )
    _announce("export", folder / "model.onnx")
    onnx(folder)
    typer.echo(f"\nreport of the training: {folder / 'report.html'}")


def _announce(step: str, where: Path) -> None:
    typer.echo(f"\n== {step}: {where}", err=True)
