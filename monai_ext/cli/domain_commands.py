"""Commands that domains bring: one that several have begins with the name of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from monai_ext.task import Command

# These pass unknown options to the config as overrides, where misspelt ones are caught.
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


class _FirstByDefault(TyperGroup):
    """Without the name of a bundle, the first one is meant: the one that had the command before others did."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] != "--help":
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def add_command(app: typer.Typer, name: str, commands: Mapping[str, Command]) -> None:
    """Register a command, or a group of it for several bundles.

    Args:
        app: the application.
        name: of the command.
        commands: bundle → its command of that name, in the order in which they came.
    """
    target = app
    if len(commands) > 1:
        target = typer.Typer(cls=_FirstByDefault, no_args_is_help=True, help=f"{name} BUNDLE, see below.")
        app.add_typer(target, name=name)
    for bundle, command in commands.items():
        context = OVERRIDES if command.overrides else {"allow_extra_args": command.words}
        target.command(name if target is app else bundle, context_settings=context)(command.function)
