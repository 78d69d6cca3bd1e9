"""Settings of bundles: what they may be, how a config and a command line give them, and how they are checked."""

from typing import Any

from monai_ext.lazy import lazy_name

_NAMES = {
    "check_choices": ".choices",
    "check_components": ".components",
    "check_override": ".keys",
    "check_overrides": ".keys",
    "check_resume": ".resuming",
    "changes_since": ".resuming",
    "find_bundle": ".command_line",
    "parse_files": ".command_line",
    "parse_overrides": ".command_line",
    "parse_value": ".command_line",
    "recipe_key": ".recipe",
    "recipe_of": ".recipe",
    "read_bundle_config": ".reading",
    "resolved_settings": ".reading",
    "settings_schema": ".schema",
    "settle": ".schema",
    "settle_config": ".reading",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    return lazy_name(__name__, _NAMES, name)
