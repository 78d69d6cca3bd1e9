"""Class ids of a dataset (from 1, with gaps) and the labels of a network (from 0, without)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.io import read_json
from monai_ext.networks import network_settings
from monai_ext.nuclei.indexing import NucleiIndex
from monai_ext.nuclei.scan import Nucleus

logger = logging.getLogger(__name__)

# Plain lists, because it is saved in checkpoints: [[class_id, class_name], ...], by ascending id; the label is the
# position.
ClassMap = list[list[Any]]
UNCLASSIFIED = (19, "Unclassified")
PUBLISHED: ClassMap = [[number, f"class_{number}"] for number in range(1, 19)]


def class_map(
    index: NucleiIndex,
    class_ids: Sequence[int] | None = None,
    excluded_classes: Sequence[int | str] = UNCLASSIFIED,
) -> ClassMap:
    """The classes to predict: [[class_id, class_name], ...] by ascending id; the label is the position, from 0.

    Args:
        index: the samples; those without a class are not counted.
        class_ids: the only classes to use; None for all.
        excluded_classes: ids, or names (upper or lower case), to leave out; by default the unclassified nuclei.

    Raises:
        ConfigError: for an id in ``class_ids`` that no sample has.
        DataError: when fewer than two classes are left.
    """
    samples = [sample for sample in index.samples if sample.class_id is not None]
    counts = Counter((sample.class_id, sample.class_name) for sample in samples)
    present = sorted(number for number, _ in counts if number is not None)
    unknown = [number for number in class_ids or () if number not in present]
    if unknown:
        raise ConfigError(f"class_map: class_ids {unknown} have no sample; there are {present}")
    kept: ClassMap = []
    for (number, name), count in sorted(counts.items(), key=lambda entry: entry[0][0] or 0):
        excluded = is_excluded(number, name, excluded_classes)
        if excluded or (class_ids is not None and number not in class_ids):
            reason = "excluded" if excluded else "not in class_ids"
            logger.info("class %s %r is left out with its %d samples (%s)", number, name, count, reason)
        else:
            kept.append([number, name])
    if len(kept) < 2:
        raise DataError(f"class_map: {len(kept)} classes are left of {present}; a classifier needs at least 2")
    return kept


def is_excluded(number: int | None, name: str | None, excluded_classes: Sequence[int | str]) -> bool:
    """Whether a class is listed by its id or by its name, in upper or lower case."""
    return number in excluded_classes or str(name).lower() in {str(entry).lower() for entry in excluded_classes}


def saved_class_map(
    checkpoint: str | Path, ensemble: str | Path | None = None, default: ClassMap | None = None
) -> ClassMap:
    """The class map that a network was trained with.

    Args:
        checkpoint: one of our checkpoints or exports.
        ensemble: a ``cross_validation.json`` to read instead.
        default: returned while the checkpoint doesn't exist (a bundle inspected without weights; running it is an error
            of `monai_ext.handlers.LoadCheckpoint`), and, with a warning in the log, for one without settings (a bare
            state dict); None for the ids 1 to 18 of the published data.

    Returns:
        [[class_id, class_name], ...] in the order of the labels.

    Raises:
        WeightsError: when the checkpoint can't be read, or has settings, but no classes among them.
        DataError: when ``ensemble`` can't be read.
    """
    source = Path(ensemble) if ensemble is not None else Path(checkpoint)
    if ensemble is not None:
        settings = read_json(source).get("settings")
    else:
        settings = network_settings(source) if source.is_file() else None
        if settings is None:
            published = [list(entry) for entry in (PUBLISHED if default is None else default)]
            if source.is_file():
                names = ", ".join(class_names(published))
                logger.warning("%s holds no settings: its outputs are taken for the classes %s", source, names)
            return published
    classes: Any = (settings or {}).get("classes")
    if not _is_class_map(classes):
        raise WeightsError(
            f"{source}: has no classes among its settings, so its outputs can't be named; use a checkpoint or export "
            "of this bundle's own training"
        )
    return [[int(number), str(name)] for number, name in classes]


def class_names(class_map: ClassMap) -> list[str]:
    """Class names in the order of the labels.

    Args:
        class_map: [[class_id, class_name], ...], see `class_map`.
    """
    return [name for _, name in class_map]


def label_of(sample: Nucleus, class_map: ClassMap) -> int | None:
    """The label from 0, or None when the sample's class (id and name) isn't in the map."""
    entry = [sample.class_id, sample.class_name]
    return class_map.index(entry) if entry in class_map else None


def warn_of_other_names(index: NucleiIndex, class_map: ClassMap) -> None:
    """Log classes whose id is in the map under another name: their samples count as unlabelled."""
    names: dict[Any, str] = dict(class_map)
    for number, name in sorted({(s.class_id, s.class_name) for s in index.samples if s.class_id in names}):
        if names[number] != name:
            logger.warning(
                "class %s is %r in the data and %r in the class map; its samples count as unlabelled",
                *(number, name, names[number]),
            )


def _is_class_map(classes: Any) -> bool:
    return (
        isinstance(classes, list | tuple)
        and len(classes) > 1
        and all(isinstance(entry, list | tuple) and len(entry) == 2 for entry in classes)
        and all(isinstance(number, int) for number, _ in classes)
    )
