"""Data items of nuclei, one per crop."""

from __future__ import annotations

from typing import Any

from monai_ext.data.left_out import Found
from monai_ext.nuclei.classes import ClassMap, label_of, warn_of_other_names
from monai_ext.nuclei.indexing import NucleiIndex
from monai_ext.nuclei.scan import Nucleus


def inference_items(index: NucleiIndex, class_map: ClassMap) -> Found[dict[str, Any]]:
    """All crops of all samples, with a label where the sample's class is in the map.

    Args:
        index: the samples, see `monai_ext.nuclei.index`.
        class_map: the classes that the network was trained with, see `saved_class_map`.

    Returns:
        Items as the package's docstring lists them; what the index left out is in their ``left_out``.
    """
    warn_of_other_names(index, class_map)
    items = (item for sample in index.samples for item in crops_of(sample, label_of(sample, class_map)))
    return Found(items, index.problems)


def crops_of(sample: Nucleus, label: int | None) -> list[dict[str, Any]]:
    """The items of one nucleus."""
    shared: dict[str, Any] = {"case": sample.case, "image": sample.image, "stamp": sample.stamp}
    if sample.patient is not None:
        shared["patient"] = sample.patient
    if sample.mask is not None:
        shared["mask"] = sample.mask
    if label is not None:
        shared["label"] = label
    return [{**shared, "crop_z": z, "crop_y": y, "crop_x": x} for z, y, x in sample.crops]
