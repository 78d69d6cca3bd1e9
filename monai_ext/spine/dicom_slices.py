"""The slices of a DICOM series: their headers, their order along the normal, the affine of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monai_ext.errors import DataError
from monai_ext.spine.dicom_frames import GROUPS, PLACE, frame_tags, frames_of

if TYPE_CHECKING:
    from pydicom import Dataset

# attribute of a slice, its tag, how many numbers it holds
_GEOMETRY = (
    ("spacing", "PixelSpacing", 2),
    ("orientation", "ImageOrientationPatient", 6),
    ("position", "ImagePositionPatient", 3),
)
SLICE_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "SeriesInstanceUID", "SeriesNumber", "ImageType"),
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "EchoTime"),
    *PLACE,
    *GROUPS,
)
# Part of ImageType → what such an image is.
_NO_VOLUME = {
    "LOCALIZER": "a localizer; there is no volume in it, leave the series out",
    "MOSAIC": "a mosaic of slices; convert the series to NIfTI",
}
# of the distance of two slices
_UNEVEN = 0.1
_NOT_UNIT = 0.01


@dataclass(frozen=True)
class DicomSlice:
    """Header of one slice: a file, or a frame of one.

    ``patient_id`` is for grouping only and must not be shown; ``no_volume`` says what it is that is no slice of one;
    ``volume`` tells volumes of one SeriesInstanceUID apart: type of the image and echo time.
    """

    path: Path
    frame: int | None
    instance_uid: str
    patient_id: str
    series_uid: str
    series_number: int
    shape: tuple[int, int]
    no_volume: str
    volume: tuple[str, str]
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness: float

    @property
    def name(self) -> str:
        """The file's name, with the number of the frame (from 1) where it holds several."""
        return self.path.name if self.frame is None else f"frame {self.frame + 1} of {self.path.name}"

    def fault(self, text: str) -> DataError:
        """An error about this slice."""
        return DataError(text if self.frame is None else f"its frame {self.frame + 1} {text}", self.path)


def slices_of(data: Dataset, path: Path) -> list[DicomSlice]:
    """The slices of a file: one, or one per frame with the place that its functional groups name.

    Args:
        data: with `SLICE_TAGS`.
        path: of the file.

    Raises:
        DataError: when the number of frames isn't that of their functional groups.
        AttributeError: for a header without a tag that every image has.
        TypeError: for a tag of another kind.
        ValueError: for a tag with another value.
    """
    image_type = str(data.get("ImageType", "")).upper()
    found = []
    for frame in frames_of(data, path):
        tags = frame_tags(data, frame)
        one = DicomSlice(
            path,
            frame,
            instance_uid=str(data.get("SOPInstanceUID") or path),
            patient_id=str(data.get("PatientID", "")),
            series_uid=str(data.SeriesInstanceUID),
            series_number=series_number_of(data),
            shape=(int(data.Rows), int(data.Columns)),
            no_volume=next((reason for name, reason in _NO_VOLUME.items() if name in image_type), ""),
            volume=(str(tags.get("FrameType", image_type)), str(tags.get("EffectiveEchoTime", data.get("EchoTime")))),
            thickness=abs(float(tags.get("SpacingBetweenSlices") or tags.get("SliceThickness") or 1.0)),
            **{field: _numbers(tags, tag, count) for field, tag, count in _GEOMETRY},
        )
        found.append(one)
    return found


def series_number_of(data: Dataset) -> int:
    """SeriesNumber of a file; 0 where it has none, or one that is no number (``***``) or below 0."""
    try:
        return max(int(data.get("SeriesNumber") or 0), 0)
    except (TypeError, ValueError):
        return 0


def sort_slices(slices: Sequence[DicomSlice]) -> list[DicomSlice]:
    """The slices of a series, sorted by position along the normal; file names don't matter.

    Args:
        slices: of one series, in any order.

    Raises:
        DataError: naming a file, for a localizer or a mosaic, missing geometry, slices of different shape, spacing or
            direction, several at one position, a gap, and slices beside the line of the others.
    """
    first = slices[0]
    for one in slices:
        _check_slice(one)
        if one.shape != first.shape:
            raise one.fault(
                f"has {one.shape[0]} x {one.shape[1]} pixels, but {first.name} of the same series has "
                f"{first.shape[0]} x {first.shape[1]}; split the series by shape"
            )
        same = np.allclose(one.orientation, first.orientation, atol=1e-3)
        if not same or not np.allclose(one.spacing, first.spacing, rtol=1e-3):
            what = "PixelSpacing" if same else "ImageOrientationPatient"
            raise one.fault(f"has another {what} than {first.name} of the same series; split the series")
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    places = np.array([np.dot(one.position, normal) for one in slices])
    order = np.argsort(places, kind="stable")
    _check_steps(places[order], [slices[i] for i in order])
    return [slices[i] for i in order]


def affine_of(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Affine (4, 4) from (column, row, slice) of a sorted series to mm, RAS+ (DICOM's own is LPS+)."""
    first, last = slices[0], slices[-1]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    if len(slices) > 1:
        affine[:3, 2] = np.subtract(last.position, first.position) / (len(slices) - 1)
    else:
        affine[:3, 2] = np.cross(row, column) * first.thickness
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _check_slice(one: DicomSlice) -> None:
    if one.no_volume:
        raise one.fault(f"is {one.no_volume}")
    missing = [tag for attribute, tag, _ in _GEOMETRY if not getattr(one, attribute)]
    if missing:
        raise one.fault(f"has no {missing[0]}, so its position is unknown; export it again, or as NIfTI")
    normal = np.cross(one.orientation[:3], one.orientation[3:])
    if min(one.spacing) <= 0 or abs(np.linalg.norm(normal) - 1) > _NOT_UNIT:
        raise one.fault(
            "has a PixelSpacing that isn't above 0, or an ImageOrientationPatient that isn't two unit vectors at "
            "right angles; export it again, or as NIfTI"
        )


def _check_steps(places: np.ndarray, slices: Sequence[DicomSlice]) -> None:
    if len(places) < 2:
        return
    steps = np.diff(places)
    usual = float(np.median(steps))
    twice = int(np.argmin(steps))
    if steps[twice] < max(1e-3, _UNEVEN * usual):
        raise slices[twice + 1].fault(
            f"lies at the same position as {slices[twice].name}; split the series (by time, direction or copy)"
        )
    if np.abs(steps - usual).max() > _UNEVEN * usual:
        widest = int(np.argmax(np.abs(steps - usual)))
        raise slices[widest + 1].fault(
            f"lies {steps[widest]:.2f} mm after {slices[widest].name}, other slices {usual:.2f} mm; is one missing? "
            "Copy the series again, or split it"
        )
    positions = np.array([one.position for one in slices])
    along = (places - places[0]) / (places[-1] - places[0])
    beside = np.linalg.norm(positions - positions[0] - along[:, None] * (positions[-1] - positions[0]), axis=1)
    if beside.max() > max(slices[0].spacing) / 2:
        farthest = int(np.argmax(beside))
        raise slices[farthest].fault(
            f"lies {beside[farthest]:.2f} mm beside the line from {slices[0].name} to {slices[-1].name}; split the "
            "series by its blocks"
        )


def _numbers(tags: Dataset, name: str, count: int) -> tuple[float, ...]:
    """Values of a tag; empty when they are absent, too few or no numbers."""
    try:
        values = tuple(float(value) for value in tags.get(name) or ())
    except (TypeError, ValueError):
        return ()
    return values if len(values) == count and np.isfinite(values).all() else ()
