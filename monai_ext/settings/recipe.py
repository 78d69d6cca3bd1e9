"""The recipe of a config: all that decides on a run's numbers, as plain values; and what two recipes differ in."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monai_ext.settings.choices import chosen_entries
from monai_ext.settings.schema import is_computed
from monai_ext.settings.tree import existing, parts_of, strings

# What changes no number of a run, and so is no part of its recipe.
FREE = frozenset(
    (
        *("bundle_root", "output_dir", "cache_dir", "index_dir", "resume", "debug"),
        *("device", "val_device", "num_workers", "prefetch_factor", "cache_samples", "cache_bytes"),
        *("cuda_launch_blocking", "empty_cache_interval", "checkpointing", "is_not_rank0"),
        *("tracking_uri", "experiment_name", "run_name", "parent_run_id", "save_execute_config"),
        *("trackers", "log_model", "system_metrics", "register"),
        *("checkpoint_every", "plot_every", "previews", "keep_best"),
    )
)
# Where data lie: whether such a path is given counts; what is there is compared by the data's fingerprint.
PATHS = frozenset(
    (
        *("dataset_dir", "dataset_settings", "stage_dir", "cord_dir", "class_csv", "slices_dir", "train_dir"),
        *("valid_dir", "train_labels", "valid_labels", "metadata", "train_metadata", "valid_metadata"),
    )
)
# What a resumed run may change: it holds from the next epoch on, and is recorded with that epoch.
APPLIED = frozenset(
    (
        *("max_epochs", "early_stopping_patience", "early_stopping_min_epochs", "val_interval"),
        *("amp", "precision", "tf32", "channels_last"),
        *("train#step#nonfinite_limit", "train#step#on_oom"),
    )
)
# What the first epoch begins with, and no later one asks for.
BEGINNING = frozenset(("pretrained_path", "fresh_targets"))

_ABSENT = "not there"
_PATH = "(a path)"
_ITEMS = "(a data list)"


class Difference(NamedTuple):
    """A value that two recipes don't share.

    Args:
        key: names of the config joined by ``#``, as on the command line.
        old, new: plain values; the text ``"not there"`` where there is none.
    """

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} → {_shown(self.new)}"


def recipe_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a merged config: components and settings that are in use, without paths, data and Python objects.

    References to plain values are replaced by these; those to components, expressions, settings that may change in a
    resumed run and the fold stay as they are written. Nothing is instantiated or evaluated. Weights to begin with count
    by their content.

    Args:
        config: of a bundle, with all overrides, not parsed.

    Returns:
        Plain values by key, nested, the same for the same content however it came together.
    """
    whole = set(strings(config))
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name in FREE or name.startswith("_") or name == "imports":
            continue
        if name in PATHS:
            found[name] = value if value is None else _PATH
            continue
        if name == "pretrained_path":
            value = _content(value)
        found[name] = _plain(value, config)
    for table, settings in chosen_entries(config).items():
        chosen = list(settings.values())
        if table in found and f"@{table}" not in whole and all(name in config[table] for name in chosen):
            found[table] = {name: found[table][name] for name in chosen}
    content: dict[str, Any] = json.loads(json.dumps(found))
    return content


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """A short text that equal recipes share, whatever their folds.

    Args:
        recipe: from `recipe_of`.
    """
    content = {name: value for name, value in recipe.items() if name != "fold"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """What differs between two recipes, by key.

    Args:
        old: from `recipe_of`.
        new: from `recipe_of`.
    """
    before, now = dict(_leaves(old)), dict(_leaves(new))
    keys = sorted(before.keys() | now.keys())
    found = (Difference(key, before.get(key, _ABSENT), now.get(key, _ABSENT)) for key in keys)
    return [one for one in found if one.old != one.new or isinstance(one.old, bool) != isinstance(one.new, bool)]


def refused(found: Iterable[Difference]) -> list[Difference]:
    """Those that a resumed run can't take, the settings rather than what refers to them."""
    wrong = [one for one in found if _kind(one.key) is None]
    return [one for one in wrong if not any(_repeats(one, other) for other in wrong)]


def _repeats(one: Difference, other: Difference) -> bool:
    """Whether a difference is that of a setting, or of what is below one, where something refers to it."""
    if (repr(one.old), repr(one.new)) != (repr(other.old), repr(other.new)):
        return False
    return ("#" in one.key and "#" not in other.key) or one.key.endswith(f"#{other.key}")


def applied(found: Iterable[Difference]) -> list[Difference]:
    """Those that a resumed run takes from its next epoch on."""
    return [one for one in found if _kind(one.key) is APPLIED]


def _kind(key: str) -> frozenset[str] | None:
    """The table above that a key, or one above it, is in."""
    parts = key.split("#")
    above = {"#".join(parts[: count + 1]) for count in range(len(parts))}
    return next((table for table in (FREE, PATHS, APPLIED, BEGINNING) if table & above), None)


def _plain(value: Any, config: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part, config) for name, part in value.items() if name != "_desc_"}
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], Mapping) and "case" in value[0]:
            return _ITEMS
        return [_plain(part, config) for part in value if not _is_tracker(part)]
    if isinstance(value, str):
        return _referred(value, config)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return f"{type(value).__module__}.{type(value).__qualname__}"  # whatever a Python caller put there


def _referred(text: str, config: Mapping[str, Any]) -> Any:
    """The plain value that a text ``@key`` refers to, or the text."""
    value: Any = text
    while isinstance(value, str) and value.startswith("@"):
        parts = parts_of(value[1:])
        if parts == ["fold"] or _kind("#".join(parts)) is not None:
            return value
        known, value = existing(config, parts)
        if len(known) < len(parts):
            return text
    if is_computed(value):
        return text
    return value if isinstance(value, str) else _plain(value, config)


def _content(file: Any) -> Any:
    """What is in a file of weights, wherever it lies; its path where there is none (who loads it says so)."""
    if not isinstance(file, str) or not Path(file).is_file():
        return file
    with open(file, "rb") as stream:
        return f"weights {hashlib.file_digest(stream, 'sha256').hexdigest()[:16]}"


def _is_tracker(part: Any) -> bool:
    """MONAI's own handler, which ``--tracking mlflow`` adds."""
    return isinstance(part, Mapping) and str(part.get("_target_")).endswith("MLFlowHandler")


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    entries: Any = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    below = [leaf for name, part in entries for leaf in _leaves(part, f"{key}#{name}" if key else str(name))]
    # A list of numbers or words is one value.
    if not below or (isinstance(node, list) and not any(isinstance(part, (Mapping, list)) for part in node)):
        return iter([(key, node)])
    return iter(below)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
