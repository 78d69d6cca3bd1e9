"""Every kind of broken or hostile file ends in one sentence that names it, and nothing in it is run."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ext import brats
from monai_ext.data.volumes import read_channels, read_volume
from monai_ext.errors import DataError
from monai_ext.transforms import CheckFinited, LoadVolumed

HOSTILE = ["$__import__('os').mkdir('pwned')", "@x", "%f.json::k"]


def nifti(path: Path, array: np.ndarray, spacing: float = 1.0) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([spacing, spacing, spacing, 1.0])), path)
    return path


def noise(shape: tuple[int, ...] = (16, 17, 18)) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 999, shape).astype(np.int16)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def truncated_gzip(path: Path) -> Path:
    nifti(path, noise())
    path.write_bytes(path.read_bytes()[:3000])
    return path


def truncated_plain(path: Path) -> Path:
    nifti(path, noise())
    path.write_bytes(path.read_bytes()[:3000])
    return path


def short_in_good_gzip(path: Path) -> Path:
    nifti(path, noise())
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:3000]))
    return path


def flipped_bit(path: Path) -> Path:
    nifti(path, noise())
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the checksum
    path.write_bytes(content)
    return path


def cut_in_its_checksum(path: Path) -> Path:
    nifti(path, noise())
    path.write_bytes(path.read_bytes()[:-4])  # all voxels are there
    return path


def write(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def pickled(path: Path) -> Path:
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    return path


def array(values: np.ndarray) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        np.save(path, values)
        return path

    return make


CORPUS = [
    ("truncated.nii.gz", truncated_gzip, "truncated"),
    ("truncated.nii", truncated_plain, "truncated"),
    ("short.nii.gz", short_in_good_gzip, "truncated"),
    ("unchecked.nii.gz", cut_in_its_checksum, "truncated"),
    ("flipped.nii.gz", flipped_bit, "damaged"),
    ("empty.nii.gz", write(b""), "is empty"),
    ("empty.nii", write(b""), "is empty"),
    ("empty.npy", write(b""), "is empty"),
    ("text.nii.gz", write(b"<html>404 not found</html>"), "not gzip-compressed"),
    ("text.nii", write(b"<html>404 not found</html>" * 40), "not a NIfTI image"),
    ("zipped_text.nii.gz", write(gzip.compress(b"hello " * 200)), "not a NIfTI image"),
    ("nothing_in_it.nii.gz", write(gzip.compress(b"")), "not a NIfTI image|truncated|can't be read"),
    ("four_d.nii.gz", lambda path: nifti(path, noise((4, 5, 6, 3))), "expected one 3-D volume, got 4 dim"),
    ("flat.nii.gz", lambda path: nifti(path, noise((40, 50))), "expected one 3-D volume"),
    ("flat.npy", array(np.ones((4, 5))), "expected one 3-D volume"),
    ("four_d.npy", array(np.ones((2, 3, 4, 5))), "expected one 3-D volume"),
    ("void.npy", array(np.ones((0, 3, 4))), "no voxels"),
    ("pickled.npy", pickled, "pickled objects"),
    ("text.npy", write(b"1 2 3"), "can't be read|not a plain numpy array"),
    ("image.png", write(b"\x89PNG"), "is not a volume this program reads"),
]


@pytest.mark.parametrize(("name", "make", "message"), CORPUS, ids=[entry[0] for entry in CORPUS])
def test_damaged_files_are_data_errors_with_path_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], Path], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        read_volume(path)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_missing_and_directory_paths_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.nii\.gz: file not found"):
        read_volume(tmp_path / "none.nii.gz")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(DataError, match=r"folder\.nii: "):
        read_volume(tmp_path / "folder.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image], ids=["nifti1", "nifti2"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_good_files_of_every_flavour_are_read_exactly(tmp_path: Path, suffix: str, kind: type, order: str) -> None:
    affine = np.array([[-2.0, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    header = kind.header_class(endianness=order)
    path = tmp_path / f"größe 1{suffix}"
    nib.save(kind(noise(), affine, header), path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.numpy()[0], noise())
    np.testing.assert_allclose(volume.affine, affine)
    assert volume.meta["filename_or_obj"] == str(path)


def test_scaling_of_the_header_and_several_gzip_members_are_honoured(tmp_path: Path) -> None:
    image = nib.Nifti1Image(noise(), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "scaled.nii.gz")
    expected = nib.load(tmp_path / "scaled.nii.gz").get_fdata()
    np.testing.assert_allclose(read_volume(tmp_path / "scaled.nii.gz").numpy()[0], expected)
    content = gzip.decompress((tmp_path / "scaled.nii.gz").read_bytes())
    (tmp_path / "members.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    np.testing.assert_allclose(read_volume(tmp_path / "members.nii.gz").numpy()[0], expected)


def test_numpy_volumes_are_float32_with_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise().astype(np.float64))
    volume = read_volume(tmp_path / "a.npy")
    assert volume.shape == (1, 16, 17, 18)
    assert str(volume.dtype) == "torch.float32"


@pytest.mark.parametrize(
    ("shape", "spacing", "message"),
    [((16, 17, 19), 1.0, "same shape"), ((16, 17, 18), 1.5, "same affine")],
    ids=["shape", "affine"],
)
def test_channels_on_different_grids_are_refused(tmp_path: Path, shape, spacing: float, message: str) -> None:
    files = [nifti(tmp_path / "t1.nii.gz", noise()), nifti(tmp_path / "t2.nii.gz", noise(shape), spacing)]
    with pytest.raises(DataError, match=rf"t2\.nii\.gz: does not have the {message}.*t1\.nii\.gz"):
        read_channels(files)
    with pytest.raises(DataError, match="does not have"):
        LoadVolumed("image")({"image": files})


def test_nan_voxels_name_file_and_case(tmp_path: Path) -> None:
    values = noise().astype(np.float32)
    values[3, 4, 5] = np.nan
    item = {"case": "s1", "image": str(nifti(tmp_path / "nan.nii.gz", values))}
    with pytest.raises(DataError, match=r"nan\.nii\.gz: case 's1' has 1 of 4896 voxels"):
        CheckFinited("image")(LoadVolumed("image")(item))
    assert CheckFinited("image", "fill")(LoadVolumed("image")(item))["image"][0, 3, 4, 5] == 0


@pytest.mark.parametrize("text", HOSTILE, ids=["dollar", "at", "percent"])
def test_hostile_strings_in_tables_stay_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "classes.csv").write_text(f"patient_id,class\na,{text}\n", encoding="utf-8")
    nifti(folder / "a_flair.nii", noise())
    with pytest.raises(DataError, match="patient 'a' has class"):
        brats.find_subjects(folder)

    (folder / "classes.csv").write_text(f'patient_id,class\n"{text}",HGG\n', encoding="utf-8")
    nifti(folder / f"{text}_flair.nii", noise())
    (item,) = brats.find_subjects(folder)
    assert item["case"] == text
    assert LoadVolumed("image")(item)["case"] == text
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["../secret", "..", "/etc/passwd", "a\\b"])
def test_ids_cannot_leave_the_dataset(tmp_path: Path, name: str) -> None:
    (tmp_path / "classes.csv").write_text(f"patient_id,class\n{name},HGG\n", encoding="utf-8")
    with pytest.raises(DataError, match="not a plain name"):
        brats.find_subjects(tmp_path)
