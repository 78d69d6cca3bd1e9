"""DICOM files: their headers, and the voxels of one series."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from monai_ext.data.sizes import check_claim, claimed_bytes
from monai_ext.errors import ConfigError, DataError
from monai_ext.spine.dicom_codecs import add_codecs
from monai_ext.spine.dicom_frames import frame_tags, frames_of
from monai_ext.spine.dicom_slices import SLICE_TAGS, DicomSlice, affine_of, slices_of, sort_slices
from monai_ext.spine.dicom_warnings import quieten
from monai_ext.spine.image import SeriesImage, slice_axis_of

if TYPE_CHECKING:
    from pydicom import Dataset

_SUFFIXES = (".dcm", ".ima", ".dicom")
# Of a file without a preamble, group 2 or 8 comes first.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
# Of blank images in JPEG 2000.
_MOST_COMPRESSION = 1 << 20
_DIRECTORY = "1.2.840.10008.1.3.10"


def require_dicom() -> None:
    """Check that the packages for DICOM are installed.

    Raises:
        ConfigError: when one isn't.
    """
    for package in ("pydicom", "highdicom"):
        if find_spec(package) is None:
            raise ConfigError(f"DICOM needs {package}, which isn't installed: pip install 'monai-ext[dicom]'")


def may_be_dicom(path: str | Path) -> bool:
    """Whether a file's name is one of those that DICOM files have: a suffix of DICOM, a number (as ``IM.0001``, or the
    end of a UID), or none.

    Args:
        path: of the file; it need not exist.
    """
    suffix = Path(path).suffix.lower()
    return suffix in ("", *_SUFFIXES) or suffix[1:].isdecimal()


def read_dicom_header(path: Path) -> list[DicomSlice]:
    """Headers of a file's slices; none for a file that isn't DICOM by name or content, or no image (a directory, a
    segmentation).

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
                return []
            file.seek(0)
            return _slices(_dataset(path, file, specific_tags=list(SLICE_TAGS), stop_before_pixels=True), path)
    except DataError:
        if named or begin[128:] == b"DICM":
            raise
        return []  # it only begins like DICOM without a preamble
    except OSError as error:  # whatever it is called, it may be a slice, without which its series is another
        raise DataError(f"can't be read ({error.strerror or error}); copy or export it again", path) from error


def read_dicom_series(files: Sequence[Path], volume: tuple[str, str] | None = None) -> SeriesImage:
    """Read a series, its slices sorted (see `sort_slices`); slope and intercept of the header are applied.

    Each file is opened once; its other tags are kept in ``sources``, for `write_dicom_seg`. The intensities of
    MONOCHROME1 (0 is white) are inverted, so that bright stays bright.

    Args:
        files: of one series.
        volume: that of the slices to read, see `DicomSlice`; None for all.

    Raises:
        ConfigError: without the packages for DICOM.
        DataError: naming a file that can't be read, or see `sort_slices`.
    """
    images: dict[DicomSlice, np.ndarray] = {}
    sources = []
    for path in files:
        data = _dataset(path, path)
        images.update(zip(_slices(data, path), _pixels(data, path), strict=True))
        sources.append(_without_pixels(data))
    slices = sort_slices([one for one in images if volume in (None, one.volume)])
    voxels = np.stack([images[one].T for one in slices], axis=-1)
    if sources[0].get("PhotometricInterpretation") == "MONOCHROME1":  # 0 is shown white
        voxels = voxels.max() + voxels.min() - voxels
    affine = affine_of(slices)
    frames = tuple(one.frame for one in slices if one.frame is not None)
    return SeriesImage(voxels, affine, slice_axis_of(affine, voxels.shape), sources=tuple(sources), frames=frames)


def _slices(header: Dataset, path: Path) -> list[DicomSlice]:
    try:
        if "SOPClassUID" not in header:
            if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
                return []
            raise DataError("is not a DICOM file, or damaged; copy or export it again", path)
        kind = header.file_meta.get("MediaStorageSOPClassUID", header.SOPClassUID)  # at the file's very begin
        if "Rows" not in header and "Image Storage" in kind.name:
            raise DataError("is an image by its header, which ends before its size; copy or export it again", path)
        return slices_of(header, path) if "Rows" in header and header.get("Modality") != "SEG" else []
    except DataError:
        raise
    except Exception as error:  # tags are parsed when they are asked for
        missing = f"no {error.name}" if isinstance(error, AttributeError) and error.name else _line(error)
        raise DataError(f"has a damaged header ({missing}); export it again", path) from error


def _pixels(dataset: Dataset, path: Path) -> list[np.ndarray]:
    """Rescaled intensities (Y, X) of each frame, float32."""
    from pydicom.pixels import apply_modality_lut

    add_codecs()
    try:
        if dataset.get("SamplesPerPixel", 1) != 1:
            raise DataError("is a colour image; expected one intensity per pixel", path)
        if str(dataset.get("PhotometricInterpretation", "")).startswith("PALETTE"):
            raise DataError("is a palette image, whose numbers are no intensities; export it as greyscale", path)
        shape = (len(frames_of(dataset, path)), dataset.Rows, dataset.Columns)
        claimed = claimed_bytes(shape, dataset.BitsAllocated // 8, path)
        check_claim(claimed, path.stat().st_size, path, _MOST_COMPRESSION)
        stored = dataset.pixel_array.reshape(shape)
        scales = (frame_tags(dataset, frame) for frame in frames_of(dataset, path))
        return [np.asarray(apply_modality_lut(*one), np.float32) for one in zip(stored, scales, strict=True)]
    except DataError:
        raise
    except Exception as error:  # each codec has its own
        raise DataError(f"its pixels can't be read ({_line(error)}); export it uncompressed", path) from error


def _without_pixels(dataset: Dataset) -> Dataset:
    for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if tag in dataset:
            del dataset[tag]
    return dataset


def _dataset(path: Path, source: Path | BinaryIO, **options: Any) -> Dataset:
    require_dicom()
    quieten()
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
    """The error's text up to the first value that it quotes, which may name the patient."""
    text = re.split(r"\bb?['\"]|['\"]", " ".join(str(error).split()))[0].strip(" :(,")
    return text or type(error).__name__
