"""The name that was meant: near ones, those of the original pipelines, and the usual ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

# Names that other programs use → ours.
_USUAL = {
    "learning_rate": "lr",
    "initial_lr": "lr",
    "initial_learning_rate": "lr",
    "base_lr": "lr",
    "epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "n_epochs": "max_epochs",
    "batchsize": "batch_size",
    "bs": "batch_size",
    "data_dir": "dataset_dir",
    "data_root": "dataset_dir",
    "data_path": "dataset_dir",
    "data": "dataset_dir",
    "out_dir": "output_dir",
    "output": "output_dir",
    "save_dir": "output_dir",
    "log_dir": "output_dir",
    "workers": "num_workers",
    "num_threads": "num_workers",
    "random_seed": "seed",
    "random_state": "seed",
    "patience": "early_stopping_patience",
    "wd": "weight_decay",
    "optim": "optimizer",
    "criterion": "loss",
    "loss_function": "loss",
    "clip_grad": "grad_clip",
    "gradient_clip": "grad_clip",
    "max_grad_norm": "grad_clip",
    "accumulation_steps": "accumulate",
    "gradient_accumulation_steps": "accumulate",
    "use_amp": "amp",
    "mixed_precision": "amp",
    "fp16": "precision",
    "pretrained": "pretrained_path",
    "pretrained_weights": "pretrained_path",
    "weights": "checkpoint",
    "model_path": "checkpoint",
    "ckpt": "checkpoint",
    "gpu": "device",
    "use_attention": "attention",
    "n_folds": "num_folds",
    "folds": "num_folds",
    "mlflow_uri": "tracking_uri",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """End of a sentence about an unknown name: the nearest known one, or all of them; empty where there are none."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(names)}" if names else ""


def nearest_setting(name: str, config: Iterable[str], schema: Mapping[str, Mapping[str, Any]]) -> str:
    """The same for a setting, known by the names of the original pipelines and the usual ones, too.

    Args:
        name: without dashes in front.
        config: the settings that there are.
        schema: from `monai_ext.settings.settings_schema`.
    """
    there = set(config)
    originals = {_plain(old): ours for ours, rule in schema.items() for old in rule.get("x-original", ())}
    ours_of = {**_USUAL, **originals, **{setting: setting for setting in there & set(schema) or there}}
    known = [other for other, ours in ours_of.items() if ours in there]
    close = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.6)
    return (
        f"; did you mean --{ours_of[close[0]]}?" if close else "; `python -m monai_ext settings BUNDLE` lists them all"
    )


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()
