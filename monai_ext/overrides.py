"""Overrides and choices of a config, read and checked before anything runs: MONAI accepts misspelt ones in silence."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import read_json

# Keys of earlier configs → what they are now; what lay below the one lies below the other. ``*`` is any number.
_RENAMED = {
    "autocast_dtype": "autocast",
    "train#step#amp": "autocast#amp",
    "train#step#precision": "autocast#precision",
    "validate#evaluator#amp": "autocast#amp",
    "validate#evaluator#amp_kwargs": "autocast#precision",
    "validate#evaluator#iteration_update#amp": "autocast#amp",
    "validate#evaluator#iteration_update#precision": "autocast#precision",
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
    "metrics": "kinds",
    "outputs": "kinds",
}
_REFERENCE = re.compile(r"\$?@(?P<key>\w+(?:#\w+)*)(?:\['(?P<entry>\w+)'\])?")
_USE = re.compile(r"[@%]#*(\w+(?:(?:#|::)\w+)*)")
_CHOICE = re.compile(r"^\$@(?P<table>\w+)\[@(?P<setting>\w+)\]")


def check_overrides(config_file: str | Sequence[str], overrides: Iterable[str]) -> None:
    """Refuse overrides that match no key of the config; what ``python -m monai.bundle run`` accepts in silence.

    So are keys of the second and later files that nothing uses (`check_overlay`). A new argument of a component
    (``train#optimizer#amsgrad``) passes: the component itself checks its arguments.

    Args:
        config_file: one config file or several, merged in order.
        overrides: keys as on the command line, nested ones with ``#`` or ``::``.

    Raises:
        ConfigError: naming the key and the nearest one that exists.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(f=config_file)
    config = parser.get()
    for key in overrides:
        check_override(config, key)
    first, *later = [config_file] if isinstance(config_file, (str, Path)) else config_file
    for file in later:
        check_overlay(ConfigParser.load_config_files(first), config, file, ConfigParser.load_config_file(file))


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
    used = {reference.replace("::", "#") for text in _strings(merged) for reference in _USE.findall(text)}
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


def check_override(config: Mapping[str, Any], key: str) -> None:
    """One of `check_overrides`.

    Args:
        config: as read, not parsed.
        key: as on the command line, nested ones with ``#`` or ``::``.

    Raises:
        ConfigError: naming what the key is called now, or the nearest one.
    """
    parts = re.split(r"#|::", key.removeprefix("+"))
    successor = _successor(config, parts)
    if successor is not None:
        raise ConfigError(f"--{key}: is now --{successor}")
    node: Any = config
    for depth, part in enumerate(parts):
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif (depth == len(parts) - 1 and isinstance(node, Mapping) and "_target_" in node) or part == "_meta_":
            return
        else:
            known = [str(name) for name in node] if isinstance(node, Mapping) else []
            raise ConfigError(f"--{key}: the config has no {part!r}{_nearest(part, known)}")


def _successor(config: Mapping[str, Any], parts: Sequence[str]) -> str | None:
    """What a key that isn't in the config is called now; ``None`` where nothing has taken its place."""
    known, node = _existing(config, parts)
    if len(known) == len(parts):
        return None
    reference = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
    if reference and reference["key"] == "saved":
        return f"saved#defaults#{reference['entry']}"
    if reference:  # what is referred to was once described in place
        return "#".join(_existing(config, [*reference["key"].split("#"), *parts[len(known) :]])[0])
    for length in range(len(parts), 0, -1):
        old = "#".join("*" if part.isdigit() else part for part in parts[:length])
        new = _RENAMED.get(old, "").split("#")
        found, _ = _existing(config, [*new, *parts[length:]])
        if len(found) >= len(new):
            return "#".join(found)
    return None


def _existing(config: Any, parts: Sequence[str]) -> tuple[list[str], Any]:
    """The beginning of a key that the config has, and what stands there."""
    found: list[str] = []
    for part in parts:
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, Mapping) and part in config:
            config = config[part]
        else:
            break
        found.append(part)
    return found, config


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(sorted(known))}" if known else ""


