"""The whole cascade on the demo data, by the one command that the documents name."""

import json

import nibabel as nib
import numpy as np
import pytest
from bundle_helpers import run_demo

from monai_ext.networks import network_settings
from monai_ext.spine.demo import BATCH, LOOKED_FOR

pytestmark = pytest.mark.slow
CLASSIFIERS = ("anatomy", "location_view", "sequence", "cord_visible")
PATIENTS = ("patient_01", "patient_02", "patient_03")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    run_demo("spinal_cord_cascade", root)
    return root


@pytest.fixture(scope="module")
def demo(root):
    """Folder of runs and networks."""
    return root / "runs"


def best(demo, stage):
    (path,) = demo.glob(f"{stage}/fold_1/run_*/metrics/metrics.json")
    return json.loads(path.read_text())["metrics"]


@pytest.mark.parametrize("stage", CLASSIFIERS)
def test_classes_of_held_out_patients_are_told_apart(demo, stage):
    assert best(demo, stage)["f1"] >= 0.9


@pytest.mark.parametrize(("stage", "least"), [("cord", 0.85), ("lesion", 0.7)])
def test_masks_of_held_out_patients_are_found(demo, stage, least):
    metrics = best(demo, stage)
    assert metrics["dice"] >= least
    assert metrics["pooled_dice"] >= least


def test_the_networks_for_inference_lie_together(demo):
    for stage in (*CLASSIFIERS, "cord", "lesion"):
        folder = demo / "models" / stage
        assert network_settings(folder / "model.pt")["stage"] == stage
        assert (folder / "metadata.json").exists()
        assert (folder / "class_map.json").exists() == (stage in CLASSIFIERS)


def test_only_the_series_that_are_looked_for_are_admitted(demo):
    report = json.loads((demo / "inference" / "report.json").read_text())
    admitted = {(one["patient"], one["series"]) for one in report["series"] if one["status"] == "admitted"}
    assert admitted == {(patient, LOOKED_FOR) for patient in PATIENTS}
    assert len(report["series"]) == len(PATIENTS) * len(BATCH)
    assert all(one["reason"] for one in report["series"] if one["status"] != "admitted")


@pytest.mark.parametrize("patient", PATIENTS)
@pytest.mark.parametrize(("mask", "least"), [("cord", 0.85), ("lesion", 0.7)])
def test_new_patients_masks_are_found_where_the_series_lies(root, patient, mask, least):
    found = nib.load(root / "runs" / "inference" / patient / LOOKED_FOR / f"{mask}.nii.gz")
    truth = nib.load(root / "data" / "reference" / patient / f"{LOOKED_FOR}_{mask}.nii.gz")
    assert found.shape == truth.shape
    np.testing.assert_allclose(found.affine, truth.affine, atol=1e-5)
    inside, expected = found.get_fdata() > 0, truth.get_fdata() > 0
    assert 2 * (inside & expected).sum() / (inside.sum() + expected.sum()) >= least


@pytest.mark.parametrize("patient", PATIENTS)
def test_the_exports_alone_give_the_same(demo, patient):
    eager, exported = (demo / name / patient / LOOKED_FOR for name in ("inference", "inference_exported"))
    for mask in ("lesion", "cord"):
        images = [nib.load(folder / f"{mask}.nii.gz").get_fdata() for folder in (eager, exported)]
        np.testing.assert_array_equal(*images)
    probabilities = [nib.load(folder / "lesion_prob.nii.gz").get_fdata() for folder in (eager, exported)]
    np.testing.assert_allclose(*probabilities, atol=1e-5)
