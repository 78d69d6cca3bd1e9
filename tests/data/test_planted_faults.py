"""Synthetic data with one fault each: `check` finds it, and finds nothing in clean data.

The name of a fault is its row in the table of docs/checking.md.
"""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.task import find_tasks

pytestmark = pytest.mark.slow
WORDS = {
    "brats_resnet50": ("--image_size", 32, "--num_folds", 3),
    "nuclei_vgg3d": ("--crop_size", 40, "--margin", 4, "--num_folds", 3, "--test_fraction", 0),
    "ct_rate_multilabel": ("--num_slices", 4, "--slice_size", 64, "--num_folds", 3, "--metadata", "optional"),
}
# At least ten cases of each class, as `shortcut` needs.
COUNTS = {"brats_resnet50": (12, 12), "nuclei_vgg3d": (12, 12, 0, 0, 0), "ct_rate_multilabel": (24, 2)}


def found(bundle, folder, output):
    """Code and message of errors and warnings."""
    words = ("check", bundle, "--dataset_dir", folder, "--output", output, *WORDS[bundle])
    CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    problems = json.loads(output.read_text())["problems"]
    return {(problem["code"], problem["message"]) for problem in problems if problem["severity"] != "note"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Data of each bundle and what is found in them, made when first asked for."""
    made = {}

    def make(bundle):
        if bundle not in made:
            folder = tmp_path_factory.mktemp(bundle) / "data"
            room = __import__(f"monai_ext.{ROOMS[bundle]}.demo", fromlist=["make_demo"])
            data = room.make_demo(folder, counts=COUNTS[bundle])
            made[bundle] = data, found(bundle, data, folder.with_name("found.json"))
        return made[bundle]

    return make


ROOMS = {"brats_resnet50": "brats", "nuclei_vgg3d": "nuclei", "ct_rate_multilabel": "ct_rate"}


def images(folder):
    """Volumes of different patients, or folders of slices."""
    if list(folder.rglob("raw")):
        return sorted(folder.rglob("raw"))
    flair = sorted(folder.rglob("*_flair.nii.gz"))
    return flair or sorted(folder.rglob("train_*_a_1.nii.gz"))


def files_of(image):
    return sorted(image.glob("*.tif")) if image.is_dir() else [image]


def rewrite(image, change, dtype=None):
    """Change the voxels (of a stack: of the slices together) and keep all else."""
    if image.is_dir():
        files = files_of(image)
        volume = change(np.stack([tifffile.imread(file) for file in files]))
        for file in files:
            file.unlink()
        for number, plane in enumerate(volume):
            tifffile.imwrite(image / files[min(number, len(files) - 1)].name, plane.astype(dtype or plane.dtype))
    else:
        old = nib.load(image)
        voxels = change(np.asanyarray(old.dataobj))
        new = nib.Nifti1Image(voxels.astype(dtype or voxels.dtype), old.affine)
        nib.save(new, image)


def copies(folder, change=lambda voxels: voxels):
    """One case's voxels under the names of several others: some of them in the other set."""
    first, *others = images(folder)
    for other in others[:6]:
        if first.is_dir():
            shutil.rmtree(other)
            shutil.copytree(first, other)
            mask, of_other = first.parent / "mask", other.parent / "mask"
            shutil.rmtree(of_other)
            shutil.copytree(mask, of_other)
        else:
            shutil.copyfile(first, other)
        rewrite(other, change)


def truncated(folder):
    file = files_of(images(folder)[1])[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def each(change, count=1, dtype=None):
    """A fault of the voxels of the first cases."""
    return lambda folder: [rewrite(image, change, dtype) for image in images(folder)[:count]]


def noisy(voxels):
    rng = np.random.default_rng(0)
    top = np.iinfo(voxels.dtype).max if voxels.dtype.kind in "iu" else np.inf
    changed = voxels + rng.integers(0, 2, voxels.shape) * (voxels != 0)
    return np.clip(changed, None, top).astype(voxels.dtype)


def wrong_values(folder):
    """A segmentation with a label that BraTS hasn't."""
    rewrite(sorted(folder.rglob("*_seg.nii.gz"))[0], lambda voxels: np.where(voxels == 4, 3, voxels))


def other_grid(folder):
    path = sorted(folder.rglob("*_t1.nii.gz"))[0]
    old = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(old.dataobj), old.affine @ np.diag([2, 1, 1, 1])), path)


