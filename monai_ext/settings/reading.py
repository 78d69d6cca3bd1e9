"""A bundle's config as a run reads it: files merged, settings applied, converted and checked."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import read_json
from monai_ext.settings.choices import check_choices
from monai_ext.settings.components import check_components, converted_arguments
from monai_ext.settings.keys import check_effect, check_overrides, root_of
from monai_ext.settings.names import nearest
from monai_ext.settings.schema import Rule, computed_value, is_computed, settings_schema, settle
from monai_ext.settings.tree import nodes


def read_bundle_config(
    config_file: str | Sequence[str],
    settings: Mapping[str, Any],
    bundle_root: str | Path | None = None,
) -> Any:
    """Read a bundle's config for Python, as ``python -m monai.bundle run`` reads it.

    Args:
        config_file: one config file or several, merged in order.
        settings: by key as on the command line, nested ones with ``#`` or ``::``.
        bundle_root: folder of the bundle; the one above the first file's by default.

    Returns:
        A parsed `monai.bundle.ConfigParser`.

    Raises:
        ConfigError: for a key that the config doesn't have, a value that isn't allowed, or a component that doesn't
            take its arguments.
    """
    from monai.bundle import ConfigParser

    root = bundle_root or root_of(config_file)
    check_overrides(config_file, settings, root)
    parser = ConfigParser()
    parser.read_config(f=config_file)
    settings = {"bundle_root": str(root), **copy.deepcopy(dict(settings))}
    parser.update(settings)
    keep_hash(parser, config_file, settings)
    settle_config(parser, root, settings)
    parser.parse()
    return parser


def keep_hash(parser: Any, config_file: str | Sequence[str], settings: Mapping[str, Any]) -> None:
    """Keep ``#`` in plain texts, such as a folder's name: MONAI would turn it into ``::`` and go on elsewhere.

    Such a text becomes an expression that gives it.

    Args:
        parser: a `monai.bundle.ConfigParser` with the files and the settings in it.
        config_file: one config file or several, merged in order.
        settings: by key, as they were given.
    """
    from monai.bundle import ConfigParser

    given = {key.removeprefix("+"): value for key, value in settings.items()}
    for place, text in [
        *nodes(ConfigParser.load_config_files(config_file)),
        *(found for key, value in given.items() for found in nodes(value, key)),
    ]:
        if not isinstance(text, str) or "#" not in text or is_computed(text) or place not in parser:
            continue
        if parser[place] in (text, text.replace("#", "::")):
            # Nor may the parser put anything in place of a relative id: a key of the config can be code.
            parser[place] = "$" + repr(text).replace("#", r"\x23").replace("@", r"\x40").replace("%", r"\x25")


def settle_config(parser: Any, bundle_root: str | Path, by_hand: Iterable[str]) -> None:
    """Convert and check all settings and components of a config, in place, before anything is made of it.

    Args:
        parser: a `monai.bundle.ConfigParser`.
        bundle_root: folder of the bundle, whose ``configs/settings.json`` says what is allowed.
        by_hand: names of settings that count more than those of a data set's file.

    Raises:
        ConfigError: see `read_bundle_config`.
    """
    schema = settings_schema(bundle_root)
    _settle_values(parser, schema)
    if parser.get("dataset_settings") is not None:
        put_dataset_settings(parser, schema, by_hand)
        _settle_values(parser, schema)
    config = parser.get()
    check_choices(config)
    check_effect(config, by_hand)
    for place, value in converted_arguments(config).items():
        parser[place] = value
    check_components(config)


def _settle_values(parser: Any, schema: Mapping[str, Rule]) -> None:
    config = parser.get()
    for name, value in settle(schema, config).items():
        if value is not config[name]:
            parser[name] = value


def put_dataset_settings(parser: Any, schema: Mapping[str, Rule], by_hand: Iterable[str] = ()) -> None:
    """Put the settings of a data set into a config: those in the JSON file that its ``dataset_settings`` names.

    Args:
        parser: a `monai.bundle.ConfigParser`.
        schema: the bundle's settings; those with ``"x-dataset": true`` may be in the file.
        by_hand: keys given on the command line, which take precedence over the file.

    Raises:
        ConfigError: naming the file, and the key that isn't a setting of data.
        DataError: for a file that is missing or no JSON.
    """
    file = computed_value(parser.get("dataset_settings"))
    if file is None:
        return
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise ConfigError(f'--dataset_settings {file}: must hold settings by name, as in {{"image_size": 224}}')
    allowed = [name for name, rule in schema.items() if rule.get("x-dataset")]
    for key in settings:
        if key not in allowed:
            raise ConfigError(f"--dataset_settings {file}: {key!r} isn't a setting of data{nearest(key, allowed)}")
    given = {key.removeprefix("+") for key in by_hand}
    parser.update({key: value for key, value in settings.items() if key not in given})


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
