"""Training data of a stage of the cascade: items, classes, and a check of its settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ext.data.splits import Splits, with_inner
from monai_ext.errors import ConfigError, DataError
from monai_ext.spine.checking import HOW_TO_GET_TRAINING
from monai_ext.spine.class_folders import class_items, class_names
from monai_ext.spine.folders import split_by_patient
from monai_ext.spine.heads import shared_items
from monai_ext.spine.image_mask import cord_of, image_mask_items, mask_files, pair_items, stage_root
from monai_ext.spine.load_slice import read_item

logger = logging.getLogger("monai_ext")

# The kind of a folder's labels, and the task that follows from it.
LABELS = {
    "folders": "classification",
    "stages": "classification",
    "visible": "classification",
    "masks": "segmentation",
    "synthetic": "segmentation",
}
# Downsampling factor of the U-Nets.
_DIVISORS = {"cord_unet": 16, "cord_unet_visible": 16, "attention_unet": 16, "flexible_unet": 32}
_CLASSIFIERS: tuple[str, ...] = ("resnet18", "resnet50", "efficientnet_b0")


def check_stage(task: str, labels: str, architecture: str, loss: str, image_size: int) -> None:
    """Refuse settings that don't fit each other; networks and losses that were added to the config are accepted.

    Args:
        task: "classification" or "segmentation".
        labels: kind of labels, see `stage_items`.
        architecture: name of the network in the config.
        loss: name of the loss in the config.
        image_size: edge length of the network's input in pixels.

    Raises:
        ConfigError: for unknown labels; for labels, a network or a loss of another task; for an image size that isn't a
            multiple of the network's downsampling factor.
    """
    if labels not in LABELS:
        raise ConfigError(f"--labels {labels}: must be one of {', '.join(LABELS)}")
    if LABELS[labels] != task:
        raise ConfigError(f"--labels {labels}: is for --task {LABELS[labels]}, not {task}")
    fitting, others = _CLASSIFIERS, tuple(_DIVISORS)
    if task == "segmentation":
        fitting, others = others, fitting
    if architecture in others:
        raise ConfigError(f"--architecture {architecture}: isn't for --task {task}; choose {', '.join(fitting)}")
    losses = {"classification": ("cross_entropy",), "segmentation": ("dice", "dice_ce")}
    if any(loss in known for other, known in losses.items() if other != task):
        raise ConfigError(f"--loss {loss}: isn't for --task {task}; choose {' or '.join(losses[task])}")
    divisor = _DIVISORS.get(architecture, 1)
    if image_size % divisor:
        raise ConfigError(
            f"--image_size {image_size}: must be a multiple of {divisor} for --architecture {architecture}"
        )


def stage_classes(task: str, folder: str | Path) -> list[str]:
    """Names of the classes of a stage's folder, see `class_names`; none for a segmentation.

    Args:
        task: "classification" or "segmentation".
        folder: of the stage.

    Raises:
        DataError: for a classification, when there is no such folder, or fewer than two classes in it.
    """
    return class_names(_existing(folder)) if task == "classification" else []


def stage_items(
    folder: str | Path,
    labels: str = "masks",
    classes: Sequence[str] = (),
    fold: int = 1,
    num_folds: int = 5,
    seed: int = 420,
    cord_dir: str | Path | None = None,
    visible_area: float = 0.001,
    inner_fraction: float = 0.0,
    structure: str = "",
    volumes: Sequence[Mapping[str, Any]] | None = None,
) -> Splits[dict[str, Any]]:
    """``{"train": items, "val": items}`` of one fold, split by patient.

    Args:
        folder: of the stage.
        labels: ``"folders"``: a class is a sub-folder; ``"stages"``: the classes of several stages together, see
            `shared_items`; ``"visible"``: image-mask pairs, with the second class where the mask covers enough;
            ``"masks"``: masks as they are; ``"synthetic"``: masks of the cord, in which training draws synthetic
            lesions.
        classes: in the order of the labels; none for masks.
        fold: from 1 to ``num_folds``.
        num_folds: number of folds, at least 2.
        seed: of the folds, at least 0.
        cord_dir: for ``"masks"``, a folder with ``masks`` of the cord; items whose case has one get it as ``cord``.
        visible_area: for ``"visible"``, least fraction of a slice's pixels in the mask, between 0 and 1.
        inner_fraction: of the training patients, a third part "inner", see `monai_ext.data.with_inner`; 0 for none.
        volumes: in place of ``folder``, ``{"image": path, "label": path of its mask}`` each; those with ``"validation":
            true`` are the validation set, where there are such.
        structure: which masks of BIDS and SCT are meant, see `image_mask_items`; by default the name of the folder.

    Raises:
        ConfigError: for a fold, fraction or area out of range, or other than two classes for ``"visible"``.
        DataError: for folders that can't be used (see `class_items`, `image_mask_items`), or a class with fewer
            patients than folds.
    """
    if volumes is not None:
        parts = _listed_items(volumes)
        parts = parts if parts["val"] else split_by_patient(parts["train"], fold, num_folds, seed)
        return Splits(with_inner(parts, inner_fraction, seed))
    root = _existing(stage_root(folder) if LABELS.get(labels) == "segmentation" or labels == "visible" else folder)
    if labels == "folders":
        found = class_items(root, classes)
    elif labels == "stages":
        found = shared_items(root, classes)
    else:
        found = image_mask_items(root, structure or Path(folder).name)
    items: Sequence[dict[str, Any]] = found
    if labels == "visible":
        items = _visible(found, classes, visible_area)
    elif labels == "synthetic":
        items = [{"cord" if key == "mask" else key: value for key, value in item.items()} for item in found]
    elif labels == "masks" and cord_dir is not None and _has_masks(stage_root(cord_dir)):
        cords = mask_files(stage_root(cord_dir))
        items = [{**item, "cord": cord} if (cord := cord_of(item, cords)) else item for item in items]
        logger.info("%d of %d slices have a mask of the cord", sum("cord" in item for item in items), len(items))
    parts = Splits(with_inner(split_by_patient(items, fold, num_folds, seed), inner_fraction, seed))
    parts.left_out = found.left_out
    return parts


def _listed_items(volumes: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {
        part: [item for pair in volumes if bool(pair.get("validation")) == (part == "val") for item in pair_items(pair)]
        for part in ("train", "val")
    }


def _has_masks(folder: Path) -> bool:
    return (folder / "masks").is_dir() or (folder / "derivatives").is_dir()


def _existing(folder: str | Path) -> Path:
    if not Path(folder).is_dir():
        raise DataError(f"is not a folder; {HOW_TO_GET_TRAINING}", folder)
    return Path(folder)


def _visible(found: Sequence[dict[str, Any]], classes: Sequence[str], min_area: float) -> list[dict[str, Any]]:
    if len(classes) != 2:
        raise ConfigError(f"--classes {list(classes)}: --labels visible needs two, the one without the cord first")
    if not 0 < min_area < 1:
        raise ConfigError(f"--visible_area {min_area}: must be a fraction of a slice, above 0 and below 1")
    items = []
    for item in found:
        mask = read_item(item, "mask", mask=True) > 0
        rest = {key: value for key, value in item.items() if key != "mask"}
        items.append({**rest, "label": int(np.mean(mask) >= min_area)})
    return items
