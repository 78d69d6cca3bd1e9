"""Runs that needn't be trained again, because settings and data are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import DataError
from monai_ext.io import read_json

# Settings that change no number of a run.
_ASIDE = {
    "fold",  # runs of different folds lie apart
    "resume",
    "run_name",
    "parent_run_id",
    "tracking_uri",
    "experiment_name",
    "num_workers",
    "device",
    "val_device",
    "plot_every",
    "checkpoint_every",
    "save_execute_config",
    "bundle_root",
    "dataset_dir",  # the dataset hash counts, not the path
    "stage_dir",
    "cord_dir",
    "output_dir",
    "cache_dir",
}


def what_counts(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that distinguish two runs."""
    return {key: value for key, value in parameters.items() if key not in _ASIDE}


def newest_same(candidates: Sequence[Path], settings: Mapping[str, Any], data_hash: str) -> Path | None:
    """The first of some runs that was made with these settings and data; unreadable ones are passed over."""
    wanted = json.loads(json.dumps(what_counts(settings)))
    for candidate in candidates:
        try:
            record = read_json(candidate / "run.json")
        except DataError:
            continue
        same = what_counts(record.get("parameters", {})) == wanted
        if same and record.get("data", {}).get("fingerprint") == data_hash:
            return candidate
    return None