def apply_dataset_settings(parser: Any, overrides: Iterable[str] = ()) -> None:
    """Put the settings of a data set into a config: those in the JSON file that its ``dataset_settings`` names.

    Args:
        parser: a `monai.bundle.ConfigParser`; its ``dataset_knobs`` lists what may stand in the file.
        overrides: keys that were given by hand, which count more than the file.

    Raises:
        ConfigError: naming the file, and the key that isn't one of ``dataset_knobs``.
        DataError: for a file that is missing or no JSON.
    """
    file = parser.get("dataset_settings")
    if file is None:
        return
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise ConfigError(f'--dataset_settings {file}: must hold settings by name, as in {{"image_size": 224}}')
    allowed = parser.get("dataset_knobs")
    for key in settings:
        if key not in allowed:
            raise ConfigError(f"--dataset_settings {file}: {key!r} isn't a setting of data{_nearest(key, allowed)}")
    by_hand = {key.removeprefix("+") for key in overrides}
    parser.update({key: value for key, value in settings.items() if key not in by_hand})


def check_choices(config: Any) -> None:
    """Check every ``"$@table[@setting]"`` of a config: the setting's value must be a key of the table.

    Raises:
        ConfigError: naming the setting, its value and what there is to choose from.
    """
    for expression in _strings(config):
        match = _CHOICE.match(expression)
        if match is None:
            continue
        table, value = config.get(match["table"]), config.get(match["setting"])
        if not isinstance(table, Mapping) or "_target_" in table:
            continue  # made when the config is instantiated: it has to check for itself
        if isinstance(value, str) and not value.startswith(("$", "@")) and value not in table:
            choices = ", ".join(table)
            raise ConfigError(
                f"--{match['setting']} {value}: unknown{_nearest(value, list(table))} (choices: {choices})"
            )


def _strings(node: Any) -> Iterable[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for item in node.values():
            yield from _strings(item)
    elif isinstance(node, list):
        for item in node:
            yield from _strings(item)


def resolved_settings(parser: Any) -> dict[str, Any]:
    """Resolved top-level settings of a config: numbers, words and short lists, not components.

    Args:
        parser: a `monai.bundle.ConfigParser` that has been parsed.
    """
    found: dict[str, Any] = {}
    for key, raw in parser.get().items():
        if key.startswith("_") or key in ("initialize", "run", "finalize"):
            continue
        value = raw
        if (isinstance(raw, str) and raw.startswith(("$", "@"))) or (isinstance(raw, Mapping) and "_target_" in raw):
            if not isinstance(raw, str) and not str(raw["_target_"]).startswith("monai_ext.workflow."):
                continue
            value = parser.get_parsed_content(key)
        if type(value).__name__ == "device":
            value = str(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            found[key] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(item, (bool, int, float, str)) for item in value):
            found[key] = list(value)
    return found


def parse_value(text: str) -> Any:
    """A number, ``True``, ``None``, list, dict or, failing that, the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_files(text: str) -> str | list[str]:
    """One config file or a list of them in brackets.

    Raises:
        ConfigError: for something else in brackets.
    """
    value = parse_value(text) if text.lstrip().startswith(("[", "(")) else text
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return list(value)
    if isinstance(value, str) and not value.lstrip().startswith(("[", "(")):
        return value
    raise ConfigError(f"--config_file {text}: give a path, or a list of paths like \"['a.json','b.json']\"")


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Pairs of ``--key value`` or ``--key=value``.

    Raises:
        ConfigError: for a key without a value, or a value without a key.
    """
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word!r}: expected --key value")
        key, separator, value = word[2:].partition("=")
        if not separator:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key}: has no value")
            value = rest.pop(0)
        found[key] = parse_value(value)
    return found


def find_bundle(bundle: str) -> Path:
    """The bundle's folder below the current one, or beside this package in a source checkout.

    Raises:
        ConfigError: naming the nearest bundle there is.
    """
    places = [Path("bundles"), Path(__file__).resolve().parents[1] / "bundles"]
    found = next((place / bundle for place in places if (place / bundle / "configs").is_dir()), None)
    if found is None:
        known = sorted({path.name for place in places if place.is_dir() for path in place.iterdir()})
        raise ConfigError(f"no bundle {bundle!r}{_nearest(bundle, known)}; or give its folder by --bundle_root")
    return found
