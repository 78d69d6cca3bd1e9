"""Folds that have been trained before, with and without parts: only what they say together is made."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from monai_ext import runs
from monai_ext.engines.cross_validation import CrossValidation
from monai_ext.errors import ConfigError
from monai_ext.handlers import RunRecords, fold_checkpoints
from monai_ext.io import read_csv, read_json, write_json
from monai_ext.metrics import classification_metrics, merge_parts
from monai_ext.predictions import Classification
from monai_ext.workflow import sqlite_uri

NAMES = ["A", "B", "C"]
SETTINGS = {"scaling": "unit", "classes": [[1, "A"], [3, "B"], [4, "C"]]}
DATA = {"train": [{"case": "t", "label": 0, "crop_z": 0}], "val": [{"case": "v", "label": 1, "crop_z": 0}]}


@pytest.fixture
def cross_validation(tmp_path):
    """A cross-validation of two folds over a config without a network."""
    return CrossValidation(str(write_bundle(tmp_path)), 2, {})


def write_bundle(tmp_path, data=DATA, **changed):
    sections = {"train": data["train"], "validate": data["val"]}
    config = {
        "bundle_root": None,
        "output_dir": str(tmp_path / "runs"),
        "fold": 1,
        "num_folds": 5,
        "lr": 1e-3,
        "tracking_uri": "none",
        "experiment_name": "nuclei",
        "class_names": NAMES,
        "optimizer": "adam",
        "optimizers": {"adam": {"_target_": "torch.optim.Adam", "_mode_": "callable"}},
        "chosen": "$@optimizers[@optimizer]",
        **{name: {"dataset": {"data": items}} for name, items in sections.items()},
        **changed,
    }
    return write_json(tmp_path / "bundle" / "configs" / "train.json", config)


def test_a_nested_override_an_edit_an_overlay_or_other_data_give_another_folder(cross_validation, tmp_path):
    file = cross_validation.config_file
    amsgrad = {"optimizers#adam#amsgrad": True}
    folders = [cross_validation.folder, CrossValidation(file, 2, amsgrad).folder]
    for content in (amsgrad, {"lr": 0.5}):
        overlay = str(write_json(tmp_path / "overlay.json", content))
        folders.append(CrossValidation([file, overlay], 2, {}).folder)
    assert folders[1] == folders[2], "the same, in another way"
    folders.append(CrossValidation(str(write_bundle(tmp_path, seed=7)), 2, {}).folder)
    other = {**DATA, "val": [{"case": "w", "label": 1, "crop_z": 0}]}
    folders.append(CrossValidation(str(write_bundle(tmp_path, other)), 2, {}).folder)
    assert len(set(folders)) == len(folders) - 1
    again = CrossValidation(str(write_bundle(tmp_path)), 2, {"tracking_uri": "none", "num_folds": 2})
    assert again.folder == cross_validation.folder


def test_folds_of_another_recipe_are_trained_again(cross_validation):
    finished_run(cross_validation, 1)
    (run,) = runs.finished_runs(cross_validation.output_dir, 1)
    other = CrossValidation(cross_validation.config_file, 2, {"optimizers#adam#amsgrad": True})
    found = runs.finished_runs(other.output_dir, 1)
    assert cross_validation._same(found, 1) == run
    assert other._same(found, 1) is None


@pytest.mark.parametrize(("trackers", "tracked"), [(["mlflow"], True), ("tensorboard", False)])
def test_a_cross_validation_has_a_run_of_its_own_only_where_mlflow_tracks(tmp_path, empty_store, trackers, tracked):
    store = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    file = str(write_bundle(tmp_path, tracking_uri=store, trackers=trackers))
    tracker = CrossValidation(file, 2, {})._open_tracker()
    assert (tracker is not None) == tracked


def finished_run(cross_validation, fold, parts="crops", best="checkpoints/best_f1.pt"):
    """What a training of one fold leaves behind: three nuclei of three crops each."""
    run = runs.RunFolder(cross_validation.output_dir, fold)
    run.open()
    labels = np.repeat([0, 1, 2], 3)
    scores = np.random.default_rng(fold).dirichlet(np.ones(3), 9) + np.eye(3)[labels]
    cases = [f"n{fold}{number}" for number in labels]
    columns = {"crop_z": [0, 80, 160] * 3} if parts else None
    items = classification_metrics(
        scores / scores.sum(axis=1, keepdims=True), labels, NAMES, cases=cases, columns=columns
    )
    predictions = Classification(NAMES, cases="nuclei" if parts else None, instances=parts)
    predictions.best, predictions.best_instances = (merge_parts(items), items) if parts else (items, None)
    records = RunRecords(run, "train", DATA, NAMES, predictions)
    records.open(seed=0, first_epoch=None)
    predictions.write(run / "predictions")
    records.metrics(None, 4, {"val_loss": 0.1 * fold, "crops_accuracy": 0.5})
    (run / "checkpoints").mkdir()
    torch.save({"model": {}, "settings": SETTINGS}, run / best)
    run.update(recipe=cross_validation.recipe, best_checkpoint=best)
    run.close(runs.FINISHED)


def test_the_nuclei_of_all_folds_are_evaluated_together(cross_validation):
    for fold in (1, 2):
        finished_run(cross_validation, fold)
    record = cross_validation.run()
    content = read_json(record)
    rows = read_csv(record.with_name("out_of_fold.csv"), ["case", "fold", "prediction", "label"], unique="case")
    assert [row["case"] for row in rows] == ["n10", "n11", "n12", "n20", "n21", "n22"]
    assert list(rows[0]) == ["case", "fold", "prob_A", "prob_B", "prob_C", "prediction", "label"]
    assert np.sum(content["out_of_fold"]["confusion_matrix"]) == 6
    assert content["out_of_fold"]["interval_methods"].keys() >= content["out_of_fold"]["metrics"].keys()
    assert content["mean"]["val_loss"] == pytest.approx(0.15)
    assert not [name for name in content["mean"] if name.startswith("crops")]
    assert "over all nuclei" in record.with_name("report.html").read_text(encoding="utf-8")


def test_the_record_holds_the_settings_and_leads_to_each_fold_s_main_checkpoint(cross_validation):
    for fold in (1, 2):
        finished_run(cross_validation, fold)
    record = cross_validation.run()
    content = read_json(record)
    assert content["settings"] == SETTINGS
    assert all(fold["checkpoint"] == f"{fold['run_dir']}/checkpoints/best_f1.pt" for fold in content["folds"])
    found = fold_checkpoints(record)
    assert len(found) == 2
    assert all(path.is_file() for path in found)


def test_records_that_name_no_checkpoint_lead_to_best_pt(tmp_path):
    folds = [{"fold": 1, "run_dir": "../fold_1/run_x"}]
    record = write_json(tmp_path / "cross_validation.json", {"folds": folds})
    assert fold_checkpoints(record) == [tmp_path / "../fold_1/run_x/checkpoints/best.pt"]


def test_runs_of_one_level_that_name_neither_file_are_read_as_before(cross_validation):
    for fold in (1, 2):
        finished_run(cross_validation, fold, parts=None, best="checkpoints/best.pt")
    for metrics in cross_validation.output_dir.rglob("metrics.json"):
        content = json.loads(metrics.read_text())
        del content["predictions"]
        write_json(metrics, content)
    for path in cross_validation.output_dir.rglob("run.json"):
        content = json.loads(path.read_text())
        del content["best_checkpoint"]
        write_json(path, content)
    record = cross_validation.run()
    assert len(read_csv(record.with_name("out_of_fold.csv"), ["case"])) == 18
    assert all(path.is_file() for path in fold_checkpoints(record))
    assert read_json(record)["cases"] is None


def test_another_number_of_folds_among_the_settings_is_refused():
    with pytest.raises(ConfigError, match=r"--num_folds 9: cross-validate has --folds 2"):
        CrossValidation("train.json", 2, {"num_folds": 9})


@pytest.mark.parametrize("own", [{"fold": 2}, {"resume": "auto"}])
def test_what_each_fold_has_of_its_own_is_refused(tmp_path, own):
    with pytest.raises(ConfigError, match=f"--{next(iter(own))}: cross-validate sets it itself for each fold"):
        CrossValidation(str(write_bundle(tmp_path, resume=None)), 2, own)


def test_a_signal_between_two_folds_ends_the_cross_validation_as_killed(tmp_path, monkeypatch, empty_store):
    import mlflow
    import monai.bundle

    uri = sqlite_uri(shutil.copy(empty_store, tmp_path))
    validation = CrossValidation(str(write_bundle(tmp_path, tracking_uri=uri)), 2, {})

    def train(fold, **_):
        finished_run(validation, fold)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(monai.bundle, "run", train)
    mine = lambda *_: pytest.fail("the signal was not handled")  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(SystemExit) as caught:
            validation.run()
        assert caught.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not list((tmp_path / "runs").glob("fold_2/run_*"))
    run_id = read_json(validation.folder / "mlflow.json")["run_id"]
    assert mlflow.MlflowClient(uri).get_run(run_id).info.status == "KILLED"
