"""Cross-validation: every fold once, then one result; and what is finished is kept."""

import csv
import json

import mlflow
import pytest
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import ConfigError


def words(configs, short_run, **changed):
    settings = {
        **short_run,
        "max_epochs": 1,
        "tracking_uri": f"sqlite:///{short_run['output_dir']}/mlflow.db",
        **changed,
    }
    settings.pop("num_folds")
    arguments = ["cross-validate", "--config_file", str(configs / "train.json"), "--folds", "2"]
    return arguments + [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def records(root):
    return sorted(path for path in root.rglob("run.json"))


@pytest.fixture
def invoke():
    return lambda arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.slow
def test_folds_are_trained_once_and_evaluated_together(brats_configs, short_run, tmp_path, invoke):
    result = invoke(words(brats_configs, short_run))
    assert result.exit_code == 0
    (record,) = (tmp_path / "runs").glob("cross_validation_*/cross_validation.json")
    content = json.loads(record.read_text())
    assert [fold["fold"] for fold in content["folds"]] == [1, 2]
    assert sum(map(sum, content["out_of_fold"]["confusion_matrix"])) == 13
    assert {"auc", "f1", "accuracy"} <= content["mean"].keys() & content["std"].keys()
    low, high = content["out_of_fold"]["intervals"]["accuracy"]
    assert low <= content["out_of_fold"]["metrics"]["accuracy"] <= high
    assert content["out_of_fold"]["interval_methods"]["accuracy"] == {"method": "Wilson", "unit": "patients", "n": 13}
    assert content["selection"]["optimistic"] is True
    assert "last_epoch" in content["selection"]
    assert content["calibration"].keys() == {"a", "b"}
    assert content["cross_fitted"]["thresholds_chosen_on"] == "the other folds"
    with open(record.with_name("out_of_fold.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["case"] for row in rows}) == len(rows) == 13
    assert {row["cross_fitted_prediction"] for row in rows} <= {"LGG", "HGG"}
    page = record.with_name("report.html").read_text()
    pictures = [record.parent / fold["run_dir"] / "plots" / "mistakes.png" for fold in content["folds"]]
    assert all(row["prediction"] == row["label"] for row in rows) != any(path.is_file() for path in pictures)
    for number, path in enumerate(pictures, 1):
        assert (f"Mistakes of fold {number} in pictures" in page) == path.is_file()

    client = mlflow.MlflowClient(f"sqlite:///{short_run['output_dir']}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'brats_resnet50'")
    found = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 2
    assert {run.info.status for run in found} == {"FINISHED"}
    assert parent.data.metrics["out_of_fold_auc"] == pytest.approx(content["out_of_fold"]["metrics"]["auc"])

    before = records(tmp_path)
    invoke(words(brats_configs, short_run))
    assert records(tmp_path) == before, "finished folds are kept"

    ensemble_answers(brats_configs, short_run, record, tmp_path)


def ensemble_answers(brats_configs, short_run, record, tmp_path):
    from monai.bundle import run

    run(
        config_file=str(brats_configs / "inference.json"),
        inputs=short_run["dataset_dir"],
        network_def=short_run["network_def"],
        num_workers=0,
        ensemble=str(record),
        output_dir=str(tmp_path / "ensemble"),
    )
    document = json.loads((tmp_path / "ensemble" / "predictions.json").read_text())
    content = json.loads(record.read_text())
    assert len(document["predictions"]) == 13
    assert document["calibration"] == content["calibration"]
    assert document["threshold"] == content["threshold"]


def test_other_settings_do_not_reuse_finished_folds(brats_configs, short_run, tmp_path, invoke, monkeypatch):
    from monai_ext.engines.cross_validation import CrossValidation

    first = CrossValidation(str(brats_configs / "train.json"), 3, {**short_run, "lr": 1e-4})
    second = CrossValidation(str(brats_configs / "train.json"), 3, {**short_run, "lr": 1e-3})
    assert first.folder != second.folder
    run = tmp_path / "runs" / "fold_1" / "run_20260101_000000"
    run.mkdir(parents=True)
    record = {"status": "finished", "recipe": first.recipe, "data": {"fingerprint": first.data[1]}}
    (run / "run.json").write_text(json.dumps(record))
    assert first._same([run], 1) == run
    assert first._same([run], 2) is None, "other data"
    assert second._same([run], 1) is None


def test_a_misspelt_override_stops_before_the_first_fold(brats_configs, short_run, tmp_path, invoke):
    with pytest.raises(ConfigError, match="did you mean --max_epochs"):
        invoke([*words(brats_configs, short_run), "--max_epoch", "3"])
    assert records(tmp_path) == []


@pytest.mark.slow
def test_folds_with_an_inner_part_are_found_again_and_said_to_have_chosen_nothing(
    brats_configs, short_run, tmp_path, invoke
):
    arguments = [*words(brats_configs, short_run), "--selection", "inner", "--max_epochs", "1"]
    for _ in range(2):  # the second time nothing is trained
        assert invoke(arguments).exit_code == 0
    (record,) = (tmp_path / "runs").glob("cross_validation_*/cross_validation.json")
    assert len(list((tmp_path / "runs").glob("fold_*/run_*"))) == 2
    content = json.loads(record.read_text())
    assert content["selection"]["rule"] == "inner"
    assert content["selection"]["optimistic"] is False
    assert content["selection"]["sentence"] in record.with_name("report.html").read_text()
