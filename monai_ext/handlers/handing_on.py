"""Export metadata of a trained network, and the command that infers with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.io import read_json
from monai_ext.predictions.kind import Predictions


def run_metadata(
    bundle: Path, image_shape: Sequence[int], predictions: Predictions | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """A bundle's ``metadata.json``, adapted to a run: MONAI's exports keep it and take the input's size from it.

    Args:
        bundle: folder of the bundle.
        image_shape: one input of the network: channels, then the spatial axes.
        predictions: describe the network's outputs; ``None`` leaves the outputs as they are.
        settings: settings that change the network's function without changing its keys; goes under ``settings``.
    """
    metadata = read_json(bundle / "configs" / "metadata.json")
    formats = metadata["network_data_format"]
    formats["inputs"]["image"].update(num_channels=image_shape[0], spatial_shape=list(image_shape[1:]))
    if predictions is not None:
        formats["outputs"] = predictions.formats(formats["outputs"], image_shape)
    return {**metadata, "settings": dict(settings)}


def inference_command(bundle: Path, checkpoint: Path, settings: Mapping[str, Any]) -> str:
    """The command that infers with a checkpoint, with those settings that differ from the defaults of inference."""
    config = bundle / "configs" / "inference.json"
    defaults = {key: value for key, value in read_json(config).items() if _is_plain(value)}
    changed = {key: value for key, value in settings.items() if defaults.get(key, value) != value}
    words = ["--config_file", str(config), "--checkpoint", str(checkpoint), "--inputs", "FILE_OR_FOLDER"]
    words += [word for key, value in changed.items() for word in (f"--{key}", str(value))]
    return f"python -m monai.bundle run {shlex.join(words)}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or (isinstance(value, (bool, int, float, str)) and not str(value).startswith(("$", "@")))
