"""Pages with steps and snippets, followed from top to bottom."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from installed import forget
from monai.inferers import SlidingWindowInferer
from pages import follow

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# For `shapes` of the page, which a reader of it may have installed.
NAME = "outlines_of_a_page"


@pytest.fixture(scope="module")
def parts_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        torch.manual_seed(0)
        yield follow(DOCS / "parts-alone.md", monkeypatch) | {"folder": folder}


def test_a_loss_in_a_plain_loop_finds_the_rare_class(parts_alone):
    found = parts_alone["network"](parts_alone["features"]).argmax(dim=1)
    assert found[parts_alone["labels"] == 1].float().mean() > 0.5
    assert parts_alone["loss"].weight[1] > parts_alone["loss"].weight[0]


def test_the_stages_of_a_network_are_in_the_optimizer_as_the_page_says(parts_alone):
    held = {id(p) for group in parts_alone["optimizer"].param_groups for p in group["params"]}
    trained = {name for name, p in parts_alone["backbone"].named_parameters() if id(p) in held}
    assert {name.partition(".")[0] for name in trained} == {"fc", "layer4", "layer3"}


def test_a_volume_is_predicted_as_monai_does(parts_alone):
    assert parts_alone["done"].complete
    volume = torch.as_tensor(parts_alone["volume"][:].astype(np.float32))[None, None] / 255
    with torch.no_grad():
        logits = SlidingWindowInferer((32, 32, 32), mode="gaussian")(volume, parts_alone["unet"])
    stored = zarr.open_group(parts_alone["folder"] / "predicted" / "vessel.zarr", mode="r")["0"][:]
    assert np.abs(stored - 255 * logits.sigmoid().numpy()[0, 0]).max() <= 1


def test_vectors_move_and_keep_their_length(parts_alone):
    item = {"image": torch.rand(1, 16, 16, 16), "normals": parts_alone["normals"]}
    fields = [parts_alone["augment"](item)["normals"] for _ in range(8)]
    assert any(not torch.equal(field, item["normals"]) for field in fields)
    for field in [*fields, parts_alone["augmented"]["normals"]]:
        torch.testing.assert_close(torch.as_tensor(field).norm(dim=0), torch.ones(16, 16, 16))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs of the bundle that the page extends, by the folder that the page gives them."""
    folder = tmp_path_factory.mktemp("extending")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
        monkeypatch.setattr("monai_ext.workflow.default_workers", lambda: 0)
        follow(DOCS / "extending.md", monkeypatch, shapes=NAME)
    forget(NAME)
    return folder / f"{NAME}_project" / "runs"


def metrics(runs, name):
    (file,) = runs.glob(f"{name}/fold_1/run_*/metrics/metrics.json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_each_part_that_the_page_adds_is_used(runs):
    plain, metric = metrics(runs, NAME), metrics(runs, "metric")
    assert "brier" not in plain["metrics"]
    assert 0 < metric["metrics"]["brier"] < 2
    assert metric["key_metric"] == "brier"
    assert metric["metrics"]["train_loss"] == plain["metrics"]["train_loss"]
    changed = [metrics(runs, name)["metrics"]["train_loss"] for name in ("loss", "network", "augmentation")]
    assert len({*changed, plain["metrics"]["train_loss"]}) == 4
    with open(runs / "network" / "inference" / "predictions.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 40
    assert metrics(runs, "reader")["metrics"]["train_loss"] > 0


@pytest.fixture
def contract(runs):
    """Calls pytest with the page's ``test_shapes.py`` beside the bundle; returns what it prints."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "bundles")])
    command = [sys.executable, "-m", "pytest", f"test_{NAME}.py", "-W", "error::pytest.PytestWarning"]

    def call(*words):
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            [*command, *words], cwd=runs.parent, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return done.stdout

    return call


@pytest.mark.slow
def test_the_contract_finds_all_its_fixtures_and_marks_outside_the_checkout(contract):
    said = contract("--setup-plan")
    assert "::test_the_run_folder_is_laid_out_as_documented" in said
    assert "::test_conforms" in said


@pytest.mark.slow
def test_the_contract_trains_and_predicts_outside_the_checkout(contract):
    said = contract("-v", "-k", "laid_out or mlflow or repeats_the_validation")
    for name in ("the_run_folder_is_laid_out", "mlflow_loads_the_best_network", "inference_repeats_the_validation"):
        assert re.search(f"test_{name}.* PASSED", said), said
