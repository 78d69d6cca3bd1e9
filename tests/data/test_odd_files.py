"""Each reader against the same odd files: read right, or refused in one sentence that names the file; nothing else.

The files and who reads them are in `odd_volumes` and `odd_images`; all other readers must refuse them. Meanwhile the
process can't take 600 MB more: the sizes that these files claim would raise MemoryError.
"""

from __future__ import annotations

import resource
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import psutil
import pytest
import tifffile
from odd_images import IMAGES, jpeg_pixels
from odd_volumes import AFFINE, METAS, NRRDS, VOLUMES, VOXELS, Odd

from monai_ext.data.geometry import nifti_geometry
from monai_ext.data.tiff_stack import TiffStack
from monai_ext.data.volumes import read_nifti, read_volume
from monai_ext.data.volumes_zarr import open_volume
from monai_ext.errors import DataError
from monai_ext.spine.nifti import read_volume_series
from monai_ext.spine.slices import read_mask, read_slice

MOST_MEMORY = 600 << 20


def volume(path: Path) -> tuple[Any, Any]:
    read = read_volume(path)
    assert str(read.dtype) == "torch.float32"
    assert read.is_contiguous()
    return read.numpy()[0], np.asarray(read.affine)


def nifti(path: Path) -> tuple[Any, Any]:
    header, voxels = read_nifti(path)
    return voxels, nifti_geometry(header, path).affine


def series(path: Path) -> tuple[Any, Any]:
    read = read_volume_series(path)
    return read.voxels, read.affine


def stack(path: Path) -> tuple[Any, Any]:
    (read,) = (TiffStack.scan(path.parent),)
    return read.read_slice(0), None


READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "volume": volume,
    "nifti": nifti,
    "series": series,
    "zarr": lambda path: (open_volume(path)[...].T, None),
    "slice": lambda path: (read_slice(path), None),
    "mask": lambda path: (read_mask(path), None),
    "stack": stack,
}
FILES = [*VOLUMES, *IMAGES]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each file in a folder of its own."""
    root = tmp_path_factory.mktemp("odd files")
    for number, odd in enumerate(FILES):
        (root / str(number)).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            odd.make(root / str(number) / odd.name)
    return root


@pytest.fixture
def little_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MOST_MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("number", "odd"), list(enumerate(FILES)), ids=[odd.name for odd in FILES])
def test_each_file_is_read_right_or_refused_by_name(corpus: Path, number: int, odd: Odd) -> None:
    path = corpus / str(number) / odd.name
    for name, reader in READERS.items():
        if name not in odd.readers.split():
            with pytest.raises(DataError) as caught:
                reader(path)
            message = str(caught.value)
            assert message.startswith((f"{path}: ", f"{path.parent}: ")), (name, message)
            assert "\n" not in message
            assert "MemoryError" not in message, (name, message)
            assert odd.says in message or name != ("volume" if number < len(VOLUMES) else "slice"), message
            continue
        values, affine = reader(path)
        expected = odd.stored if name in ("nifti", "slice") and odd.stored is not None else odd.voxels
        if expected is not None:
            np.testing.assert_allclose(values, expected, rtol=1e-6, err_msg=name)
        if affine is not None and odd.affine is not None:
            np.testing.assert_allclose(affine, odd.affine, rtol=1e-5, atol=1e-4 * abs(odd.affine[0, 0]), err_msg=name)


def test_the_corpus_is_large_and_has_both_kinds() -> None:
    assert len({odd.name for odd in FILES}) == len(FILES) >= 40
    read = Counter(bool(odd.readers) for odd in FILES)
    assert min(read.values()) > 40
    assert {reader for odd in FILES for reader in odd.readers.split()} == set(READERS)


def places(files: list[Odd]) -> list[tuple[int, Odd]]:
    return [(number, odd) for number, odd in enumerate(FILES) if odd in files and odd.readers]


ITK_CANNOT = ("bytes.mha", "microns.nrrd", "one value.nrrd", "singleton.mha")


@pytest.mark.parametrize(("number", "odd"), [p for p in places([*NRRDS, *METAS]) if p[1].name not in ITK_CANNOT])
def test_nrrd_and_metaimage_are_what_itk_reads(corpus: Path, number: int, odd: Odd) -> None:
    path = corpus / str(number) / odd.name
    lower = path.with_name(path.name.lower())  # ITK's readers look at the suffix
    if lower != path:
        shutil.copy(path, lower)
    theirs = itk.imread(str(lower))
    ours = read_volume(lower)
    np.testing.assert_array_equal(ours.numpy()[0], itk.array_from_image(theirs).T)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(theirs.GetDirection()) * np.asarray(theirs.GetSpacing())
    affine[:3, 3] = theirs.GetOrigin()
    np.testing.assert_allclose(ours.affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-6)


ODD_GEOMETRY = ("micron.nii", "meter.nii.gz", "sform zero.nii", "sform nan.nii.gz", "sform sheared.nii")


@pytest.mark.parametrize(
    ("number", "odd"),
    [p for p in places(VOLUMES) if p[1].name.lower().endswith((".nii", ".nii.gz", ".hdr", ".mgz", ".mgh"))],
)
def test_nifti_and_mgh_are_what_nibabel_reads(corpus: Path, number: int, odd: Odd) -> None:
    path = corpus / str(number) / odd.name
    ours, theirs = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(ours.numpy()[0], np.asarray(theirs.dataobj, np.float32).reshape(VOXELS.shape))
    if odd.name not in ODD_GEOMETRY:
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)


@pytest.mark.parametrize(("number", "odd"), places(IMAGES))
def test_slices_are_what_tifffile_and_pillow_read(corpus: Path, number: int, odd: Odd) -> None:
    path = corpus / str(number) / odd.name
    if "white" in odd.name or (odd.voxels is not None and path.suffix.lower() == ".png"):
        return  # asserted above, by the arrays they were made of
    theirs = tifffile.imread(path) if "tif" in path.suffix.lower() else jpeg_pixels(path)
    np.testing.assert_array_equal(read_slice(path), theirs.astype(np.float32))


def test_a_geometry_that_was_passed_over_is_noted(corpus: Path) -> None:
    notes = {
        odd.name: read_volume(corpus / str(number) / odd.name).meta["geometry_note"] for number, odd in places(VOLUMES)
    }
    assert notes["sform zero.nii"] == "has an sform that has voxels of 0 x 0 x 0 mm; its qform is used"
    assert "is sheared by" in notes["sform sheared.nii"]
    noted = {name for name, note in notes.items() if note}
    unsaid = {"no codes.nii", "spacings.nrrd", "plain.mha", "not said.mgz"}
    assert noted == unsaid | {"sform zero.nii", "sform nan.nii.gz", "sform sheared.nii"}
    assert np.allclose(AFFINE, read_volume(corpus / "0" / FILES[0].name).affine)
