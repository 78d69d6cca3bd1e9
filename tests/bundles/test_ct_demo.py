"""The whole demo of `ct_rate_multilabel`, and the same with shuffled labels as a control."""

import csv
import random
import shutil

import pytest
from bundle_helpers import evaluation, only_run, rows_of, run_demo
from monai.bundle import run

from monai_ext import ct_rate
from monai_ext.ct_rate.demo import VISIBLE
from monai_ext.networks import network_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One command from made-up data to exports; data and runs."""
    return run_demo("ct_rate_multilabel", tmp_path_factory.mktemp("demo"))


def test_the_visible_labels_are_found_in_patients_that_were_held_out(demo):
    metrics = evaluation(demo[1])
    scored = {name for name, scores in metrics["per_class"].items() if scores["auroc"] is not None}
    assert scored == set(VISIBLE)
    print({name: round(metrics["per_class"][name]["auroc"], 3) for name in VISIBLE})
    assert metrics["metrics"]["auroc"] >= 0.9


def test_the_demo_predicts_and_exports(demo):
    data, runs = demo
    cases = {row["case"] for row in rows_of(runs / "inference" / "predictions.csv")}
    assert cases == {volume.name for volume in ct_rate.volumes(data).volumes}
    folder = only_run(runs)
    assert network_settings(folder / "model.ts") == network_settings(folder / "checkpoints" / "best.pt")
    assert (folder / "model.onnx").stat().st_size > 0


def shuffle_patients(table, seed):
    """Give each patient the labels of another one."""
    rows = rows_of(table)
    patients = sorted({patient_of(row) for row in rows})
    others = dict(zip(patients, random.Random(seed).sample(patients, len(patients)), strict=True))
    labels = {patient_of(row): row for row in rows}
    moved = [{**labels[others[patient_of(row)]], "VolumeName": row["VolumeName"]} for row in rows]
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(moved)


def patient_of(row):
    return row["VolumeName"].rsplit("_", 2)[0]


def test_with_shuffled_labels_it_is_at_chance(demo, ct_configs, tmp_path):
    shutil.copytree(demo[0], tmp_path / "data")
    for seed, table in enumerate(sorted(tmp_path.glob("data/dataset/multi_abnormality_labels/*.csv"))):
        shuffle_patients(table, seed)
    files = [str(ct_configs / name) for name in ("train.json", "demo.json")]
    settings = {
        "dataset_dir": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "runs"),
        "early_stopping_patience": 0,
        "tracking_uri": "none",
        "plot_every": 0,
        # After as many the true labels are well above chance.
        "max_epochs": 6,
    }
    run(config_file=files, **settings)
    # The last epoch, as no epoch is really the best one.
    last = only_run(tmp_path / "runs") / "checkpoints" / "last.pt"
    run(config_file=[*files, str(ct_configs / "evaluate.json")], checkpoint=str(last), **settings)
    metrics = evaluation(tmp_path / "runs")
    assert {name for name, scores in metrics["per_class"].items() if scores["auroc"] is not None} == set(VISIBLE)
    print(round(metrics["metrics"]["auroc"], 3))
    # Six labels of 16 patients: chance alone seldom comes further than 0.15 from 0.5.
    assert metrics["metrics"]["auroc"] < 0.7
