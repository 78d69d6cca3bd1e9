"""Keys of a config that overrides name, checked before anything runs: MONAI accepts misspelt ones in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.settings.choices import chosen_entries
from monai_ext.settings.names import nearest, nearest_setting
from monai_ext.settings.schema import Rule, is_computed, settings_schema
from monai_ext.settings.tree import existing, parts_of, strings

# Keys of earlier configs → their successors; what was below the one is below the other. ``*`` is any number.
_RENAMED = {
    "autocast_dtype": "autocast",
    "train#step#amp": "autocast#amp",
    "train#step#precision": "autocast#precision",
    "validate#evaluator#amp": "autocast#amp",
    "validate#evaluator#amp_kwargs": "autocast#precision",
    "validate#evaluator#iteration_update#amp": "autocast#amp",
    "validate#evaluator#iteration_update#precision": "autocast#precision",
    **{
        f"initialize#*#{name}": f"initialize#1#{name}"
        for name in ("seed", "device", "distributed", "cuda_launch_blocking", "independent", "tf32")
    },
    "splits": "items",
    "train#handlers#*#outputs": "predictions",
    "train#handlers#*#outputs#parts": "predictions#instances",
    "handlers#*#calibration": "predictions#calibration",
    "handlers#*#cases": "predictions#cases",
    "handlers#*#class_names": "predictions#class_names",
    "handlers#*#part_columns": "predictions#instance_columns",
    "handlers#*#parts": "predictions#instances",
    "handlers#*#threshold": "predictions#threshold",
    "handlers#*#thresholds": "predictions#thresholds",
    "metrics#classification#f1": "kinds#classification",
    "metrics#segmentation#dice": "kinds#segmentation",
    "dataset_knobs": "dataset_settings",
    "network": "architecture",
    "network_settings#network": "network_settings#architecture",
    "trained_network": "network",
    "initialize#*#network": "initialize#2#architecture",
    "inferer": "zarr_inferer",
    **{
        f"inferer#{name}": f"cascade#{name}"
        for name in ("stages", "admit", "thresholds", "vote", "min_slices", "min_cord_area", "min_lesion_size")
    },
    "metrics": "kinds",
    "outputs": "kinds",
}
_USE = re.compile(r"[@%]#*(\w+(?:(?:#|::)\w+)*)")
# An optimizer's groups of parameters have rates of their own.
_OVERRULED = {"optimizers#*#lr": "lr"}
# What is trained, on what, and what is kept of that: must agree with the settings that are recorded.
_RECORDED = {"inferer", "items", "network_settings", "run_folder", "train"}
_REFERENCE = re.compile(r"\$?@(?P<key>\w+(?:#\w+)*)(?:\['(?P<entry>\w+)'\])?")


def check_overrides(
    config_file: str | Sequence[str], overrides: Iterable[str], bundle_root: str | Path | None = None
) -> None:
    """Refuse overrides that match no key of the config; ``python -m monai.bundle run`` accepts them in silence.

    So are keys of the second and later files that nothing uses, see `check_overlay`.
    A new argument of a component (``train#optimizer#amsgrad``) passes, see `monai_ext.settings.check_components`; a new
    entry of a table of choices (``losses#mine``) does, too.

    Args:
        config_file: one config file or several, merged in order.
        overrides: keys as on the command line, nested ones with ``#`` or ``::``.
        bundle_root: folder of the bundle; the one above the first file's by default.

    Raises:
        ConfigError: naming the key and the nearest one that exists.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(f=config_file)
    schema = settings_schema(bundle_root or root_of(config_file))
    for key in overrides:
        check_override(parser.get(), key, schema)
        check_reference(parser.get(), key, schema)
    first, *later = [config_file] if isinstance(config_file, (str, Path)) else config_file
    for file in later:
        below, overlay = ConfigParser.load_config_files(first), ConfigParser.load_config_file(file)
        check_overlay(below, parser.get(), file, overlay)
        for key in _nested_keys(overlay):
            check_reference(below, key, schema, f"{file}: {key!r}")


def check_overlay(
    first: Mapping[str, Any], merged: Mapping[str, Any], file: str | Path, overlay: Iterable[str]
) -> None:
    """Refuse a key of an overlay that the first file doesn't have and nothing refers to: it would change nothing.

    Keys that begin with an underscore are remarks, and ``imports`` is for the expressions.

    Args:
        first: content of the file that the overlay changes, not parsed.
        merged: content of all files, not parsed.
        file: the overlay, for the message.
        overlay: its keys.

    Raises:
        ConfigError: naming the file, the key and the nearest one that exists.
    """
    used = {reference.replace("::", "#") for text in strings(merged) for reference in _USE.findall(text)}
    for key in overlay:
        name = key.removeprefix("+")
        below = name.replace("::", "#") + "#"
        if name.startswith("_") or name == "imports":
            continue
        if any(below.startswith(f"{reference}#") or reference.startswith(below) for reference in used):
            continue
        try:
            check_override(first, name)
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"--{name}:", f"{file}: {key!r}:", 1)) from None


