"""Multi-frame MR (Enhanced MR Image Storage) as scanners write it, from a made-up volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from monai_ext.spine.demo_dicom import write_dicom_series


def item(**tags) -> list[Dataset]:
    data = Dataset()
    for name, value in tags.items():
        setattr(data, name, value)
    return [data]


def write_enhanced(path: Path, voxels: np.ndarray, affine: np.ndarray, vendor: str = "siemens", **tags) -> Path:
    """One file of all slices.

    Siemens XA and GE keep direction and pixel size in the shared groups, Philips by frame; Siemens counts frames up,
    GE down, Philips in no order of place; Philips scales each frame by itself.
    """
    files = write_dicom_series(path.with_suffix(""), voxels, affine, "SECRET1", 3)
    slices = [pydicom.dcmread(file) for file in files]
    for file in files:
        file.unlink()
    path.with_suffix("").rmdir()
    numbers = np.arange(len(slices))
    order = {"siemens": numbers, "ge": numbers[::-1], "philips": np.random.default_rng(3).permutation(numbers)}[vendor]
    data = slices[0]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    data.Manufacturer = vendor
    data.NumberOfFrames = len(slices)
    common, frames = Dataset(), []
    for place, number in enumerate(order):
        one, frame = slices[number], Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=one.ImagePositionPatient)
        frame.FrameContentSequence = item(
            StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[place + 1]
        )
        keeper = frame if vendor == "philips" else common
        keeper.PlaneOrientationSequence = item(ImageOrientationPatient=one.ImageOrientationPatient)
        keeper.PixelMeasuresSequence = item(
            PixelSpacing=one.PixelSpacing, SliceThickness=one.SliceThickness, SpacingBetweenSlices=one.SliceThickness
        )
        keeper.MRImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])
        if vendor == "philips":
            frame.PixelValueTransformationSequence = item(
                RescaleSlope=2 ** (number % 3), RescaleIntercept=0, RescaleType="US"
            )
        frames.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [common], frames
    scale = 2 ** (order % 3) if vendor == "philips" else np.ones(len(slices))
    stored = voxels.T[order] / scale[:, None, None]
    data.PixelData = np.ascontiguousarray(stored).astype("<i2").tobytes()
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del data[tag]
    del data.SpacingBetweenSlices
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
