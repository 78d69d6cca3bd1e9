"""``demo``: a bundle from made-up data to an exported network, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="Bundle to show, e.g. brats_resnet50.")],
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="Where the made-up data go; default data/demo/BUNDLE.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option("--output_dir", help="Default runs/BUNDLE.")] = None,
    bundle_root: Annotated[Path | None, typer.Option("--bundle_root", help="Default bundles/BUNDLE.")] = None,
) -> None:
    """Make data, train, evaluate the best checkpoint, predict, and export to TorchScript and ONNX.

    Any override of the training config can follow: --max_epochs 3 --lr 1e-4.
    """
    from monai.bundle import ConfigParser, run
    from monai.bundle.scripts import ckpt_export, onnx_export

    from monai_ext import runs
    from monai_ext.cli.demo_data import demo_data
    from monai_ext.cli.overrides import parse_overrides
    from monai_ext.cli.prepare import find_bundle
    from monai_ext.io import read_json
    from monai_ext.overrides import check_overrides

    configs = (bundle_root or find_bundle(bundle)) / "configs"
    dataset_dir = dataset_dir or Path("data", "demo", bundle)
    output_dir = output_dir or Path("runs", bundle)
    training = [str(configs / "train.json"), str(configs / "demo.json")]
    inference = str(configs / "inference.json")
    overrides = parse_overrides(context.args)
    check_overrides(training, overrides)
    common = {**overrides, "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}

    _say("made-up data", dataset_dir)
    demo_data(bundle, dataset_dir)

    _say("training", output_dir)
    run(config_file=training, **common)
    parser = ConfigParser()
    parser.read_config(f=training)
    fold = int(overrides.get("fold", parser.get("fold")))
    folder = runs.finished_runs(output_dir, fold)[0]
    checkpoint = str(folder / read_json(folder / "run.json")["best_checkpoint"])

    _say("evaluation of the best checkpoint", output_dir / "evaluation")
    run(config_file=[*training, str(configs / "evaluate.json")], checkpoint=checkpoint, **common)

    # Inference has to be told what the demo's overlay and the overrides change.
    known = read_json(inference)
    settings = {key: value for key, value in {**read_json(training[1]), **overrides}.items() if key in known}
    settings["checkpoint"] = checkpoint
    _say("prediction", output_dir / "inference")
    run(config_file=inference, inputs=str(dataset_dir), **{**settings, "output_dir": str(output_dir / "inference")})

    common = {
        "net_id": "network_def",
        "key_in_ckpt": "model",
        "ckpt_file": checkpoint,
        "config_file": inference,
        "meta_file": str(folder / "config" / "metadata.json"),
        **settings,
    }
    for suffix, export in (("ts", ckpt_export), ("onnx", onnx_export)):
        path = folder / f"model.{suffix}"
        _say("export", path)
        export(filepath=str(path), **common)
    typer.echo(f"\nreport of the training: {folder / 'report.html'}")


def _say(step: str, where: Path) -> None:
    typer.echo(f"\n== {step}: {where}", err=True)
