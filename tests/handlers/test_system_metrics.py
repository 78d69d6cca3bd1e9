import threading

import pytest

from monai_ext.handlers.system_metrics import SystemMetrics


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")


def started():
    return [thread for thread in threading.enumerate() if thread.name == "system metrics"]


def test_samples_are_taken_once_and_their_thread_ends():
    metrics = SystemMetrics()
    assert started()
    found = []
    while not found:
        found = metrics.take()
    metrics.stop()
    assert not started()
    assert 0 <= found[0][1]["system/cpu_utilization_percentage"] <= 100
    later = metrics.take()
    assert all(sample not in later for sample in found)


def test_a_sensor_that_fails_ends_the_samples_with_a_warning(monkeypatch, caplog):
    def broken(_):
        raise RuntimeError("no such sensor")

    monkeypatch.setattr("mlflow.system_metrics.metrics.cpu_monitor.CPUMonitor.collect_metrics", broken)
    metrics = SystemMetrics()
    metrics._thread.join()
    metrics.stop()
    assert not metrics.take()
    assert "system metrics: RuntimeError: no such sensor" in caplog.text


def test_no_store_of_mlflow_is_made_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SystemMetrics().stop()
    assert not list(tmp_path.iterdir())
