"""Writing synthetic volumes as DICOM series, as a scanner exports them: one file per slice, uninformative names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monai_ext.spine.dicom import require_dicom


def write_dicom_series(
    folder: str | Path, voxels: np.ndarray, affine: np.ndarray, patient_id: str, series_number: int = 1
) -> list[Path]:
    """Write (column, row, slice) int16 voxels as MR images; the order of the files' names isn't that of the slices.

    UIDs follow from ``patient_id`` and ``series_number``, so that the same arguments give the same bytes.

    Args:
        folder: of the files; it is created.
        voxels: int16 (column, row, slice).
        affine: (4, 4), from voxel numbers to mm, RAS+, with columns and rows at right angles.
        patient_id: PatientID of the files, also part of PatientName.
        series_number: SeriesNumber of the files, at least 0; it also seeds the order of their names.

    Returns:
        The files in the order of the slices.

    Raises:
        ConfigError: when the packages for DICOM aren't installed.
    """
    require_dicom()
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

    def uid(*parts: object) -> str:
        return generate_uid(entropy_srcs=["monai_ext demo", patient_id, *map(str, parts)])

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    numbers = np.random.default_rng(series_number).permutation(voxels.shape[2])
    files = []
    for index, number in enumerate(numbers):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MRImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(uid(series_number, index))
        data.StudyInstanceUID, data.FrameOfReferenceUID = uid("study"), uid("frame")
        data.SeriesInstanceUID = uid(series_number)
        data.PatientID, data.PatientName = patient_id, f"Demo^{patient_id}"
        data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.ReferringPhysicianName = ""
        data.StudyID, data.StudyDate, data.StudyTime = "1", "20200101", "000000"
        data.Modality, data.Manufacturer, data.ImageType = "MR", "monai_ext", ["ORIGINAL", "PRIMARY", "OTHER"]
        data.SeriesNumber, data.InstanceNumber = series_number, int(number) + 1
        data.PixelSpacing = [_decimal(sizes[1]), _decimal(sizes[0])]
        data.SliceThickness = data.SpacingBetweenSlices = _decimal(sizes[2])
        data.ImageOrientationPatient = [_decimal(value) for value in (lps[:3, :2] / sizes[:2]).T.ravel()]
        data.ImagePositionPatient = [_decimal(value) for value in lps[:3, 3] + index * lps[:3, 2]]
        data.Rows, data.Columns = voxels.shape[1], voxels.shape[0]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.PixelData = np.ascontiguousarray(voxels[:, :, index].T, dtype="<i2").tobytes()
        path = folder / f"IM{int(number) + 1:04d}"
        data.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _decimal(value: float) -> str:
    """A number as DICOM writes it: at most 16 characters."""
    return f"{value:.10f}"[:16]
