"""Synthetic data to try `spinal_cord_cascade` with: series of three patients, and training folders of all stages.

``series/<patient>/<series>`` are the series to predict: one patient has DICOM, one NIfTI, one PNG files; the masks of
cord and lesions in the target series are ``reference/<patient>/<series>_{cord,lesion}.nii.gz``.
``{foundation,anatomy,location_view,sequence}/<class>/<patient>_<series>_<slice>.png`` train the classifiers,
``{cord,lesion}/{images,masks}/<patient>_<slice>.png`` the segmentations. See `monai_ext.spine.demo_phantom` for the
anatomy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.data.demo_folder import known_size, write_folder
from monai_ext.errors import ConfigError
from monai_ext.spine import Series, SeriesImage, write_like
from monai_ext.spine.checking import REFERENCE
from monai_ext.spine.demo_dicom import write_dicom_series
from monai_ext.spine.demo_phantom import ANATOMIES, CONTRASTS, CORD, LESION, LOCATIONS, Patient, tissues

KINDS = ("dicom", "nifti", "slices")
# Directions of (column, row, slice), and the distance of the slices in mm: a spine is narrow.
_VIEWS = {"sagittal": ("PIR", 4.0), "coronal": ("LIP", 4.0), "axial": ("LPS", 9.0)}
_FIELD = 128.0
_SCALE = 1000.0


@dataclass(frozen=True)
class Size:
    """Size of the series.

    Args:
        pixels: edge length of a slice.
        slices: per series.
    """

    pixels: int
    slices: int


SIZES = {"small": Size(64, 8), "full": Size(320, 12)}


class Kind(NamedTuple):
    """Content of a series; ``location`` is used for the spine only."""

    anatomy: str
    location: str
    view: str
    sequence: str


# Series of each patient to predict: the target series, and some for each reason to refuse a series.
LOOKED_FOR = "t2_sag_cervical"
BATCH = {
    LOOKED_FOR: Kind("spine", "cervical", "sagittal", "T2w"),
    "t1_sag_cervical": Kind("spine", "cervical", "sagittal", "T1w"),
    "t2star_sag_cervical": Kind("spine", "cervical", "sagittal", "T2starw"),
    "other_sag_cervical": Kind("spine", "cervical", "sagittal", "other"),
    "t2_ax_cervical": Kind("spine", "cervical", "axial", "T2w"),
    "t2_cor_cervical": Kind("spine", "cervical", "coronal", "T2w"),
    "t2_sag_thoracic": Kind("spine", "thoracic", "sagittal", "T2w"),
    "t2_sag_lumbar": Kind("spine", "lumbar", "sagittal", "T2w"),
    "t1_ax_brain": Kind("brain", "", "axial", "T1w"),
    "t2_sag_knee": Kind("knee", "", "sagittal", "T2w"),
}


def make_series(rng: np.random.Generator, patient: Patient, kind: Kind, size: Size) -> tuple[SeriesImage, np.ndarray]:
    """One series, int16, as a scanner stores it (column, row, slice), a few degrees oblique; and its tissues.

    Args:
        rng: source of all random numbers.
        patient: the anatomy.
        kind: content of the series.
        size: of the series.

    Returns:
        The series, and the tissue of each voxel as uint8 of the same shape.
    """
    affine = _affine(rng, kind.view, size)
    grid = np.stack(np.meshgrid(*map(np.arange, (size.pixels, size.pixels, size.slices)), indexing="ij"), axis=-1)
    found = tissues(patient, kind.anatomy, kind.location, nib.affines.apply_affine(affine, grid))
    image = np.asarray(CONTRASTS[kind.sequence], np.float32)[found]
    blur = 0.6 * size.pixels / 64
    image = gaussian_filter(image, (blur, blur, 0))
    tilt = rng.uniform(-0.1, 0.1, 2)
    drift = 1 + np.tensordot(grid[..., :2] / size.pixels - 0.5, tilt, 1)
    noise = 0.03 * rng.standard_normal(image.shape, dtype=np.float32)
    image = rng.uniform(0.8, 1.1) * image * drift + np.abs(noise)
    return SeriesImage(np.rint(_SCALE * image).astype(np.int16), affine, slice_axis=2), found


def make_demo(output: str | Path, seed: int = 0, size: str = "small", patients: int = 12) -> Path:
    """Write the demo as ``output``: all files appear at once, or none.

    The same arguments give the same bytes; a folder made with them before is kept as it is.

    Args:
        output: folder, created where it doesn't exist.
        seed: of all random numbers, at least 0.
        size: "small" (slices of 64 x 64) or "full" (320 x 320).
        patients: number of patients to train on, at least 5; three more are to predict.

    Returns:
        ``output``, usable as ``dataset_dir``.

    Raises:
        ConfigError: for an unknown size, or fewer than 5 patients.
        DataError: when other data lie at the target already.
    """
    if patients < 5:
        raise ConfigError(f"make_demo: patients must be at least 5, for as many folds, got {patients}")
    pixels = known_size(SIZES, size)
    settings = {"generated": "not patient data", "seed": seed, "size": size, "patients": patients}
    write_folder(output, settings, lambda folder: _write(folder, seed, pixels, patients))
    return Path(output)


def _affine(rng: np.random.Generator, view: str, size: Size) -> np.ndarray:
    """Columns, rows and slices around the centre of the field, rotated by up to 4 degrees about two axes."""
    directions, step = _VIEWS[view]
    inward = nib.orientations.inv_ornt_aff(
        nib.orientations.axcodes2ornt(directions), (size.pixels, size.pixels, size.slices)
    )[:3, :3]
    a, b = np.deg2rad(rng.uniform(-4, 4, 2))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    edge = _FIELD / size.pixels
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.linalg.inv(inward) @ np.diag([edge, edge, step * 8 / size.slices])
    middle = np.array([size.pixels - 1, size.pixels - 1, size.slices - 1]) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def _write(root: Path, seed: int, size: Size, patients: int) -> None:
    for number, kind in enumerate(KINDS, start=1):
        _write_batch(root, f"patient_{number:02d}", kind, np.random.default_rng([seed, 1, number]), size)
    for number in range(1, patients + 1):
        _write_training(root, f"p{number:02d}", np.random.default_rng([seed, 2, number]), size)


def _write_batch(root: Path, name: str, file_kind: str, rng: np.random.Generator, size: Size) -> None:
    patient = Patient.draw(rng)
    while not patient.lesions:
        patient = Patient.draw(rng)
    for number, (series, kind) in enumerate(BATCH.items(), start=1):
        image, found = make_series(rng, patient, kind, size)
        folder = root / "series" / name / series
        if file_kind == "dicom":
            files = write_dicom_series(folder, image.voxels, image.affine, f"DEMO-{name}", number)
        elif file_kind == "nifti":
            files = [_write_nifti(folder.with_name(f"{series}.nii"), image)]
        else:
            files = [folder / f"{index:03d}.png" for index in range(size.slices)]
            for path, slice_ in zip(files, image.slices()[:, 0], strict=True):
                _write_png(path, slice_)
        if series == LOOKED_FOR:
            written = Series(name, series, file_kind, tuple(files)).read()
            for mask, labels in (("cord", (CORD, LESION)), ("lesion", (LESION,))):
                inside = SeriesImage(np.isin(found, labels), image.affine, slice_axis=2)
                write_like(written, inside.slices(), root / REFERENCE / name / f"{series}_{mask}.nii.gz")


def _write_nifti(path: Path, image: SeriesImage) -> Path:
    """Write as converters do: axes in world order (RAS+), which isn't the order of the scanner."""
    volume = nib.as_closest_canonical(nib.Nifti1Image(image.voxels, image.affine))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(volume.to_bytes())
    return path