def check_reference(config: Mapping[str, Any], key: str, schema: Mapping[str, Rule], shown: str | None = None) -> None:
    """Refuse to override a nested key in which a setting is used, where the record would still show the setting.

    So is what decides on data, training and run folder, and the only place where a setting is used; a validation with
    another batch size than training is fine.

    Args:
        config: as read, not parsed, without the override.
        key: as on the command line, nested ones with ``#`` or ``::``.
        schema: the bundle's settings.
        shown: the key for the message.

    Raises:
        ConfigError: naming the setting to give.
    """
    from monai_ext.settings.recipe import FREE  # which needs this module

    parts = parts_of(key)
    known, node = existing(config, parts)
    setting = node[1:] if isinstance(node, str) and node.startswith("@") else None
    if len(known) < len(parts) or len(parts) == 1 or setting not in schema or setting in FREE:
        return
    others = [value for name, value in config.items() if name not in (parts[0], "network_settings")]
    elsewhere = any(re.search(rf"@{setting}\b", text) for text in strings(others))
    if parts[0] in _RECORDED or not elsewhere:
        raise ConfigError(f"{shown or f'--{key}'}: is --{setting}, which would be recorded as it was; give --{setting}")


def _nested_keys(overlay: Mapping[str, Any]) -> Iterable[str]:
    """Keys that an overlay changes below those of the first file: written with ``#``, or merged by ``+``."""
    for key, value in overlay.items():
        if key.startswith("+") and isinstance(value, Mapping):
            yield from (f"{key[1:]}#{below}" for below in _leaves(value))
        elif len(parts_of(key)) > 1:
            yield key


def _leaves(node: Mapping[str, Any]) -> Iterable[str]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from (f"{name}#{below}" for below in _leaves(value))
        else:
            yield str(name)


def root_of(config_file: str | Path | Sequence[str]) -> Path:
    """Folder of the bundle that a config file, or the first of several, belongs to."""
    first = config_file if isinstance(config_file, (str, Path)) else config_file[0]
    return Path(first).absolute().parent.parent