def in_both_classes(folder):
    root = next(folder.rglob("HGG")).parent
    case = sorted((root / "HGG").iterdir())[0]
    shutil.copytree(case, root / "LGG" / case.name)


def spacing_by_class(folder):
    for path in folder.rglob("LGG/*/*.nii.gz"):
        old = nib.load(path)
        nib.save(nib.Nifti1Image(np.asanyarray(old.dataobj), old.affine @ np.diag([1.2, 1.2, 1.2, 1])), path)


def scanner_by_class(folder):
    for path in folder.rglob("*.nii.gz"):
        old = nib.load(path)
        old.header["descrip"] = b"GE Signa" if "/LGG/" in str(path) else b"Siemens Trio"
        nib.save(nib.Nifti1Image(np.asanyarray(old.dataobj), old.affine, old.header), path)


def empty_modality(folder):
    rewrite(sorted(folder.rglob("*_t2.nii.gz"))[0], np.zeros_like)


def rows(folder, change, name="*classes.csv"):
    path = next(folder.rglob(name))
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def mixed_types(folder):
    file = files_of(images(folder)[0])[0]
    tifffile.imwrite(file, tifffile.imread(file).astype(np.float32))


def cut_slice(folder):
    file = files_of(images(folder)[0])[1]
    tifffile.imwrite(file, tifffile.imread(file)[:-1])


def colour_slice(folder):
    file = files_of(images(folder)[0])[0]
    tifffile.imwrite(file, np.stack([tifffile.imread(file)] * 3, axis=-1), photometric="rgb")


def larger_by_class(folder):
    """One class in images with a wide black border."""
    lines = [line.split(",") for line in next(folder.rglob("classes.csv")).read_text().splitlines()[1:]]
    chosen = {int(line[0]) for line in lines if line[1] == "1"}
    for image in images(folder):
        if int(image.parent.name) in chosen:
            for part in (image, image.parent / "mask"):
                rewrite(part, lambda volume: np.pad(volume, ((0, 0), (30, 30), (30, 30))))


def thin(folder):
    for image in images(folder)[:1]:
        for part in (image, image.parent / "mask"):
            for file in files_of(part)[6:]:
                file.unlink()


