from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_ext import spine
from monai_ext.errors import ConfigError, DataError
from monai_ext.spine import demo
from monai_ext.spine.demo_phantom import CONTRASTS, CORD, LESION, Patient
from monai_ext.task import find_tasks


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo") / "spine")


def test_nothing_is_wrong_with_it(dataset) -> None:
    assert spine.check(dataset) == []
    assert "spinal_cord_cascade" in find_tasks()


def test_there_are_all_kinds_of_files_and_series(dataset) -> None:
    series, problems = spine.find_series(dataset / "series")
    assert problems == []
    assert Counter(one.kind for one in series) == {"dicom": 10, "nifti": 10, "slices": 10}
    assert {one.series for one in series} == set(demo.BATCH)
    for one in series:
        image = one.read()
        expected = "unknown" if one.kind == "slices" else demo.BATCH[one.series].view
        assert (image.plane, len(image.slices())) == (expected, 8), one.name


def test_references_lie_on_the_series_in_the_geometry_of_its_files(dataset) -> None:
    looked_for = [one for one in spine.find_series(dataset / "series")[0] if one.series == demo.LOOKED_FOR]
    assert len(looked_for) == 3
    for one in looked_for:
        image = one.read()
        masks = [
            nib.load(dataset / "reference" / one.patient / f"{one.series}_{name}.nii.gz") for name in ("cord", "lesion")
        ]
        assert all(np.allclose(mask.affine, image.affine, atol=1e-4) for mask in masks)
        cord, lesion = (np.asarray(mask.dataobj) > 0 for mask in masks)
        assert lesion.any()
        assert not (lesion & ~cord).any()
        assert image.voxels[lesion].mean() > 1.5 * np.median(image.voxels[cord]), one.name


def test_every_stage_has_classes_and_patients_for_five_folds(dataset) -> None:
    names = {stage: spine.class_names(dataset / stage) for stage in ("anatomy", "location_view", "sequence")}
    assert names["anatomy"] == ["brain", "knee", "spine"]
    assert len(names["location_view"]) == 10
    assert sorted(names["sequence"]) == sorted(CONTRASTS)
    for stage in (*names, "foundation"):
        assert len(spine.split_by_patient(spine.class_items(dataset / stage), 5)["val"]) > 0
    for stage in ("cord", "lesion"):
        items = spine.image_mask_items(dataset / stage)
        empty = [not spine.read_slice(item["mask"]).any() for item in items]
        assert 0.05 < np.mean(empty) < 0.8, stage  # some slices show none
        assert len({item["patient"] for item in items}) == 12


@pytest.mark.parametrize(("stage", "least"), [("anatomy", 0.8), ("location_view", 0.7), ("sequence", 0.8)])
def test_classes_can_be_told_apart_in_patients_not_seen(dataset, stage, least) -> None:
    """By a linear model on coarse pixels and the histogram: a small network has an easy time."""
    items = spine.class_items(dataset / stage)
    features = []
    for item in items:
        image = spine.read_slice(item["image"])
        coarse = image.reshape(16, 4, 16, 4).mean(axis=(1, 3))
        features.append([*coarse.ravel(), *np.histogram(image, 16, (0, 255))[0]])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    labels, patients = [item["label"] for item in items], [item["patient"] for item in items]
    score = cross_val_score(model, features, labels, groups=patients, cv=GroupKFold(4)).mean()
    assert score > least


def test_lesions_lie_in_the_cord_and_some_patients_have_none() -> None:
    numbers = set()
    for seed in range(24):
        rng = np.random.default_rng(seed)
        patient = Patient.draw(rng)
        numbers.add(len(patient.lesions))
        _, found = demo.make_series(rng, patient, demo.BATCH["t2_sag_cervical"], demo.SIZES["small"])
        assert (found == LESION).any() == bool(patient.lesions)
        assert (found == CORD).any()
    assert numbers == {0, 1, 2, 3}


def test_same_seed_gives_the_same_bytes_and_is_kept(tmp_path) -> None:
    first, second = (demo.make_demo(tmp_path / name, patients=5) for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    stamp = (first / files[0]).stat().st_mtime_ns
    demo.make_demo(first, patients=5)
    assert (first / files[0]).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="exists already and is not this demo"):
        demo.make_demo(first, seed=1, patients=5)


def test_wrong_arguments_are_errors(tmp_path) -> None:
    with pytest.raises(ConfigError, match="'huge'"):
        demo.make_demo(tmp_path / "a", size="huge")
    with pytest.raises(ConfigError, match="patients must be at least 5"):
        demo.make_demo(tmp_path / "a", patients=4)
    assert demo.SIZES["full"].pixels == 320
