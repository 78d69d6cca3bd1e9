"""Stages that go by simple rules instead of training, as exported files, and series to show them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data.torchscript_utils import save_net_with_metadata
from monai.transforms import Compose, Resized, ResizeWithPadOrCropd, ScaleIntensityRangePercentilesd
from torch import nn

from monai_ext.spine import SeriesImage, SliceStage, SpineCascade
from monai_ext.spine.demo_dicom import write_dicom_series

SIZE = 48
CLASSES = {
    "anatomy": ["spine", "knee"],
    "location_view": ["cervical_sagittal", "other"],
    "sequence": ["T2w", "T1w"],
    "cord_visible": ["no_cord", "cord"],
    "cord": [],
    "lesion": [],
}
# How much of a slice is filled, which is what the classifiers go by.
FILLED = {"cervical": 0.0, "T1w": 0.35, "thoracic": 0.5, "knee": 0.7}


class Share(nn.Module):
    """The first class where less than ``limit`` of a slice is bright."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rest = self.limit - (x > 0.2).float().mean(dim=[1, 2, 3])
        return 50 * torch.stack([rest, -rest], dim=1)


class Band(nn.Module):
    """Inside where the value is near ``centre``."""

    def __init__(self, centre: float, width: float) -> None:
        super().__init__()
        self.centre = centre
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * (self.width - (x - self.centre).abs())


class Visible(nn.Module):
    """The second class where a slice shows any cord."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rest = ((x > 0.4) & (x < 0.8)).float().sum(dim=[1, 2, 3]) - 0.5
        return 50 * torch.stack([-rest, rest], dim=1)


RULES = {
    "anatomy": Share(0.55),
    "location_view": Share(0.4),
    "sequence": Share(0.2),
    "cord_visible": Visible(),
    "cord": Band(0.6, 0.2),
    "lesion": Band(0.7, 0.1),
}


def settings_of(stage: str, **changed) -> dict:
    task = "classification" if CLASSES[stage] else "segmentation"
    return {
        "stage": stage,
        "task": task,
        "architecture": "resnet18" if CLASSES[stage] else "cord_unet",
        "features": 16,
        "image_size": SIZE,
        "classes": CLASSES[stage],
        **changed,
    }


def write_stages(folder: Path, leave_out: tuple[str, ...] = ("cord_visible",), **changed) -> Path:
    """``<folder>/<stage>/model.ts`` of all stages; ``changed`` settings of all of them."""
    for stage, rule in RULES.items():
        if stage not in leave_out:
            path = folder / stage / "model.ts"
            path.parent.mkdir(parents=True)
            meta = {"settings": settings_of(stage, **changed)}
            save_net_with_metadata(torch.jit.script(rule), str(path), meta_values=meta)
    return folder


def spine(shows: str = "cervical", directions: str = "PIR", oblique: float = 0.0) -> tuple[SeriesImage, np.ndarray]:
    """A sagittal series (column, row, slice) = (48, 40, 6), and where its two lesions are.

    The cord runs through slices 1 to 4. A bright corner keeps the grey values of all slices alike.
    """
    voxels = np.zeros((48, 40, 6), np.float32)
    voxels[:, : int(40 * FILLED[shows])] = 300
    voxels[20:28, 4:36, 1:5] = 500
    lesion = np.zeros(voxels.shape, bool)
    lesion[21:25, 8:13, 2:4] = True
    lesion[24:27, 25:28, 3] = True
    voxels[lesion] = 700
    voxels[40:48, 30:38] = 1000
    return SeriesImage(voxels, _geometry(directions, oblique), 2), lesion


def write_series(path: Path, kind: str, shows: str = "cervical", patient: str = "SECRET-ID", number: int = 1) -> Path:
    """The same series as files of one kind: ``path`` is a folder, or a NIfTI file."""
    image, _ = spine(shows)
    if kind == "dicom":
        write_dicom_series(path, image.voxels.astype(np.int16), image.affine, patient, number)
    elif kind == "nifti":
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.as_closest_canonical(nib.Nifti1Image(image.voxels.astype(np.int16), image.affine)), path)
    else:
        from PIL import Image

        path.mkdir(parents=True)
        for index, one in enumerate(image.slices()[:, 0]):
            Image.fromarray((one / 4).astype(np.uint8)).save(path / f"{index:03d}.png")
    return path


def _geometry(directions: str, oblique: float) -> np.ndarray:
    """Pixels of 0.8 (column) and 1.25 mm (row), slices 3 mm apart."""
    angle = np.deg2rad(oblique)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    axes = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(directions), (1, 1, 1))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.linalg.inv(axes) @ np.diag([0.8, 1.25, 3.0])
    affine[:3, 3] = (-20.5, 31.25, 12.125)
    return affine


ADMIT = {
    "anatomy": ["spine"],
    "location_view": ["cervical_sagittal"],
    "sequence": ["T2w"],
    "cord_visible": ["cord"],
}


def preparation(size: int) -> Compose:
    """That of the bundle."""
    return Compose(
        [
            ScaleIntensityRangePercentilesd("image", lower=1, upper=99, b_min=0, b_max=1, clip=True),
            Resized(["image", "mask"], size, "longest", mode=["bilinear", "nearest"], allow_missing_keys=True),
            ResizeWithPadOrCropd(["image", "mask"], [size, size], allow_missing_keys=True),
        ]
    )


def cascade(*leave_out: str, admit: dict | None = None, **options) -> SpineCascade:
    """The rules as a cascade, without files."""
    stages = {
        name: SliceStage(rule, preparation(SIZE), CLASSES[name], name=name)
        for name, rule in RULES.items()
        if name not in leave_out
    }
    return SpineCascade(stages, {**ADMIT, **(admit or {})}, **options)
