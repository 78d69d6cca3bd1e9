from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ext import ct_rate
from monai_ext.ct_rate import demo
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.chest_range import chest_range
from monai_ext.errors import ConfigError, DataError

SMALL = demo.SIZES["small"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo"), counts=(12, 4))


def chest(labels: set[str], seed: int = 5) -> np.ndarray:
    return demo.make_volume(np.random.default_rng(seed), labels, SMALL)


def test_files_look_like_ct_rate(dataset: Path) -> None:
    problems = ct_rate.check(dataset)
    assert {problem.severity for problem in problems} == {"note"}  # labels that nobody has
    index = ct_rate.volumes(dataset)
    assert Counter(volume.split for volume in index.volumes) == {"train": 12 + 3 + 4, "valid": 4 + 1 + 1}
    names = {volume.name for volume in index.volumes}
    assert {"train_3_b_1.nii.gz", "train_4_a_2.nii.gz", "valid_4_a_1.nii.gz"} <= names
    assert all(
        volume.path.endswith(f"{volume.split}/{volume.patient}/{volume.name[:-9]}/{volume.name}")
        for volume in index.volumes
    )


def test_volumes_store_their_numbers_and_axes_in_the_ways_of_real_ones(dataset: Path) -> None:
    ways, axes, types = set(), set(), set()
    for volume in ct_rate.volumes(dataset).volumes:
        image = nib.load(volume.path)
        ways.add((image.dataobj.slope, image.dataobj.inter, *volume.rescale))
        axes.add("".join(nib.aff2axcodes(image.affine)))
        types.add(image.get_data_dtype())
        ct = read_chest_ct(volume.path, volume.rescale)
        assert ct.stored.shape == SMALL.shape
        np.testing.assert_allclose(ct.spacing, SMALL.spacing, rtol=1e-5)
        upper = ct.hounsfield(28)
        assert abs(np.median(upper[:4]) - demo.AIR) < 60
        inside = upper[26:38, 16:22]
        lung = inside[(inside > -900) & (inside < -500)]  # without bubbles and nodules
        assert lung.size > 10
        assert abs(np.median(lung) - demo.LUNG) < 60
        first, last, doubt = chest_range(ct)
        assert not doubt
        assert 2 <= first <= 8
        assert 33 <= last <= 39
    assert ways == {(1, -1024, 1, -1024), (1, 0, 1, -8192), (1, 0, 1, 0)}
    assert axes == {"LPS", "RAS", "LPI"}
    assert types == {np.dtype(np.int16), np.dtype(np.float32)}


def test_the_same_volumes_as_version_2_give_the_network_the_same(dataset: Path, tmp_path: Path) -> None:
    """As CT-RATE publishes them now: Hounsfield units in ``train_fixed``, and the tables of version 1."""
    shutil.copytree(dataset, tmp_path / "data")
    before = ct_rate.volumes(tmp_path / "data").volumes
    means, table_is_ignored = [], []
    for volume in before:
        ct = read_chest_ct(volume.path, volume.rescale)
        means.append(ct.windowed().mean())
        image = nib.load(volume.path)
        hounsfield = np.rint(np.asarray(image.dataobj) + (0 if image.dataobj.inter else volume.rescale[1]))
        nib.save(nib.Nifti1Image(hounsfield.astype(np.int16), image.affine), volume.path)
        table_is_ignored += [volume.name] if volume.rescale != (1.0, 0.0) else []
    for split in ("train", "valid"):
        (tmp_path / "data" / "dataset" / split).rename(tmp_path / "data" / "dataset" / f"{split}_fixed")
    after = ct_rate.volumes(tmp_path / "data").volumes
    assert [volume.name for volume in after] == [volume.name for volume in before]
    cts = [read_chest_ct(volume.path, volume.rescale) for volume in after]
    assert {str(ct.reading) for ct in cts} == {"stored values"}
    np.testing.assert_allclose([ct.windowed().mean() for ct in cts], means, atol=1e-5)
    assert min(means) > 0.2  # rescaled twice it would be 0.01
    notes = [problem for problem in ct_rate.check(tmp_path / "data") if problem.code == "hounsfield"]
    noted = {Path(path).name for note in notes for path in (note.path, *note.files)}
    assert noted == set(table_is_ignored)
    assert len(notes) == 2  # -1024 and -8192


def test_scans_of_a_patient_share_labels_and_reconstructions_their_anatomy(dataset: Path) -> None:
    volumes = {volume.name: volume for volume in ct_rate.volumes(dataset).volumes}
    first, again, later = (volumes[f"train_12_{rest}.nii.gz"] for rest in ("a_1", "a_2", "b_1"))
    assert first.labels == again.labels == later.labels
    a, b, c = (read_chest_ct(volume.path, volume.rescale).hounsfield() for volume in (first, again, later))
    assert 0 < np.abs(a - b).mean() < 60 < np.abs(a - c).mean()


@pytest.mark.parametrize("label", demo.VISIBLE)
def test_a_label_adds_its_structure_and_nothing_else(label: str) -> None:
    without, with_it = chest(set()), chest({label})
    changed = without != with_it
    assert 20 < changed.sum() < 0.1 * changed.size
    others = {name for name in demo.VISIBLE if name != label}
    assert (chest(others) != chest(set(demo.VISIBLE))).any()
    values = with_it[changed]
    low, high = {
        "Emphysema": (-1000, -950),
        "Pleural effusion": (0, 20),
        "Lung nodule": (0, 60),
        "Cardiomegaly": (0, 60),
        "Arterial wall calcification": (800, 1000),
        "Medical material": (2000, 3071),
    }[label]
    assert values.min() >= low
    assert values.max() <= high


@pytest.mark.parametrize("label", demo.VISIBLE)
def test_most_chosen_slices_of_most_patients_show_each_label_somewhere(label: str) -> None:
    positions = ct_rate.slice_positions(5, 36)
    shown = [(chest(set(), seed) != chest({label}, seed))[positions].any(axis=(1, 2)).sum() for seed in range(8)]
    assert min(shown) >= 2


def test_each_visible_label_is_positive_in_the_same_share_of_both_sets(dataset: Path) -> None:
    index = ct_rate.volumes(dataset)
    for split, count in (("train", round(0.4 * 12)), ("valid", round(0.4 * 4))):
        for column, name in enumerate(ct_rate.LABELS):
            positive = {v.patient for v in index.volumes if v.split == split and v.labels[column]}
            assert len(positive) == (count if name in demo.VISIBLE else 0), name


def test_same_seed_gives_the_same_bytes_and_is_kept(tmp_path: Path) -> None:
    first, second = (demo.make_demo(tmp_path / name, counts=(3, 1)) for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    before = (first / files[0]).stat().st_mtime_ns
    demo.make_demo(first, counts=(3, 1))
    assert (first / files[0]).stat().st_mtime_ns == before
    with pytest.raises(DataError, match="is not this demo"):
        demo.make_demo(first, seed=1, counts=(3, 1))


def test_unknown_sizes_and_empty_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size must be one of"):
        demo.make_demo(tmp_path, size="huge")
    with pytest.raises(ConfigError, match="at least one patient"):
        demo.make_demo(tmp_path, counts=(0, 0))
