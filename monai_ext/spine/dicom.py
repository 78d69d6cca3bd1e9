"""DICOM files of one series: their headers, their order along the normal of the slices, their voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from monai_ext.errors import ConfigError, DataError
from monai_ext.spine.image import SeriesImage

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = (
    *("SOPClassUID", "Modality", "PatientID", "SeriesInstanceUID", "SeriesNumber", "ImageType", "NumberOfFrames"),
    *("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"),
    *("SliceThickness", "SpacingBetweenSlices", "SamplesPerPixel"),
)
# attribute of a slice, its tag, how many numbers it holds
_GEOMETRY = (
    ("spacing", "PixelSpacing", 2),
    ("orientation", "ImageOrientationPatient", 6),
    ("position", "ImagePositionPatient", 3),
)
_SUFFIXES = (".dcm", ".ima", ".dicom")
# Of a file without a preamble, group 2 or 8 comes first.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_DIRECTORY = "1.2.840.10008.1.3.10"
# of the distance of two slices
_UNEVEN = 0.1
_NOT_UNIT = 0.01


@dataclass(frozen=True)
class DicomSlice:
    """Header of one file; ``patient_id`` is for grouping only and must not be shown."""

    path: Path
    patient_id: str
    series_uid: str
    series_number: int
    shape: tuple[int, int]
    localizer: bool
    frames: int
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    thickness: float


def require_dicom() -> None:
    """Check that the packages for DICOM are installed.

    Raises:
        ConfigError: when one isn't.
    """
    for package in ("pydicom", "highdicom"):
        if find_spec(package) is None:
            raise ConfigError(f"DICOM needs {package}, which isn't installed: pip install 'monai-ext[dicom]'")


def read_dicom_header(path: Path) -> DicomSlice | None:
    """Header of a file; None for a file that isn't DICOM by name or content, or no image (a directory, a segmentation).

    Args:
        path: any file.

    Raises:
        ConfigError: without the packages for DICOM.
        DataError: when it can't be read as DICOM.
    """
    named = path.suffix.lower() in _SUFFIXES
    try:
        with open(path, "rb") as file:
            begin = file.read(132)
            if not (named or begin[128:] == b"DICM" or begin[:2] in _FIRST_GROUPS):
                return None
            file.seek(0)
            return _header(_dataset(path, file, specific_tags=list(_TAGS), stop_before_pixels=True), path)
    except DataError:
        if named or begin[128:] == b"DICM":
            raise
        return None  # it only begins like DICOM without a preamble
    except OSError as error:
        if not named:
            return None
        raise DataError(f"can't be read ({error.strerror or error}); copy or export it again", path) from error


def sort_slices(slices: Sequence[DicomSlice]) -> list[DicomSlice]:
    """The slices of a series, sorted by position along the normal; file names don't matter.

    Args:
        slices: of one series, in any order.

    Raises:
        DataError: naming a file, for a localizer, several frames in a file, missing geometry, slices of different
            shape, spacing or direction, several at one position, and a gap.
    """
    first = slices[0]
    for one in slices:
        if one.localizer:
            raise DataError("is a localizer; there is no volume in it, leave the series out", one.path)
        if one.frames > 1:
            raise DataError(
                f"holds {one.frames} frames (multi-frame DICOM); convert the series to NIfTI or to one file per slice",
                one.path,
            )
        missing = [tag for attribute, tag, _ in _GEOMETRY if not getattr(one, attribute)]
        if missing:
            raise DataError(f"has no {missing[0]}, so its position is unknown; export it again, or as NIfTI", one.path)
        normal = np.cross(one.orientation[:3], one.orientation[3:])
        if min(one.spacing) <= 0 or abs(np.linalg.norm(normal) - 1) > _NOT_UNIT:
            raise DataError(
                "has a PixelSpacing that isn't above 0, or an ImageOrientationPatient that isn't two unit vectors at "
                "right angles; export it again, or as NIfTI",
                one.path,
            )
        if one.shape != first.shape:
            raise DataError(
                f"has {one.shape[0]} x {one.shape[1]} pixels, but {first.path.name} of the same series has "
                f"{first.shape[0]} x {first.shape[1]}; split the series by shape",
                one.path,
            )
        same = np.allclose(one.orientation, first.orientation, atol=1e-3)
        if not same or not np.allclose(one.spacing, first.spacing, rtol=1e-3):
            what = "PixelSpacing" if same else "ImageOrientationPatient"
            raise DataError(f"has another {what} than {first.path.name} of the same series; split the series", one.path)
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    places = np.array([np.dot(one.position, normal) for one in slices])
    order = np.argsort(places, kind="stable")
    _check_steps(places[order], [slices[i] for i in order])
    return [slices[i] for i in order]


def read_dicom_series(files: Sequence[Path]) -> SeriesImage:
    """Read a series whose files are sorted already (see `sort_slices`); slope and intercept of the header are applied.

    Each file is opened once; its other tags are kept in ``sources``, for `write_dicom_seg`. The intensities of
    MONOCHROME1 (0 is white) are inverted, so that bright stays bright.

    Args:
        files: of one series, in the order of the slices.

    Raises:
        ConfigError: without the packages for DICOM.
        DataError: naming a file that can't be read.
    """
    headers, slices, sources = [], [], []
    for path in files:
        data = _dataset(path, path)
        if (header := _header(data, path)) is not None:
            headers.append(header)
        slices.append(_pixels(data, path).T)
        sources.append(_without_pixels(data))
    voxels = np.stack(slices, axis=-1)
    if sources[0].get("PhotometricInterpretation") == "MONOCHROME1":  # 0 is shown white
        voxels = voxels.max() + voxels.min() - voxels
    return SeriesImage(voxels, affine_of(headers), slice_axis=2, sources=tuple(sources))


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


def _header(header: Dataset, path: Path) -> DicomSlice | None:
    if "SOPClassUID" not in header:
        if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
            return None
        raise DataError("is not a DICOM file, or damaged; copy or export it again", path)
    if "Rows" not in header or header.get("Modality") == "SEG":
        return None
    try:
        return DicomSlice(
            path,
            patient_id=str(header.get("PatientID", "")),
            series_uid=str(header.SeriesInstanceUID),
            series_number=int(header.get("SeriesNumber") or 0),
            shape=(int(header.Rows), int(header.Columns)),
            localizer="LOCALIZER" in str(header.get("ImageType", "")).upper(),
            frames=int(header.get("NumberOfFrames") or 1),
            thickness=float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0),
            **{field: _numbers(header, tag, count) for field, tag, count in _GEOMETRY},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"has a damaged header ({_line(error)}); export it again", path) from error


def _check_steps(places: np.ndarray, slices: Sequence[DicomSlice]) -> None:
    if len(places) < 2:
        return
    steps = np.diff(places)
    usual = float(np.median(steps))
    twice = int(np.argmin(steps))
    if steps[twice] < max(1e-3, _UNEVEN * usual):
        raise DataError(
            f"lies at the same position as {slices[twice].path.name}; split the series (by echo, time or copy)",
            slices[twice + 1].path,
        )
    if np.abs(steps - usual).max() > _UNEVEN * usual:
        widest = int(np.argmax(np.abs(steps - usual)))
        raise DataError(
            f"lies {steps[widest]:.2f} mm after {slices[widest].path.name}, other slices {usual:.2f} mm; is one "
            "missing? Copy the series again, or split it",
            slices[widest + 1].path,
        )


def _numbers(header: Dataset, name: str, count: int) -> tuple[float, ...]:
    """Values of a tag; empty when they are absent, too few or no numbers."""
    try:
        values = tuple(float(value) for value in header.get(name) or ())
    except (TypeError, ValueError):
        return ()
    return values if len(values) == count and np.isfinite(values).all() else ()


def _pixels(dataset: Dataset, path: Path) -> np.ndarray:
    """Rescaled intensities (Y, X), float32."""
    from pydicom.pixels import apply_modality_lut

    if dataset.get("SamplesPerPixel", 1) != 1:
        raise DataError("is a colour image; expected one intensity per pixel", path)
    try:
        return np.asarray(apply_modality_lut(dataset.pixel_array, dataset), np.float32)
    except Exception as error:  # each codec has its own
        raise DataError(f"its pixels can't be read ({_line(error)}); export it uncompressed", path) from error


def _without_pixels(dataset: Dataset) -> Dataset:
    for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if tag in dataset:
            del dataset[tag]
    return dataset


def _dataset(path: Path, source: Path | BinaryIO, **options: Any) -> Dataset:
    require_dicom()
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        found = pydicom.dcmread(source, force=True, **options)
        if "TransferSyntaxUID" not in found.file_meta:  # of a file without a preamble
            implicit, _ = found.original_encoding
            found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return found
    except Exception as error:  # damaged files make the parser raise almost anything
        raise DataError(f"can't be read as DICOM ({_line(error)}); copy or export it again", path) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
