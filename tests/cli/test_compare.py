from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import typer
from tracking_server import tracking_server
from typer.testing import CliRunner

from monai_ext.cli.compare import compare
from monai_ext.errors import ConfigError, DataError

app = typer.Typer()
app.command()(compare)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("runs")
    client = MlflowClient(tracking_uri=f"sqlite:///{shutil.copy(empty_store, path / 'mlflow.db')}")
    experiment = client.create_experiment("brats_resnet50", artifact_location=str(path / "artifacts"))
    for name, value in (("first", 0.7), ("second", 0.9)):
        run = client.create_run(experiment, run_name=name).info.run_id
        client.log_metric(run, "best_auc", value)
        client.set_terminated(run)
    return path


def invoke(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments, catch_exceptions=False).output


def test_table_and_files(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "runs.csv"
    output = invoke("--output_dir", str(folder / "brats_resnet50"), "--output", str(target))
    assert output.index("second") < output.index("first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv", "runs.png"]
    assert f"wrote {target}" in output


def test_store_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    assert "0.9000" in invoke("--experiment_name", "brats_resnet50", "--metric", "auc")
    with pytest.raises(ConfigError, match="did you mean 'brats_resnet50'"):
        invoke("--experiment_name", "brats_resnet")


def test_without_a_store_nothing_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = re.escape(str(tmp_path / "runs" / "mlflow.db"))
    with pytest.raises(DataError, match=f"no MLflow store {store}; train first"):
        invoke()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with tracking_server() as server:
        server.fall_silent()
        with pytest.raises(DataError, match=f"{server.uri} can't be read: timed out"):
            invoke("--tracking_uri", server.uri)
        assert len(server.requests) == 1
