"""Short trainings of stages of `spinal_cord_cascade`, and what they leave."""

import json

import torch
from monai.bundle import ConfigParser, run


def files_of(spine_configs, stage, *overlays):
    names = ["train.json", *([f"stage_{stage}.json"] if stage != "lesion" else []), *overlays]
    return [str(spine_configs / name) for name in names]


def train(spine_configs, stage, output, overlays=(), **settings):
    run(config_file=files_of(spine_configs, stage, *overlays), output_dir=str(output), **settings)
    (folder,) = output.glob("evaluation/fold_1/run_*" if overlays else "fold_1/run_*")
    return folder


def parsed(spine_configs, settings, stage, **overrides):
    parser = ConfigParser()
    parser.read_config(f=files_of(spine_configs, stage))
    parser.update({"bundle_root": str(spine_configs.parent), **settings, **overrides})
    return parser


def metrics_of(folder):
    return json.loads((folder / "metrics" / "metrics.json").read_text())


def checkpoint_of(folder, name="best"):
    return torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)