def _write_training(root: Path, name: str, rng: np.random.Generator, size: Size) -> None:
    patient = Patient.draw(rng)
    for stage, label, kind in _classes(rng):
        image, _ = make_series(rng, patient, kind, size)
        series = "_".join(part for part in kind if part)
        # From all over the series: prediction classifies every slice.
        for index in (size.slices // 4, size.slices // 2, 3 * size.slices // 4):
            _write_png(root / stage / label / f"{name}_{series}_{index:03d}.png", image.slices()[index, 0])
    image, found = make_series(rng, patient, BATCH[LOOKED_FOR], size)
    labels = SeriesImage(found, image.affine, 2).slices()[:, 0]
    for index, slice_ in enumerate(image.slices()[:, 0]):
        cord, lesion = np.isin(labels[index], (CORD, LESION)), labels[index] == LESION
        for stage, mask in (("cord", cord), ("lesion", lesion)):
            if stage == "cord" or cord.any():
                _write_png(root / stage / "images" / f"{name}_{index:03d}.png", slice_)
                _write_png(root / stage / "masks" / f"{name}_{index:03d}.png", mask * _SCALE)


def _classes(rng: np.random.Generator) -> Iterator[tuple[str, str, Kind]]:
    """Stage, class and content of each training series; properties that the class leaves open are drawn."""

    def any_of(names: object) -> str:
        return str(rng.choice(list(names)))  # type: ignore[call-overload]

    for anatomy in ANATOMIES:
        for view in _VIEWS:
            location = any_of(LOCATIONS) if anatomy == "spine" else ""
            yield "anatomy", anatomy, Kind(anatomy, location, view, any_of(CONTRASTS))
        for sequence in ("T1w", "T2w"):
            location = any_of(LOCATIONS) if anatomy == "spine" else ""
            yield "foundation", f"{anatomy}_{sequence}", Kind(anatomy, location, any_of(_VIEWS), sequence)
    for location in LOCATIONS:
        for view in _VIEWS:
            yield "location_view", f"{location}_{view}", Kind("spine", location, view, any_of(CONTRASTS))
    for anatomy in ("brain", "knee"):
        yield "location_view", "other", Kind(anatomy, "", any_of(_VIEWS), any_of(CONTRASTS))
    for sequence in CONTRASTS:
        for view in ("sagittal", any_of(("axial", "coronal"))):
            yield "sequence", sequence, Kind("spine", "cervical", view, sequence)


def _write_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(image * (220 / _SCALE), 0, 255).astype(np.uint8)).save(path)
