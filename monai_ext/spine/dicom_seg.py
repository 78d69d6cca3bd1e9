"""Masks from DICOM segmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monai_ext.errors import DataError
from monai_ext.spine.dicom import require_dicom
from monai_ext.spine.image import SeriesImage


def is_dicom_seg(path: Path) -> bool:
    """Whether a file is a DICOM segmentation.

    Args:
        path: any file.

    Raises:
        ConfigError: for a DICOM file without the packages for DICOM.
    """
    with open(path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    require_dicom()
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality") == "SEG"
    except Exception:  # a damaged file is no segmentation, whatever the parser says
        return False


def read_dicom_seg(path: Path, image: SeriesImage) -> np.ndarray:
    """Voxels of a segmentation with one segment, in the shape and order of the voxels of its image; float32, 0 or 1.

    Args:
        path: the segmentation.
        image: the series that it was drawn on.

    Raises:
        ConfigError: without the packages for DICOM.
        DataError: for a file that can't be read, holds several segments, lies on another grid than the image, or
            reaches beyond it.
    """
    require_dicom()
    import highdicom as hd

    try:
        segmentation = hd.seg.segread(path)
        numbers = segmentation.segment_numbers
        names = [str(segmentation.get_segment_description(number).segment_label) for number in numbers]
        if len(names) != 1:
            raise DataError(f"holds {len(names)} segments ({', '.join(names)}); write a file for each", path)
        volume = segmentation.get_volume(combine_segments=True)
    except DataError:
        raise
    except Exception as error:  # of a damaged file, of any kind
        raise DataError(f"can't be read as a DICOM segmentation ({type(error).__name__}: {error})", path) from error
    grid = hd.VolumeGeometry(np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine, image.voxels.shape, "PATIENT")
    try:
        # positions in a DICOM file have few digits
        voxels = np.asarray(volume.match_geometry(grid, tol=1e-2).array, np.float32)
    except Exception as error:
        raise DataError(f"lies on another grid than its image ({error})", path, "geometry") from error
    drawn, left = np.count_nonzero(volume.array), np.count_nonzero(voxels)
    if left != drawn:  # frames without any may be absent, those outside of the image aren't its own
        raise DataError(
            f"has {drawn - left} of its {drawn} voxels outside of its image; is it that of another series?",
            path,
            "geometry",
        )
    return voxels
