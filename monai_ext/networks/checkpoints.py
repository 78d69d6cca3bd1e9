"""Reading checkpoints: tensors and plain values only, and never into a network with another function."""

from __future__ import annotations

import json
import logging
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_ext.errors import WeightsError
from monai_ext.io import read_json

logger = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_LISTED = 8
# Settings of earlier checkpoints → their names now.
_RENAMED = {"network": "architecture"}


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a file written by ``torch.save``, with ``weights_only=True``: nothing in it is ever executed.

    Args:
        path: path of the file.
        map_location: device to put its tensors on.

    Raises:
        WeightsError: naming the path, when it is missing, a folder, damaged, an exported ``.ts``, or holds anything
            but a dict of tensors and plain values.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; give the path of a checkpoint file in it")
    if not path.exists():
        raise WeightsError(f"{path}: checkpoint not found; check the path (relative to {Path.cwd()})")
    if is_torchscript(path):
        raise WeightsError(f"{path}: is an exported TorchScript program; a checkpoint (.pt) is needed here")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except PermissionError as error:
        raise WeightsError(f"{path}: could not be read ({error.strerror}); check its permissions") from error
    # A damaged or hostile file can fail anywhere in the unpickler, with almost any exception; torch's own text is
    # not repeated, as it advises to switch the protection off.
    except Exception as error:
        raise WeightsError(
            f"{path}: is damaged, not a checkpoint, or holds objects other than tensors and plain values "
            f"({type(error).__name__}); nothing in it was executed. Copy it again, or re-save only its state_dict"
        ) from error
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"{path}: expected a dict of tensors, got {type(checkpoint).__name__}; save a state_dict")
    return checkpoint


def state_dict_of(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, torch.Tensor]:
    """Network weights in a checkpoint, whatever wraps them.

    Unwraps ``state_dict``, ``model_state_dict``, ``model`` or a bare dict, and takes the prefixes of
    DataParallel (``module.``) and ``torch.compile`` (``_orig_mod.``) off the keys.

    Raises:
        WeightsError: when there are no weights in it.
    """
    weights: Mapping[str, Any] = checkpoint
    while (name := next((name for name in _WRAPPERS if isinstance(weights.get(name), Mapping)), None)) is not None:
        weights = weights[name]
    tensors = {_strip(key): value for key, value in weights.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        found = ", ".join(map(str, list(checkpoint)[:_LISTED])) or "nothing"
        raise WeightsError(f"{path}: no network weights found under {', '.join(_WRAPPERS)} or at the top; has {found}")
    return tensors


def compare_settings(saved: Mapping[str, Any], expected: Mapping[str, Any], path: str | Path) -> None:
    """Compare the settings that change what a network computes but not its keys.

    Args:
        saved: settings in the checkpoint.
        expected: settings of this run; only these keys are compared.
        path: path of the checkpoint, for the message.

    Raises:
        WeightsError: listing each key that differs, or that the checkpoint lacks.
    """
    saved, expected = _renamed(saved), _renamed(expected)  # an old run's config has old names, too
    differences = [
        f"{key}: checkpoint {saved[key]!r}, configured {value!r}"
        if key in saved
        else f"{key}: not in the checkpoint, configured {value!r}"
        for key, value in expected.items()
        if key not in saved or _plain(saved[key]) != _plain(value)
    ]
    if differences:
        raise WeightsError(
            f"{path}: was trained with other settings ({'; '.join(differences)}); "
            "configure the checkpoint's, or give another checkpoint"
        )


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(str(name), str(name)): value for name, value in settings.items()}


def network_settings(path: str | Path) -> dict[str, Any] | None:
    """Settings saved with a checkpoint (``.pt``) or an export (``.ts``: its ``settings.json``, else the entry
    ``settings`` of its ``metadata.json``); None when it has none.

    Args:
        path: path of the checkpoint (``.pt``) or export (``.ts``).

    Raises:
        WeightsError: when the file can't be read.
    """
    settings = _saved(path).get("settings")
    if not isinstance(settings, Mapping) or not settings:
        return None
    return _renamed(settings)


def saved_setting(checkpoint: str | Path, name: str, default: Any = None) -> Any:
    """One of the settings that a network was trained with, for configs that take it from there.

    Args:
        checkpoint: path of a checkpoint or export, see `network_settings`.
        name: name of the setting.
        default: value where there is none.

    Returns:
        ``default`` where the file doesn't exist (a bundle without weights can still be inspected) or has no such entry.

    Raises:
        WeightsError: when the file can't be read.
    """
    path = Path(checkpoint)
    settings = (network_settings(path) or {}) if path.is_file() else {}
    return settings.get(name, default)


def saved_epoch(checkpoint: str | Path) -> float:
    """The epoch that a checkpoint was saved after, from 1; infinity where it isn't known (an export, no file), as for a
    network that was trained to the end.

    Args:
        checkpoint: path of a checkpoint or export, see `network_settings`.

    Raises:
        WeightsError: when the file can't be read.
    """
    content = _saved(checkpoint) if Path(checkpoint).is_file() else {}
    return float(content.get("epoch", content.get("trainer", {}).get("epoch", math.inf)))


