"""Whether a run can go on with a recipe, and what changes in it then."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import read_json
from monai_ext.runs import record_of
from monai_ext.settings.recipe import Difference, applied, differences, refused
from monai_ext.settings.schema import is_computed

RECIPE = "config/recipe.json"


def check_resume(run: str | Path, recipe: Mapping[str, Any]) -> None:
    """Refuse to go on in a run with another recipe; what may change is listed in `monai_ext.settings.recipe`.

    Args:
        run: run folder; it is only read.
        recipe: of the config at hand, see `monai_ext.settings.recipe_of`.

    Raises:
        ConfigError: with each value that differs, and the way out.
    """
    wrong = refused(_since(run, recipe))
    if not (Path(run) / RECIPE).is_file():
        logging.getLogger("monai_ext").warning(
            "--resume %s: the run is of an earlier version, which recorded no recipe: its settings are compared; "
            "augmentations, losses and metrics are today's (CHANGELOG.md says what has changed)",
            run,
        )
    if wrong:
        best = Path(run) / (record_of(run).get("best_checkpoint", "checkpoints/best.pt") or "checkpoints/last.pt")
        raise ConfigError(
            f"--resume {run}: the run was made with another recipe ({'; '.join(map(str, wrong))}); give its values "
            f"again, or leave --resume out and begin a new run with --pretrained_path {best}"
        )


def changes_since(run: str | Path, recipe: Mapping[str, Any], epoch: int) -> list[dict[str, Any]]:
    """What a resumed run does otherwise from an epoch on, for its record.

    Args:
        run: run folder, still with its recipe of before.
        recipe: of the config at hand.
        epoch: number of the next epoch, from 1.

    Returns:
        ``{"from_epoch", "setting", "old", "new"}`` for each value.
    """
    found = applied(_since(run, recipe))
    return [{"from_epoch": epoch, "setting": one.key, "old": one.old, "new": one.new} for one in found]


def _since(run: str | Path, recipe: Mapping[str, Any]) -> list[Difference]:
    """Differences from a run's recipe; from its top-level settings alone where it is of an earlier version."""
    file = Path(run) / RECIPE
    if file.is_file():
        return differences(read_json(file), recipe)
    known = record_of(run).get("parameters") or {}
    both = [name for name, value in recipe.items() if name in known and not is_computed(value)]
    return differences({name: known[name] for name in both}, {name: recipe[name] for name in both})
