"""What infers with a trained network: the metadata of its exports, its config, and the command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import read_json
from monai_ext.predictions.kind import Predictions
from monai_ext.settings.recipe import FREE, PATHS
from monai_ext.settings.tree import strings


def bundle_metadata(bundle: Path) -> dict[str, Any]:
    """A bundle's ``metadata.json``.

    Args:
        bundle: folder of the bundle.

    Raises:
        ConfigError: when the folder has none, as that of a config that was copied out of its bundle.
    """
    file = bundle / "configs" / "metadata.json"
    if not file.is_file():
        raise ConfigError(f"--bundle_root {bundle}: is no bundle, as it has no configs/metadata.json; give its folder")
    return dict(read_json(file))


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
    metadata = bundle_metadata(bundle)
    formats = metadata["network_data_format"]
    formats["inputs"]["image"].update(num_channels=image_shape[0], spatial_shape=list(image_shape[1:]))
    if predictions is not None:
        formats["outputs"] = predictions.formats(formats["outputs"], image_shape)
    return {**metadata, "settings": dict(settings)}


def inference_config(
    bundle: Path, config: Mapping[str, Any], settings: Mapping[str, Any], checkpoint: str, extras: Mapping[str, Any]
) -> dict[str, Any]:
    """A bundle's ``inference.json``, made true for a run: nothing is a default, and no file of the bundle is used.

    What the bundle's training and inference have in common (network, preparation, settings) is the run's. What the
    bundle takes from a checkpoint is written out.

    Args:
        bundle: folder of the bundle.
        config: merged config of the training, not parsed.
        settings: settings of the network, plain values, by the names in ``network_settings``.
        checkpoint: path of the best checkpoint within the run folder, from which the default is made.
        extras: further entries of the checkpoint, such as ``thresholds``.
    """
    shipped, training = (read_json(bundle / "configs" / f"{name}.json") for name in ("inference", "train"))
    own = {key for key in shipped if key in training and shipped[key] == training[key] and key not in FREE | PATHS}
    found = {key: config.get(key, value) if key in own else value for key, value in shipped.items()}
    key = _checkpoint_key(found)
    if shipped["checkpoint"].startswith("$@bundle_root"):
        found |= {name: settings[saved] for name, saved in _from_checkpoint(shipped) if saved in settings}
        found.pop("saved", None)
    else:  # the networks of other stages are made from their own checkpoints
        found["saved"] = {**shipped["saved"], "defaults": {**shipped["saved"]["defaults"], **settings}}
    _add_referred(found, config)
    found["dataset_dir"] = {**shipped["dataset_dir"], "bundle_root": bundle.name}
    found[key] = f"$@bundle_root + '/{checkpoint}'"
    if extras and isinstance(found.get("thresholds"), Mapping) and "_target_" in found["thresholds"]:
        found["thresholds"] = {**found["thresholds"], "default": dict(extras)}
    content: dict[str, Any] = json.loads(json.dumps(found))
    return content


def next_command(run: Path, checkpoint: str) -> tuple[str, str]:
    """The purpose, and a command that runs with what the run left: inference, or, where that needs the networks of
    other stages, evaluation.

    Args:
        run: folder of the run, with ``config/inference.json`` and ``config/config.json``.
        checkpoint: path of the best checkpoint within it.
    """
    config = run / "config" / "inference.json"
    if _stages(read_json(config)) is None:
        return "infer", inference_command(config)
    whole = run / "config" / "config.json"
    evaluate = Path(read_json(whole)["bundle_root"]) / "configs" / "evaluate.json"
    options = ["--config_file", str([str(whole), str(evaluate)]), "--checkpoint", str(run / checkpoint)]
    return "evaluate", f"python -m monai.bundle run {shlex.join(options)}"


def inference_command(config: Path) -> str:
    """The command that infers with the ``inference.json`` of a run, and so with its best checkpoint.

    Args:
        config: path of the file.
    """
    inputs = ["--inputs", "FILE_OR_FOLDER"] if "inputs" in read_json(config) else ["--dataset_dir", "FOLDER"]
    return f"python -m monai.bundle run {shlex.join(['--config_file', str(config), *inputs])}"


def _from_checkpoint(shipped: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of an ``inference.json`` that a checkpoint decides on, each with the name of the setting there."""
    for key, value in shipped.items():
        saved = re.fullmatch(r"\$@saved\['(\w+)'\]", value) if isinstance(value, str) else None
        if saved:
            yield key, saved[1]
    for name, value in shipped["network_settings"].items():
        if isinstance(value, str) and value[1:] in shipped:
            yield value[1:], name


def _add_referred(found: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Add what the run's network and preparation refer to and the bundle's inference doesn't have."""
    waiting = [name for text in strings(found) for name in re.findall(r"@(\w+)", text)]
    while waiting:
        name = waiting.pop()
        if name in config and name not in found:
            found[name] = config[name]
            waiting += [other for text in strings({name: config[name]}) for other in re.findall(r"@(\w+)", text)]


def _stages(config: Mapping[str, Any]) -> re.Match[str] | None:
    """The table of checkpoints and the setting that chooses from it, where a bundle has several stages."""
    return re.match(r"\$@(\w+)\[@(\w+)\]", config["checkpoint"])


def _checkpoint_key(config: Mapping[str, Any]) -> str:
    """The setting that holds the checkpoint's path: that of the stage, where a bundle has several."""
    choice = _stages(config)
    entry = config[choice[1]].get(config[choice[2]]) if choice else None
    return entry.removeprefix("@") if isinstance(entry, str) else "checkpoint"