def saved_settings(
    checkpoint: str | Path, defaults: Mapping[str, Any], ensemble: str | Path | None = None
) -> dict[str, Any]:
    """The settings that a network was trained with, for configs that take them from there.

    Args:
        checkpoint: path of one of our ``.pt`` files or an exported ``.ts``.
        defaults: name → value where the file doesn't exist (a bundle without weights can still be inspected) or
            has no such setting. Only these settings are returned.
        ensemble: path of a ``cross_validation.json`` to read in place of ``checkpoint``.

    Raises:
        WeightsError: when the checkpoint can't be read.
        DataError: when ``ensemble`` can't be read.
    """
    if ensemble is not None:
        record = read_json(ensemble)
        saved = record.get("settings") if isinstance(record, Mapping) else None  # what else is wrong: LoadCheckpoint
    else:
        saved = network_settings(checkpoint) if Path(checkpoint).is_file() else None
    saved = saved or {}
    return {name: saved.get(name, default) for name, default in defaults.items()}


def saved_thresholds(
    checkpoint: str | Path, level: str | None = None, default: Mapping[str, Any] | None = None
) -> list[float] | None:
    """Multi-label thresholds that were chosen on validation data and saved with a network.

    Args:
        checkpoint: path of one of our ``.pt`` files or an exported ``.ts``.
        level: unit of the decisions (``"volumes"``); thresholds for another unit don't fit. ``None`` accepts any.
        default: ``thresholds`` and ``thresholds_level`` where the file doesn't exist.

    Returns:
        least probability at which each class is predicted, in the order of the network's outputs; ``None`` where
        the file doesn't exist (a bundle without weights can still be inspected) and there is no default, holds none, or
        those of another level (this with a warning in the log).

    Raises:
        WeightsError: when the file can't be read.
    """
    path = Path(checkpoint)
    saved = _saved(path) if path.is_file() else dict(default or {})
    thresholds = saved.get("thresholds")
    if thresholds is None:
        return None
    if level is not None and saved.get("thresholds_level", level) != level:
        logger.warning("%s: its thresholds are for %s, not %s", path, saved["thresholds_level"], level)
        return None
    return [float(value) for value in thresholds]


def load_model(
    network: nn.Module,
    path: str | Path,
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Load one of our checkpoints for inference, completely or not at all.

    Args:
        network: receives the weights of a ``.pt``; not used for an exported ``.ts``, which brings its own.
        path: path of our ``.pt`` (weights under ``model``), a bare state dict, or an exported ``.ts``.
        settings: settings of this run, compared with the saved ones (see `compare_settings`); a file without
            settings is accepted with a warning in the log.
        device: name or `torch.device` to move the network to.

    Returns:
        The network on ``device``, in evaluation mode.

    Raises:
        WeightsError: when the file can't be read, its settings differ, or its tensors don't fit exactly.
    """
    path = Path(path)
    if is_torchscript(path):
        saved = network_settings(path)
        try:
            loaded: nn.Module = torch.jit.load(str(path), map_location=device)
        except RuntimeError as error:
            raise WeightsError(f"{path}: could not be loaded as TorchScript ({_first_line(error)})") from error
    else:
        checkpoint = read_checkpoint(path)
        saved = checkpoint.get("settings")
        loaded = network
    if settings:
        if saved:
            compare_settings(saved, settings, path)
        else:
            logger.warning("%s holds no settings: whether it was trained with %s is not known", path, dict(settings))
    if loaded is network:
        load_strictly(network, state_dict_of(checkpoint, path), path)
    return loaded.to(device).eval()


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Copy ``state`` into ``network``; every key and shape must fit, but for its ``ignored_prefixes``: dead parts of
    files from elsewhere.

    Raises:
        WeightsError: listing what is missing, unexpected or of another shape; the network is then unchanged.
    """
    network = unwrap(network)
    own = network.state_dict()
    dead = tuple(getattr(network, "ignored_prefixes", ()))
    state = {key: value for key, value in state.items() if not key.startswith(dead)}
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "other shape": [shape_note(k, state, own) for k in own if k in state and state[k].shape != own[k].shape],
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {first_names(keys)}" for what, keys in problems.items() if keys)
        raise WeightsError(f"{path}: does not fit {type(network).__name__} ({listed}); is it another architecture?")
    network.load_state_dict(state)


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without DataParallel, DistributedDataParallel or ``torch.compile`` around it."""
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def first_names(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def shape_note(key: str, state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    return f"{key} (file {tuple(state[key].shape)}, network {tuple(own[key].shape)})"


def _strip(key: str) -> str:
    parts = [part for part in str(key).split(".") if part != "_orig_mod"]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def _plain(value: Any) -> Any:
    # A tuple becomes a list on its way through JSON; that isn't a difference.
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def is_torchscript(path: Path) -> bool:
    """Whether a file is an export of TorchScript; False for what is no archive.

    Args:
        path: of a file.
    """
    return any(name.endswith("/constants.pkl") for name in _archive_names(path))


def _saved(path: str | Path) -> dict[str, Any]:
    """Entries of a checkpoint or an export beside the weights."""
    if not is_torchscript(Path(path)):
        return read_checkpoint(path)
    extra = _extra_files(Path(path))
    settings = extra.get("settings.json")
    return {**extra.get("metadata.json", {}), **({"settings": settings} if settings else {})}


def _archive_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def _extra_files(path: Path) -> dict[str, Any]:
    # Read from the archive itself: settings can then be read without loading the program.
    contents = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                folder, _, file = name.rpartition("/")
                if folder.endswith("/extra") and file in ("settings.json", "metadata.json"):
                    contents[file] = json.loads(archive.read(name))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(f"{path}: its settings could not be read ({_first_line(error)}); export it again") from error
    return {file: content for file, content in contents.items() if isinstance(content, dict)}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
