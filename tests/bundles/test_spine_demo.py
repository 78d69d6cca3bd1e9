"""The whole cascade trained on the demo data, as the documents say."""

import json

import pytest
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.networks import network_settings

pytestmark = pytest.mark.slow
CLASSIFIERS = ("anatomy", "location_view", "sequence", "cord_visible")


@pytest.fixture(scope="module")
def demo(spine_configs, tmp_path_factory):
    """Folder of runs and networks."""
    root = tmp_path_factory.mktemp("demo")
    files = str([str(spine_configs / name) for name in ("train.json", "demo.json")])
    training = ["train-cascade", "--dataset_dir", root / "data", "--output_dir", root / "runs"]
    training += ["--config_file", files, "--tracking_uri", "none", "--plot_every", "0"]
    for words in (["demo-data", "spinal_cord_cascade", "--output", root / "data"], training):
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0
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