# Whichever reader is the first to refuse a file, and under which code.
REFUSED = {"unusable", "unreadable", "damaged", "format", "geometry", "too-large", "gap", "no-lungs", "hounsfield"}
VOXELS = {
    "truncated file": (truncated, REFUSED),
    "empty file": (lambda folder: files_of(images(folder)[1])[0].write_bytes(b""), REFUSED),
    "text instead of an image": (
        lambda folder: files_of(images(folder)[1])[0].write_text("<html>404 not found</html>"),
        REFUSED,
    ),
    "all zero": (each(np.zeros_like), {"constant-input", "blank", "not-prepared", *REFUSED}),
    "constant": (each(lambda v: np.full_like(v, 100)), {"constant-input", "blank", "not-prepared", *REFUSED}),
    "NaN voxels": (
        each(lambda v: np.where(np.indices(v.shape).sum(axis=0) == 40, np.nan, v.astype(np.float32)), 1, np.float32),
        {"not-finite", "not-prepared", *REFUSED},
    ),
    "a case under several names": (copies, {"copies-across-sets"}),
    "a noisy copy": (lambda folder: copies(folder, noisy), {"near-copies-across-sets", "copies-across-sets"}),
}
FAULTS = {
    "brats_resnet50": {
        **VOXELS,
        "missing modality": (
            lambda folder: sorted(folder.rglob("*_t1ce.nii.gz"))[0].unlink(),
            REFUSED,
        ),
        "modality on another grid": (other_grid, REFUSED),
        "modality of nothing but zeros": (empty_modality, {"blank"}),
        "4-D volume": (each(lambda v: np.stack([v, v], axis=-1)), REFUSED),
        "unknown label in a segmentation": (wrong_values, {"labels"}),
        "subject in both classes": (in_both_classes, {"unusable", "labels"}),
        "one class only": (
            lambda folder: shutil.rmtree(next(folder.rglob("LGG"))),
            {"unusable", "few-cases", "labels"},
        ),
        "spacing tells the class": (spacing_by_class, {"shortcut"}),
        "scanner tells the class": (scanner_by_class, {"shortcut"}),
    },
    "nuclei_vgg3d": {
        **VOXELS,
        "16-bit camera": (
            lambda folder: [
                rewrite(image, lambda v: 104 + v / np.iinfo(v.dtype).max * 271, np.uint16) for image in images(folder)
            ],
            {"narrow-input"},
        ),
        "saturated": (
            each(lambda v: np.clip(v.astype(float) * 4, 0, np.iinfo(v.dtype).max).astype(v.dtype)),
            {"saturated-input"},
        ),
        "six slices": (thin, {"mostly-padding"}),
        "slice of another type": (mixed_types, REFUSED),
        "slice of another size": (cut_slice, REFUSED),
        "colour slice": (colour_slice, REFUSED),
        "missing slice of a mask": (
            lambda folder: files_of(images(folder)[0].parent / "mask")[3].unlink(),
            REFUSED,
        ),
        "no slices": (
            lambda folder: [file.unlink() for file in files_of(images(folder)[0])],
            REFUSED,
        ),
        "sample without a row": (lambda folder: rows(folder, lambda lines: lines[:-1]), {"unusable", "labels"}),
        "row without a sample": (
            lambda folder: rows(folder, lambda lines: [*lines, "999,1,Euchromatic"]),
            {"unusable", "labels"},
        ),
        "sample with two rows": (
            lambda folder: rows(folder, lambda lines: [*lines, lines[-1]]),
            {"unusable", "labels"},
        ),
        "class that is no number": (
            lambda folder: rows(folder, lambda lines: [lines[0], *(line.replace(",1,", ",x,") for line in lines[1:])]),
            {"unusable", "labels"},
        ),
        "class with two names": (
            lambda folder: rows(folder, lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",Other"]),
            {"unusable", "labels"},
        ),
        "size of the image tells the class": (larger_by_class, {"shortcut"}),
    },
    "ct_rate_multilabel": {
        **VOXELS,
        "4-D volume": (each(lambda v: np.stack([v, v], axis=-1)), REFUSED),
        "volume without labels": (
            lambda folder: rows(folder, lambda lines: lines[:-1], "train_predicted_labels.csv"),
            {"unusable", "labels"},
        ),
        "label that is neither 0 nor 1": (
            lambda folder: rows(
                folder, lambda lines: [*lines[:-1], lines[-1][:-1] + "7"], "train_predicted_labels.csv"
            ),
            {"unusable", "labels"},
        ),
        "volume with two rows": (
            lambda folder: rows(folder, lambda lines: [*lines, lines[-1]], "train_predicted_labels.csv"),
            {"unusable", "labels"},
        ),
    },
}
PAIRS = [(bundle, name) for bundle, faults in FAULTS.items() for name in faults]


@pytest.mark.parametrize("bundle", FAULTS)
def test_clean_data_have_no_finding_about_their_inputs(bundle, clean):
    """Too few patients with a rare label are no fault of the data."""
    _, problems = clean(bundle)
    assert all("too few" in message for _, message in problems), problems


@pytest.mark.parametrize(("bundle", "name"), PAIRS, ids=[f"{ROOMS[bundle]}-{name}" for bundle, name in PAIRS])
def test_a_planted_fault_is_found(bundle, name, clean, tmp_path):
    plant, codes = FAULTS[bundle][name]
    data, before = clean(bundle)
    folder = shutil.copytree(data, tmp_path / "data")
    plant(Path(folder))
    problems = found(bundle, folder, tmp_path / "found.json")
    assert codes & {code for code, _ in problems - before}, problems


def test_every_bundle_of_the_table_is_there():
    assert set(FAULTS) <= set(find_tasks())
