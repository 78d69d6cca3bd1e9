"""Training folders of several classifiers that share one network: items of all, classes by ``<stage>/<class>``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.left_out import Found
from monai_ext.heads import head_class_names, heads_of
from monai_ext.spine.class_folders import class_items, class_names

SHARING = ("anatomy", "location_view", "sequence")


def shared_classes(folder: str | Path, stages: Sequence[str] = SHARING) -> list[str]:
    """``<stage>/<class>`` of all stages, in the order of ``stages`` and of `class_names`.

    Args:
        folder: folder of the stages' folders.
        stages: names of the stages.

    Raises:
        DataError: when a stage has no folder, or fewer than two classes in it.
    """
    return [f"{stage}/{name}" for stage in stages for name in class_names(Path(folder) / stage)]


def shared_items(folder: str | Path, classes: Sequence[str]) -> Found[dict[str, Any]]:
    """The slices of all stages in ``classes``; ``case`` begins with the stage, ``label`` is a position in ``classes``.

    Args:
        folder: folder of the stages' folders.
        classes: see `shared_classes`.

    Returns:
        Items as the package's docstring lists them.

    Raises:
        ConfigError: for a class without a stage.
        DataError: see `class_items`.
    """
    names = head_class_names(classes)
    items: Found[dict[str, Any]] = Found()
    for stage, positions in heads_of(classes).items():
        own = class_items(Path(folder) / stage, names[stage])
        items += [{**item, "case": f"{stage}/{item['case']}", "label": positions.start + item["label"]} for item in own]
        items.unused += own.unused
    return items
