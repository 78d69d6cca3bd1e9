from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext.ct_rate import LABELS, Volume, VolumeIndex, splits
from monai_ext.errors import ConfigError, DataError


def cohort(scans: list[list[int]], valid: int = 0, seed: int = 0) -> VolumeIndex:
    """One list a patient: how many reconstructions each scan has. The first ``valid`` patients are CT-RATE's own."""
    rng = np.random.default_rng(seed)
    found = []
    for number, patient in enumerate(scans):
        split = "valid" if number < valid else "train"
        labels = tuple(int(value) for value in rng.random(len(LABELS)) < 0.3)
        for scan, reconstructions in zip("abcdefgh", patient, strict=False):
            for reconstruction in range(reconstructions):
                name = f"{split}_{number}_{scan}_{reconstruction + 1}.nii.gz"
                found.append(Volume(name, split, f"{split}_{number}", labels, path=name))
    return VolumeIndex(found, [])


patients = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=12, max_size=40)


@given(
    scans=patients,
    test=st.sampled_from(["valid", "random"]),
    val_fraction=st.sampled_from([None, 0.1, 0.5]),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_no_patient_is_in_two_parts_and_every_volume_in_one(scans, test, val_fraction, seed, order) -> None:
    index = cohort(scans, valid=4)
    parts = splits(index, num_folds=3, test=test, val_fraction=val_fraction, seed=seed)
    owners = [{volume.patient for volume in members} for members in parts.values()]
    assert sum(map(len, owners)) == len(set().union(*owners))
    assert sorted(v.name for members in parts.values() for v in members) == sorted(v.name for v in index.volumes)
    shuffled = list(index.volumes)
    order.shuffle(shuffled)
    again = splits(VolumeIndex(shuffled, []), num_folds=3, test=test, val_fraction=val_fraction, seed=seed)
    assert {part: {v.name for v in members} for part, members in parts.items()} == {
        part: {v.name for v in members} for part, members in again.items()
    }


def test_folds_validate_each_patient_once_and_share_the_test_part() -> None:
    index = cohort([[2, 1]] * 23, valid=5)
    parts = [splits(index, fold) for fold in range(1, 6)]
    validated = [patient for part in parts for patient in {volume.patient for volume in part["val"]}]
    assert len(validated) == len(set(validated)) == 18
    assert all({v.patient for v in part["test"]} == {f"valid_{i}" for i in range(5)} for part in parts)


def test_seeds_draw_other_patients() -> None:
    index = cohort([[1]] * 40)
    for settings_ in ({}, {"val_fraction": 0.2}, {"test": "random"}):
        drawn = {tuple(v.name for v in splits(index, seed=seed, **settings_)["val"]) for seed in range(5)}
        assert len(drawn) == 5


def test_rare_labels_are_spread_evenly_over_the_folds() -> None:
    found = []
    for number in range(100):
        labels = [0] * len(LABELS)
        labels[3], labels[9] = int(number % 20 == 0), int(number % 4 == 1)
        found.append(Volume(f"train_{number}_a_1.nii.gz", "train", f"train_{number}", tuple(labels)))
    for fold in range(1, 6):
        val = splits(VolumeIndex(found, []), fold)["val"]
        assert sum(volume.labels[3] for volume in val) == 1
        assert sum(volume.labels[9] for volume in val) == 5


def test_fractions_are_of_patients() -> None:
    index = cohort([[2, 2]] * 40)
    parts = splits(index, val_fraction=0.25, test="random", test_fraction=0.2)
    assert {name: len({v.patient for v in part}) for name, part in parts.items()} == {"train": 24, "val": 8, "test": 8}
    assert "test" not in splits(index)
    assert "test" not in splits(index, test="random", test_fraction=0)


def test_a_larger_subset_contains_a_smaller_one() -> None:
    index = cohort([[1, 1]] * 50, valid=10)
    drawn = [{v.patient for part in splits(index, subset=subset).values() for v in part} for subset in (0.3, 0.6, 1.0)]
    assert [len(patients) for patients in drawn] == [15, 30, 50]
    assert drawn[0] < drawn[1] < drawn[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 6}, "fold must be an integer from 1"),
        ({"fold": 0}, "fold must be an integer from 1"),
        ({"fold": True}, "fold must be an integer from 1"),
        ({"test": "validation"}, "test must be 'valid' or 'random'"),
        ({"subset": 0}, "subset must be above 0"),
        ({"test_fraction": 1}, "test_fraction from 0"),
        ({"val_fraction": 1}, "val_fraction must be between"),
        ({"val_fraction": 0.2, "fold": 2}, "only fold 1 of it"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_arguments_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        splits(cohort([[1]] * 10), **changes)


def test_too_few_patients_and_missing_labels_are_refused() -> None:
    with pytest.raises(DataError, match="3 patients are too few for 5 folds"):
        splits(cohort([[5]] * 3))
    with pytest.raises(DataError, match="1 patients are left to train"):
        splits(cohort([[5]]), val_fraction=0.5)
    unlabelled = Volume("train_1_a_1.nii.gz", "train", "train_1")
    with pytest.raises(DataError, match=r"train_1_a_1\.nii\.gz: has no labels"):
        splits(VolumeIndex([unlabelled], []))


def test_an_unknown_part_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--section exam: .*there are train, val"):
        splits(cohort([[1]] * 10))["exam"]