def check_override(config: Mapping[str, Any], key: str, schema: Mapping[str, Rule] | None = None) -> None:
    """Check one override, see `check_overrides`.

    Args:
        config: as read, not parsed.
        key: as on the command line, nested ones with ``#`` or ``::``.
        schema: the bundle's settings, whose other names are known.

    Raises:
        ConfigError: naming the key's successor, or the nearest key.
    """
    parts = parts_of(key)
    successor = _successor(config, parts)
    if successor is not None:
        raise ConfigError(f"--{key}: is now --{successor}")
    known, node = existing(config, parts)
    if len(known) == len(parts):
        return
    depth, part, above = len(known), parts[len(known)], "#".join(known)
    if part == "_meta_" or _may_be_new(config, parts, depth, node):
        return
    if _names_entries((schema or {}).get(parts[0], {}), parts[1 : depth + 1]):
        if depth < len(parts) - 1:
            raise ConfigError(f"--{key}: {above} has no {part!r}; give --{above}#{part} with all it needs")
        return
    if depth == 0:
        raise ConfigError(f"--{key}: is no setting{nearest_setting(part, config, schema or {})}")
    if isinstance(node, Mapping):
        raise ConfigError(f"--{key}: the config has no {part!r}{nearest(part, [str(name) for name in node])}")
    if isinstance(node, list):
        raise ConfigError(f"--{key}: {above} has {len(node)} entries, numbered from 0")
    raise ConfigError(f"--{key}: {above} is computed ({node}) and has nothing below it; give --{above} itself")


def _may_be_new(config: Mapping[str, Any], parts: Sequence[str], depth: int, node: Any) -> bool:
    """Whether the last part of a key may be new: an argument of a component, or an entry of a table of choices."""
    if depth < len(parts) - 1 or not isinstance(node, Mapping):
        return False
    return "_target_" in node or (depth == 1 and parts[0] in chosen_entries(config))


def _names_entries(rule: Rule, parts: Sequence[str]) -> bool:
    """Whether a setting may have an entry of this name, which its defaults needn't have."""
    for part in parts:
        rule = rule.get("properties", {}).get(part, rule.get("additionalProperties"))
        if rule is None:
            return False
    return bool(parts)


def check_effect(config: Mapping[str, Any], overrides: Iterable[str]) -> None:
    """Refuse overrides that would change nothing: below an entry that isn't chosen, or overruled by a setting.

    Args:
        config: with all overrides in it, not parsed.
        overrides: keys as on the command line.

    Raises:
        ConfigError: naming the setting to use.
    """
    network = config.get("network")
    if isinstance(network, str) and not is_computed(network):
        said = f"is now --architecture {network}" if "architecture" in config else "is the trained network, not a name"
        raise ConfigError(f"--network {network}: {said}")
    chosen = chosen_entries(config)
    for pattern, ruling in _OVERRULED.items():  # from a file, too
        table, _, name = pattern.split("#")
        for entry in chosen.get(table, {}).values():
            below = config[table].get(entry)
            if ruling in config and isinstance(below, Mapping) and name in below and not is_computed(below[name]):
                key = f"{table}#{entry}#{name}"
                raise ConfigError(f"--{key}: changes nothing, as --{ruling} overrules it; give --{ruling}")
    for key in overrides:
        parts = parts_of(key)
        setting = _OVERRULED.get("#".join([parts[0], "*", *parts[2:]]))
        if setting in config:
            raise ConfigError(f"--{key}: changes nothing, as --{setting} overrules it; give --{setting}")
        if len(parts) > 1 and parts[0] in chosen and parts[1] not in chosen[parts[0]].values():
            others = " and ".join(f"--{name} is {value}" for name, value in chosen[parts[0]].items())
            name = next(iter(chosen[parts[0]]))
            raise ConfigError(f"--{key}: changes nothing, as {others}; add --{name} {parts[1]}")


def _successor(config: Mapping[str, Any], parts: Sequence[str]) -> str | None:
    """The successor of a key that isn't in the config; ``None`` where it has none."""
    known, node = existing(config, parts)
    if len(known) == len(parts):
        return None
    reference = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
    if reference and reference["key"] == "saved":
        return f"saved#defaults#{reference['entry']}"
    if reference:  # what is referred to was once described in place
        return "#".join(existing(config, [*reference["key"].split("#"), *parts[len(known) :]])[0])
    for length in range(len(parts), 0, -1):
        old = "#".join("*" if part.isdigit() else part for part in parts[:length])
        new = _RENAMED.get(old, "").split("#")
        found, _ = existing(config, [*new, *parts[length:]])
        if len(found) >= len(new):
            return "#".join(found)
    return None
