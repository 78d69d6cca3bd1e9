"""A bundle's config as a run reads it: files merged, settings applied, converted and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.overrides import apply_dataset_settings, check_choices, check_override
from monai_ext.settings.components import check_components
from monai_ext.settings.schema import settings_schema, settle


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

    first = config_file if isinstance(config_file, str) else config_file[0]
    root = bundle_root or Path(first).absolute().parent.parent
    parser = ConfigParser()
    parser.read_config(f=config_file)
    for key in settings:
        check_override(parser.get(), key)
    parser.update({"bundle_root": str(root), **settings})
    settle_config(parser, root, settings)
    parser.parse()
    return parser


def settle_config(parser: Any, bundle_root: str | Path, by_hand: Iterable[str]) -> None:
    """Convert and check all settings and components of a config, in place, before anything is made of it.

    Args:
        parser: a `monai.bundle.ConfigParser`.
        bundle_root: folder of the bundle, whose ``configs/settings.json`` says what is allowed.
        by_hand: names of settings that count more than those of a data set's file.

    Raises:
        ConfigError: see `read_bundle_config`.
    """
    apply_dataset_settings(parser, by_hand)
    config = parser.get()
    for name, value in settle(settings_schema(bundle_root), config).items():
        if value is not config[name]:
            parser[name] = value
    check_choices(config)
    check_components(config)
