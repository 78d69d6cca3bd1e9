"""A folder as archives are: good series of every kind, odd ones, and what was made to break a program."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from cascade_files import spine, write_series
from PIL import Image
from pydicom.filewriter import dcmwrite

_LONG = "n" * 120
# Entry → what becomes of its series ("admitted", "refused", "broken"), or a part of the reason why it isn't used.
ENTRIES = {
    "dicom": "admitted",
    "no_preamble": "admitted",
    "no_preamble_implicit": "admitted",
    "nifti": "admitted",
    "upper_case": "admitted",
    "hdr_img": "admitted",
    "nrrd": "admitted",
    "mha": "admitted",
    "mgz": "admitted",
    "slices": "admitted",
    "knee": "refused",
    "one_voxel_wide": "admitted",
    "long_names": "admitted",
    "summary.json": "admitted",
    "report.json": "admitted",
    "not_utf8": "admitted",
    "no_number": "broken",
    "constant": "broken",
    "four_dimensions": "broken",
    "truncated": "broken",
    "empty": "broken",
    "mixed_shapes": "broken",
    "no_pixels": "broken",
    "localizer": "is a localizer",
    "damaged_dicom": "DICOM",
    "dcm_gz": "unpack it",
    "zip": "unpack it",
    "bmp": "convert it",
    "img_alone": "without the header",
    "two_versions": "keep one",
    "broken_link": "broken link",
    "loop": "another name",
    "pipe": "device or a pipe",
    "notes": "no image",
    "hidden": "hidden",
}


def make_mixed_folder(root: Path) -> Path:
    """Write all `ENTRIES`, each into a folder of its name (or the other way round: as its name demands)."""
    series = root / "series"
    for name in ENTRIES:
        folder = series / name
        folder.mkdir(parents=True)
        _MAKERS.get(name, _plain)(folder, name)
    return series


def _voxels() -> np.ndarray:
    return spine()[0].voxels.astype(np.int16)


def _save(path: Path, voxels: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(voxels, spine()[0].affine), path)


def _plain(folder: Path, name: str) -> None:
    write_series(folder / "t2", "dicom", "knee" if name == "knee" else "cervical")


def _no_preamble(folder: Path, name: str) -> None:
    write_series(folder / "t2", "dicom", patient=f"SECRET-{name}")
    for path in (folder / "t2").iterdir():
        data = pydicom.dcmread(path)
        del data.file_meta
        data.preamble = None
        dcmwrite(path, data, implicit_vr=name.endswith("implicit"), little_endian=True, enforce_file_format=False)


def _by_itk(folder: Path, name: str) -> None:
    import itk

    image = itk.image_view_from_array(np.ascontiguousarray(_voxels().T))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ spine()[0].affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / spacing)))
    itk.imwrite(image, str(folder / f"t2.{name}"))


def _odd_voxels(folder: Path, name: str) -> None:
    voxels = _voxels()
    changed = {
        "no_number": np.where(voxels > 600, np.nan, voxels).astype(np.float32),
        "constant": np.full_like(voxels, 7),
        "four_dimensions": np.stack([voxels, voxels], -1),
        "one_voxel_wide": voxels[22:23],
    }
    _save(folder / "t2.nii.gz", changed[name])


def _named(folder: Path, name: str) -> None:
    folder = {"long_names": folder / _LONG / _LONG / _LONG, "summary.json": folder / name}.get(name, folder / "t2")
    folder.mkdir(parents=True)
    _save(folder / "t2.nii.gz", _voxels())


def _not_utf8(folder: Path, name: str) -> None:
    _save(folder / "t2.nii.gz", _voxels())
    os.rename(folder / "t2.nii.gz", os.path.join(os.fsencode(folder), b"caf\xe9\n.nii.gz"))


def _damaged(folder: Path, name: str) -> None:
    path = folder / "t2.nii.gz"
    _save(path, _voxels())
    path.write_bytes(path.read_bytes()[:300] if name == "truncated" else b"")


def _odd_dicom(folder: Path, name: str) -> None:
    files = sorted(write_series(folder / "t2", "dicom").iterdir())
    for path in files:
        data = pydicom.dcmread(path)
        if name == "localizer":
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        else:
            data.PixelData = data.PixelData[:100]
        data.save_as(path)


def _mixed_shapes(folder: Path, name: str) -> None:
    Image.new("L", (10, 10)).save(sorted(write_series(folder / "t2", "slices").iterdir())[2])


def _dcm_gz(folder: Path, name: str) -> None:
    for path in list(write_series(folder / "t2", "dicom").iterdir()):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def _zip(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / "t2.zip", "w") as archive:
        for path in sorted(write_series(folder / "t2", "slices").iterdir()):
            archive.write(path, path.name)
    shutil.rmtree(folder / "t2")


def _two_versions(folder: Path, name: str) -> None:
    _save(folder / "t2.nii.gz", _voxels())
    _save(folder / "t2.nii", _voxels())


def _hdr_img(folder: Path, name: str) -> None:
    nib.save(nib.Nifti1Pair(_voxels(), spine()[0].affine), folder / "t2.hdr")
    if name == "img_alone":
        (folder / "t2.hdr").unlink()


def _notes(folder: Path, name: str) -> None:
    (folder / "knee.json").write_text("{}")
    (folder / "readme.txt").write_text("from the archive")


_MAKERS = {
    **dict.fromkeys(("no_preamble", "no_preamble_implicit"), _no_preamble),
    **dict.fromkeys(("no_number", "constant", "four_dimensions", "one_voxel_wide"), _odd_voxels),
    **dict.fromkeys(("nrrd", "mha"), _by_itk),
    **dict.fromkeys(("long_names", "summary.json", "report.json"), _named),
    **dict.fromkeys(("truncated", "empty"), _damaged),
    **dict.fromkeys(("localizer", "no_pixels"), _odd_dicom),
    **dict.fromkeys(("hdr_img", "img_alone"), _hdr_img),
    "nifti": lambda folder, name: _save(folder / "t2.nii.gz", _voxels()),
    "upper_case": lambda folder, name: _save_upper(folder),
    "mgz": lambda folder, name: nib.save(nib.MGHImage(_voxels(), spine()[0].affine), folder / "t2.mgz"),
    "slices": lambda folder, name: write_series(folder / "t2", "slices"),
    "not_utf8": _not_utf8,
    "mixed_shapes": _mixed_shapes,
    "damaged_dicom": lambda folder, name: (folder / "t2.dcm").write_bytes(b"no image"),
    "dcm_gz": _dcm_gz,
    "zip": _zip,
    "bmp": lambda folder, name: Image.new("L", (40, 48)).save(folder / "1.bmp"),
    "two_versions": _two_versions,
    "broken_link": lambda folder, name: (folder / "t2.nii.gz").symlink_to(folder / "gone.nii.gz"),
    "loop": lambda folder, name: (folder / "up").symlink_to(folder.parent),
    "pipe": lambda folder, name: os.mkfifo(folder / "pipe"),
    "notes": _notes,
    "hidden": lambda folder, name: (folder / ".t2.nii.gz").write_bytes(b"left by a kill"),
}


def _save_upper(folder: Path) -> None:
    _save(folder / "t2.nii.gz", _voxels())
    (folder / "t2.nii.gz").rename(folder / "T2.NII.GZ")
