"""``settings``: what can be set in a bundle, with defaults and what is allowed."""

from __future__ import annotations

from typing import Annotated

import typer


def settings(
    bundle: Annotated[str, typer.Argument(help="Name of a bundle, such as one of bundles/, or its folder.")],
    word: Annotated[
        str | None, typer.Argument(help="Only settings with this in name, description or an original's name.")
    ] = None,
) -> None:
    """Print the settings of a bundle: name, default, allowed values, meaning."""
    import shutil
    from pathlib import Path

    from monai_ext.errors import ConfigError
    from monai_ext.settings import find_bundle, settings_schema
    from monai_ext.settings.listing import listed_settings, settings_table, stages_note
    from monai_ext.settings.names import nearest_setting

    is_folder = (Path(bundle) / "configs").is_dir()
    root = Path(bundle) if is_folder else find_bundle(bundle, advice="or give its folder")
    listed = listed_settings(root)
    chosen = [setting for setting in listed if word is None or setting.is_about(word)]
    if word is not None and not chosen:
        hint = nearest_setting(word, [setting.name for setting in listed], settings_schema(root))
        raise ConfigError(f"settings {bundle}: none has {word!r} in its name or description{hint}")
    typer.echo(settings_table(chosen, shutil.get_terminal_size((100, 24)).columns))
    note = stages_note(chosen)
    if note:
        typer.echo(f"\n{note}")
