"""Results in the geometry of the series they were computed from: NIfTI, and DICOM segmentations."""

from __future__ import annotations

import copy
import gzip
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from monai_ext.errors import ConfigError, DataError
from monai_ext.io import atomic_path
from monai_ext.spine.dicom_slices import series_number_of
from monai_ext.spine.image import SeriesImage
from monai_ext.spine.series import Series

SEGMENTS = ("lesion", "cord")
# L*, a*, b* of CIE 1976
_RED, _CYAN = (53.2, 80.1, 67.2), (91.1, -48.1, -14.1)
# A SeriesNumber has at most 31 bits.
_MOST_SERIES = 10**7
_REQUIRED = ("FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID", "Modality")
_COMMON = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# A DICOM file must have them, if only empty; anonymised ones often don't, and highdicom then stops.
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_SHARED = ("PlaneOrientationSequence", "PixelMeasuresSequence")


def write_like(image: SeriesImage, slices: np.ndarray, path: str | Path) -> Path:
    """Write a mask or a probability map as NIfTI with the affine, shape and order of axes of the series.

    Only the geometry of the input's header is copied: text fields and extensions may name the patient.

    Args:
        image: the series that the slices were computed from.
        slices: (N, Y, X) or (N, 1, Y, X) in the order of `SeriesImage.slices`; booleans become uint8, floats
            float32, signed integers int32.
        path: ends in ``.nii.gz`` or ``.nii``.

    Raises:
        ValueError: for slices of another shape.
        WriteError: when the file can't be written.
    """
    voxels = image.restore(np.asarray(slices))
    # NIfTI has no booleans, and few programs read 64 bits.
    voxels = voxels.astype({"b": np.uint8, "f": np.float32, "i": np.int32}.get(voxels.dtype.kind, voxels.dtype))
    volume = nib.Nifti1Image(voxels, None if image.header else image.affine, _header(image.header))
    if not image.header:
        code = "scanner" if image.has_geometry else "aligned"
        volume.set_sform(image.affine, code)
        volume.set_qform(image.affine, code)
        if not np.allclose(volume.get_qform(), image.affine, atol=1e-3):  # sheared, which a quaternion can't be
            volume.set_qform(None, "unknown")
        volume.header.set_xyzt_units("mm" if image.has_geometry else "unknown")
    volume.set_data_dtype(voxels.dtype)
    content = volume.to_bytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)
    return Path(path)


def write_dicom_seg(
    series: Series, image: SeriesImage, slices: np.ndarray, path: str | Path, segment: str = "lesion"
) -> Path:
    """Write a mask as a DICOM segmentation that refers to the slices of a DICOM series.

    As any DICOM object it has the patient's name and id, copied from the series. Its SeriesNumber is 100 times that of
    the series, plus 1 (lesion) or 2 (cord). Written by highdicom.

    Args:
        series: a series of kind "dicom".
        image: the result of the series' `read`.
        slices: mask (N, Y, X) or (N, 1, Y, X) in the order of `SeriesImage.slices`, > 0 inside.
        path: DICOM file to write.
        segment: ``"lesion"`` or ``"cord"``.

    Raises:
        ConfigError: for another segment.
        DataError: for a series that isn't DICOM, or lacks tags that a segmentation must refer to.
        ValueError: for slices of another shape.
        WriteError: when the file can't be written.
    """
    if segment not in SEGMENTS:
        raise ConfigError(f"write_dicom_seg: segment must be one of {SEGMENTS}, got {segment!r}")
    if series.kind != "dicom":
        raise DataError(f"series {series.name!r} is {series.kind}, not DICOM; write NIfTI by write_like instead")
    if not image.sources:
        raise DataError(f"series {series.name!r}: the image isn't from its files; pass the result of series.read()")
    # (column, row, slice) to frames (slice, row, column)
    frames = (image.restore(np.asarray(slices)) > 0).astype(np.uint8).transpose(2, 1, 0)
    if image.frames and len(image.sources) > 1:
        raise DataError(
            "is one of several multi-frame files, to which no DICOM segmentation can refer; write NIfTI",
            series.files[0],
        )
    sources = _completed(image.sources, thickness=float(voxel_sizes(image.affine)[2]))
    try:
        with _silenced():
            segmentation = _segmentation(sources, np.ascontiguousarray(frames), segment, image.frames)
    except Exception:  # of odd tags of any kind
        reason = _why_not(sources)
        raise DataError(f"{reason}, so no DICOM segmentation can refer to it; write NIfTI", series.files[0]) from None
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)
    return Path(path)


