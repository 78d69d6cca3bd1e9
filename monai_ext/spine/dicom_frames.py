"""Frames of multi-frame DICOM: their places and scales, which stand in functional groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from monai_ext.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Functional group → its tags, which files of one frame have at the top.
_IN_GROUP = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "MRImageFrameTypeSequence": ("FrameType",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
PLACE = tuple(tag for tags in list(_IN_GROUP.values())[:3] for tag in tags)


def frames_of(data: Dataset, path: Path) -> list[int] | list[None]:
    """The frames of a file, from 0; [None] for a file that is a single image, as those of older kinds.

    Args:
        data: with ``NumberOfFrames`` and functional groups.
        path: of the file.

    Raises:
        DataError: when the number of frames isn't that of their functional groups.
    """
    number = int(data.get("NumberOfFrames") or 1)
    groups = data.get(GROUPS[1]) or ()
    if not groups and number == 1:
        return [None]
    if len(groups) != number:
        raise DataError(
            f"holds {number} frames (multi-frame DICOM), but its functional groups give the places of {len(groups)}; "
            "convert the series to NIfTI or to one file per slice",
            path,
        )
    return list(range(number))


def frame_tags(data: Dataset, frame: int | None) -> Dataset:
    """What the functional groups say of a frame's place, kind and intensities, by the tags of a file that is one image.

    Args:
        data: of the file.
        frame: from 0; None for a file that is one image, which gives ``data`` itself.
    """
    if frame is None:
        return data
    from pydicom import Dataset

    tags = Dataset()
    shared, single = (data.get(name) or () for name in GROUPS)
    for groups in (*shared[:1], single[frame]):  # a frame's own counts more
        for sequence, names in _IN_GROUP.items():
            for item in groups.get(sequence) or ():
                for name in names:
                    if name in item:
                        tags[name] = item[name]
    return tags
