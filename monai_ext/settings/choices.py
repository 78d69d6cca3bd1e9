"""Choices by name: tables in a config, and the settings that choose from them (``"$@losses[@loss]"``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.settings.names import nearest
from monai_ext.settings.tree import strings

_CHOICE = re.compile(r"^\$@(?P<table>\w+)\[@(?P<setting>\w+)\]")


def choices(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Settings that choose from a table in the config, with the names in it.

    Args:
        config: as read, not parsed.
    """
    return {setting: list(config[table]) for table, settings in chosen_entries(config).items() for setting in settings}


def chosen_entries(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tables of a config, each with the settings that choose from it and their values.

    Args:
        config: as read, not parsed.
    """
    found: dict[str, dict[str, Any]] = {}
    for expression in strings(config):
        match = _CHOICE.match(expression)
        # A table that is made when the config is instantiated has to check for itself.
        if match and isinstance(config.get(match["table"]), Mapping) and "_target_" not in config[match["table"]]:
            found.setdefault(match["table"], {})[match["setting"]] = config.get(match["setting"])
    return found


def check_choices(config: Mapping[str, Any]) -> None:
    """Check every ``"$@table[@setting]"`` of a config: the setting's value must be a key of the table.

    Args:
        config: as read, not parsed.

    Raises:
        ConfigError: naming the setting, its value and the choices.
    """
    for table, settings in chosen_entries(config).items():
        for setting, value in settings.items():
            if isinstance(value, str) and not value.startswith(("$", "@")) and value not in config[table]:
                names = list(config[table])
                raise ConfigError(f"--{setting} {value}: unknown{nearest(value, names)} (choices: {', '.join(names)})")