@contextmanager
def _silenced() -> Iterator[None]:
    """Suppress highdicom's messages: they quote tags, even names and dates of birth, which must not get into a log."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _header(place: Mapping[str, Any]) -> nib.Nifti1Header | None:
    if not place:
        return None
    header = nib.Nifti1Header()
    for name, value in place.items():
        header[name] = np.asarray(value)
    return header


def _completed(sources: Sequence[Any], thickness: float) -> list[Any]:
    """Copies of the datasets with the tags that highdicom wants to copy."""
    completed = [copy.copy(source) for source in sources]
    for source in completed:
        for tag in _MAY_BE_EMPTY:
            if tag not in source or not _is_allowed(source[tag]):
                setattr(source, tag, "")
        if "SliceThickness" not in source:
            source.SliceThickness = thickness
        if "PerFrameFunctionalGroupsSequence" in source:
            source.SharedFunctionalGroupsSequence = [_shared_groups(source)]
        else:  # equal but for rounding, see `sort_slices`
            source.ImageOrientationPatient = completed[0].ImageOrientationPatient
    return completed


def _why_not(sources: Sequence[Any]) -> str:
    for tag in _REQUIRED:
        if tag not in sources[0]:
            return f"has no {tag}"
    for tag in _COMMON:
        if len({str(source.get(tag)) for source in sources}) > 1:
            return f"has another {tag} than other slices of its series"
    return "has a tag with a value that isn't allowed"


def _is_allowed(element: Any) -> bool:
    """False for dates, times and sexes that are none, such as the ``***`` of anonymised files."""
    from pydicom.valuerep import DA, TM

    try:
        {"DA": DA, "TM": TM}.get(element.VR, str)(element.value)
    except (TypeError, ValueError):
        return False
    return element.keyword != "PatientSex" or element.value in ("M", "F", "O")


def _shared_groups(source: Any) -> Any:
    """What all frames have in common, also where each frame says it by itself, which highdicom doesn't look up."""
    from pydicom import Dataset

    shared = Dataset()
    for groups in (*source.get("SharedFunctionalGroupsSequence", ())[:1], source.PerFrameFunctionalGroupsSequence[0]):
        for name in _SHARED:
            if name in groups:
                shared[name] = groups[name]
    return shared


def _positions(source: Any, numbers: Sequence[int]) -> list[Any]:
    """Those of frames, in any order."""
    import highdicom as hd

    frames = [source.PerFrameFunctionalGroupsSequence[number] for number in numbers]
    return [
        hd.PlanePositionSequence("PATIENT", frame.PlanePositionSequence[0].ImagePositionPatient) for frame in frames
    ]


def _segmentation(sources: list[Any], frames: np.ndarray, segment: str, numbers: Sequence[int]) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    import monai_ext

    category, kind, colour = {
        "lesion": (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion, _RED),
        "cord": (codes.SCT.Organ, codes.SCT.SpinalCord, _CYAN),
    }[segment]
    number = series_number_of(sources[0])
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=segment,
        segmented_property_category=category,
        segmented_property_type=kind,
        display_color=hd.color.CIELabColor(*colour),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="spinal_cord_cascade", version=monai_ext.__version__, family=codes.DCM.ArtificialIntelligence
        ),
    )
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        plane_positions=_positions(sources[0], numbers) if numbers else None,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=hd.UID(),
        series_number=100 * min(number, _MOST_SERIES) + 1 + SEGMENTS.index(segment),
        series_description=f"{segment} in series {number} (spinal_cord_cascade)",
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="monai_ext",
        manufacturer_model_name="spinal_cord_cascade",
        software_versions=monai_ext.__version__,
        device_serial_number="0",
    )
