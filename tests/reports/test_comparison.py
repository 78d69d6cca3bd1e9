from __future__ import annotations

import csv
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from monai_ext.errors import ConfigError, DataError
from monai_ext.reports.comparison import comparison_rows, console_table, differing_parameters, write_comparison
from monai_ext.reports.tracked_runs import choose_metric, load_runs, store_to_read
from monai_ext.workflow import default_tracking_uri


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A store with two plain runs, a cross-validation of two folds and, in an experiment of its own, a hostile run."""
    from mlflow import MlflowClient

    path = Path(shutil.copy(empty_store, tmp_path_factory.mktemp("store") / "mlflow.db"))
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")

    def log(
        experiment: str, name: str, values: list[float], best: float | None, status="FINISHED", parent=None, **knobs
    ):
        tags = {"mlflow.parentRunId": parent} if parent else {}
        identifier = client.create_run(experiment, run_name=name, tags=tags, start_time=1_000_000).info.run_id
        for knob, value in knobs.items():
            client.log_param(identifier, knob, value)
        for epoch, value in enumerate(values, start=1):
            client.log_metric(identifier, "auc", value, step=epoch)
            client.log_metric(identifier, "val_loss", 1 - value, step=epoch)
        if best is not None:
            client.log_metric(identifier, "best_auc", best)
            client.log_metric(identifier, "best_f1", best - 0.1)
        client.set_terminated(identifier, status, end_time=1_000_000 + 3_725_000)
        return identifier

    brats = client.create_experiment("brats_resnet50", artifact_location=str(path.parent / "artifacts"))
    log(brats, "plain", [0.6, 0.9, 0.7], 0.9, lr=1e-4, batch_size=4, fold=0, run_name="plain")
    log(brats, "killed", [0.5, 0.8, float("nan")], None, status="KILLED", lr=5e-4, batch_size=4, fold=0)
    parent = log(brats, "cv", [], None, lr=1e-4)
    log(brats, "cv_fold_0", [0.85], 0.85, parent=parent, lr=1e-4, batch_size=4, fold=0)
    log(brats, "cv_fold_1", [0.97], 0.97, parent=parent, lr=1e-4, batch_size=4, fold=1)
    other = client.create_experiment("nuclei_vgg3d", artifact_location=str(path.parent / "artifacts"))
    log(other, "=1+1\x1b[31m$\\frac{", [0.5], 0.5, scaling="a,b\n")
    return path


def test_runs_come_best_first_with_folds_below_their_parent(store: Path) -> None:
    metric, runs = load_runs(str(store), "brats_resnet50")
    assert metric == "auc"
    # The parent counts by the mean of its folds, .91.
    assert [run.name for run in runs] == ["cv", "plain", "killed"]
    assert [child.name for child in runs[0].children] == ["cv_fold_1", "cv_fold_0"]


def test_best_value_is_the_logged_one_or_the_best_of_the_history(store: Path) -> None:
    _, runs = load_runs(f"sqlite:///{store}", "brats_resnet50")
    by_name = {run.name: run for run in runs}
    # MLflow's own value is the last of the history, 0.7.
    assert by_name["plain"].best["auc"] == 0.9
    assert by_name["killed"].best["auc"] == 0.8
    assert by_name["killed"].history == [(1, 0.5), (2, 0.8)]
    assert (by_name["killed"].status, by_name["killed"].seconds) == ("killed", 3725)


def test_losses_are_better_when_smaller(store: Path) -> None:
    metric, runs = load_runs(str(store), "brats_resnet50", "val_loss")
    values = [run.best["val_loss"] for run in runs if run.best]
    assert metric == "val_loss"
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.1)


def test_only_parameters_that_differ_are_shown(store: Path) -> None:
    metric, runs = load_runs(str(store), "brats_resnet50")
    assert differing_parameters(runs) == ["lr"]
    rows = comparison_rows(runs, metric)
    assert list(rows[0]) == [
        *("run", "parent", "experiment", "status", "fold", "best_auc", "best_f1", "param_lr", "duration")
    ]
    assert [row["parent"] for row in rows] == [None, "cv", "cv", None, None]


def test_console_table_is_aligned_and_has_no_control_characters(store: Path) -> None:
    metric, runs = load_runs(str(store))
    lines = console_table(comparison_rows(runs, metric)).splitlines()
    assert len(lines) == 2 + 6
    assert "\x1b" not in "".join(lines)
    status = lines[0].index("status")
    assert {line[status:].split()[0] for line in lines[2:]} == {"finished", "killed"}
    assert any(line.startswith("  cv_fold_1 ") for line in lines)
    assert any(line.endswith("1:02:05") for line in lines)


def test_csv_and_figure_are_written_beside_each_other(store: Path, tmp_path: Path) -> None:
    metric, runs = load_runs(str(store))
    table, figure = write_comparison(runs, metric, tmp_path / "out" / "runs.csv")
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["run"] == "cv"
    assert rows[1] | {"run": "cv_fold_1", "parent": "cv", "best_auc": "0.97", "fold": "1"} == rows[1]
    assert figure.name == "runs.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"must end in \.csv, got 'runs.png'"):
        write_comparison(runs, metric, tmp_path / "runs.png")


def test_reading_changes_and_creates_nothing(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = store.read_bytes()
    load_runs(str(store))
    assert store.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["sqlite:///other.db", None])
def test_the_store_that_the_process_writes_to_stays_its_own(
    store: Path, monkeypatch: pytest.MonkeyPatch, uri: str | None
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(uri)
    try:
        load_runs(str(store))
        assert os.environ.get("MLFLOW_TRACKING_URI") == uri
        assert mlflow.is_tracking_uri_set() == (uri is not None)
    finally:
        mlflow.set_tracking_uri(None)


def test_missing_store_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no MLflow store .*mlflow\.db; train first"):
        load_runs(store_to_read(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_store_is_found_at_a_path_of_any_characters(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ü #1, 50%25 a:b?c"
    folder.mkdir()
    assert load_runs(str(shutil.copy(store, folder)))[1]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_store_that_is_locked_is_said_to_be(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, timeout=0, **named))
    copy = shutil.copy(store, tmp_path)
    with closing(connect(copy, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DataError, match=r"can't be read \(database is locked\)"):
            load_runs(str(copy))


def test_file_that_is_no_store_is_refused_untouched(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database at all, only text that is long enough for a header of SQLite " * 3)
    with pytest.raises(DataError, match="is not an MLflow store"):
        load_runs(str(text))
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    with pytest.raises(DataError, match="no table of experiments"):
        load_runs(str(empty))
    assert empty.stat().st_size == 0


def test_unknown_names_get_the_nearest(store: Path) -> None:
    with pytest.raises(ConfigError, match=r"'brats_resnet5'; did you mean 'brats_resnet50'"):
        load_runs(str(store), "brats_resnet5")
    with pytest.raises(ConfigError, match=r"no metric is called 'acu'; did you mean 'auc'"):
        load_runs(str(store), metric="acu")


@pytest.mark.parametrize(
    ("logged", "wanted", "chosen"),
    [
        pytest.param([{"train_loss": 1.0, "best_dice": 0.5}, {"auc": 0.5}], None, "auc", id="auc-first"),
        pytest.param([{"train_loss": 1.0, "best_dice": 0.5}], None, "dice", id="else-a-best-one"),
        pytest.param([{"best_dice": 0.5}], "best_dice", "dice", id="prefix-given"),
        pytest.param([{}], None, "auc", id="nothing-logged"),
    ],
)
def test_choice_of_the_metric(logged: list[dict[str, float]], wanted: str | None, chosen: str) -> None:
    assert choose_metric(logged, wanted) == chosen


def test_runs_are_ranked_by_what_they_chose_their_best_epoch_by(tmp_path: Path, empty_store: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}")
    experiment = client.create_experiment("surface", artifact_location=str(tmp_path / "artifacts"))
    for name, angle, own in (("wide", 40.0, 3.0), ("narrow", 10.0, 9.0)):
        identifier = client.create_run(experiment, run_name=name).info.run_id
        client.log_param(identifier, "key_metric", "-roughness")
        for metric, value in (("best_auc", 0.5), ("best_normals_angle", angle), ("best_roughness", own)):
            client.log_metric(identifier, metric, value)
    metric, runs = load_runs(str(tmp_path / "mlflow.db"))
    assert (metric, [run.name for run in runs]) == ("roughness", ["wide", "narrow"])
    _, runs = load_runs(str(tmp_path / "mlflow.db"), metric="normals_angle")
    assert [run.name for run in runs] == ["narrow", "wide"]


def test_what_is_read_is_what_trainings_track_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert store_to_read() == default_tracking_uri("runs/brats_resnet50") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    (tmp_path / "mlflow.db").touch()
    assert store_to_read(tmp_path / "brats_resnet50") == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    assert store_to_read() == default_tracking_uri("runs/brats_resnet50") == "http://localhost:1"
    assert store_to_read(tmp_path / "brats_resnet50") == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_store_below_a_folder_with_a_space_is_found(store: Path, tmp_path: Path) -> None:
    (tmp_path / "my runs").mkdir()
    shutil.copy(store, tmp_path / "my runs" / "mlflow.db")
    assert load_runs(store_to_read(tmp_path / "my runs"), "brats_resnet50")[1]
