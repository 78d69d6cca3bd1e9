import contextlib
import errno
import logging
import os
import shutil
import signal
import threading

import mlflow
import pytest
import torch
from failing_system import failing, full_while
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from monai_ext.engines import TrainingStep
from monai_ext.error_report import describe
from monai_ext.errors import ConfigError, WriteError
from monai_ext.handlers import MLflowTracker, RunRecords, StandardTraining
from monai_ext.handlers.log_file import LogFile
from monai_ext.handlers.memory_monitor import MemoryMonitor
from monai_ext.io import read_json, write_json
from monai_ext.networks import read_checkpoint
from monai_ext.runs import RunFolder
from monai_ext.workflow import sqlite_uri


def trainer_of(network, folder, step, resume=None, **given):
    handler = StandardTraining(RunFolder(folder, resume=resume), **{"plot_every": 0, **given})
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": torch.ones(2, 3), "label": torch.tensor([0, 1]), "case": ["a", "b"]}],
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=step,
        train_handlers=[handler],
        decollate=False,
    )
    trainer.standard_training = handler
    return trainer


def test_network_optimizer_and_step_are_the_trainer_s(tmp_path):
    network = nn.Linear(3, 2)
    trainer = trainer_of(network, tmp_path, TrainingStep(amp=False))
    trainer.run()
    (file,) = tmp_path.glob("**/last.pt")
    saved = read_checkpoint(file)
    assert torch.equal(saved["model"]["weight"], network.weight)
    assert saved["optimizer"]["state"][0]["step"] == 2
    assert saved["step"] == trainer._process_function.state_dict()


@pytest.mark.parametrize(("plot_every", "drawn_after"), [(0, [2]), (1, [1, 2, 2]), (2, [2, 2])])
def test_figures_are_drawn_as_often_as_asked_and_at_the_end(tmp_path, monkeypatch, plot_every, drawn_after):
    epochs = []
    monkeypatch.setattr(RunRecords, "plot", lambda self, history, best: epochs.append(len(history.entries)))
    trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False), plot_every=plot_every).run()
    assert epochs == drawn_after


def test_a_trainer_with_monai_s_own_step_is_refused_before_there_is_a_run_folder(tmp_path):
    with pytest.raises(ConfigError, match="iteration_update must be a TrainingStep"):
        trainer_of(nn.Linear(3, 2), tmp_path / "runs", None).run()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("monai_ext.reports.write_report", "the report"),
        ("monai_ext.reports.save_all", "the plots"),
        ("monai_ext.handlers.standard_training.next_command", "the hint on what to do next"),
        ("monai_ext.handlers.standard_training.key_metric", "the sentence on the selection"),
    ],
)
def test_what_is_only_to_be_looked_at_does_not_fail_a_training(tmp_path, monkeypatch, caplog, broken, what):
    def fail(*_, **__):
        raise KeyError("colour")

    monkeypatch.setattr(broken, fail)
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: hint(tmp_path))
    trainer.run()
    (record,) = tmp_path.glob("**/run.json")
    assert read_json(record)["status"] == "finished"
    assert f"{what} could not be made (KeyError: 'colour'); the run goes on without" in caplog.text


def hint(folder):
    """Write the config that the hint at the end names."""
    (run,) = folder.glob("fold_1/run_*")
    write_json(run / "config" / "inference.json", {})


def ended(run):
    record = read_json(run / "run.json")
    page = (run / "report.html").read_text(encoding="utf-8")
    curves = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("train_loss")
    metrics = read_json(run / "metrics" / "metrics.json")
    return record["status"], "The run finished." in page, metrics["epoch"], [point.step for point in curves]


def test_killed_at_any_moment_of_its_end_a_run_is_ended_by_resume_and_not_trained_anew(tmp_path, monkeypatch):
    """What lies on the disk when a file of the end has got its name is what kill -9 leaves there."""
    named, moments = [], []
    rename = os.replace

    def renamed(source, target):
        rename(source, target)
        named.append(target.name)
        if named.count("last.pt") == 2:
            moments.append(tmp_path / f"killed_{len(moments)}")
            shutil.copytree(tmp_path / "runs" / "fold_1", moments[-1] / "fold_1")

    monkeypatch.setattr(os, "replace", renamed)
    trainer_of(nn.Linear(3, 2), tmp_path / "runs", TrainingStep(amp=False)).run()
    monkeypatch.undo()
    assert named[-len(moments)] == "last.pt"
    assert "report.html" in named[-len(moments) :]

    for folder in moments[:-1]:  # the last one is the end
        trained = []
        again = trainer_of(nn.Linear(3, 2), folder, TrainingStep(amp=False), resume="auto")
        again.add_event_handler(Events.ITERATION_STARTED, lambda _, trained=trained: trained.append(1))
        again.run()
        (run,) = (folder / "fold_1").glob("run_*")
        assert (ended(run), trained) == (("finished", True, 2, [1, 2]), [])


@pytest.mark.parametrize("moment", ["before the first epoch", "after the last epoch", "while artifacts are sent"])
def test_a_signal_at_the_edge_of_a_run_ends_it_as_killed(tmp_path, monkeypatch, moment, empty_store):
    def ask():
        os.kill(os.getpid(), signal.SIGTERM)

    uri = sqlite_uri(shutil.copy(empty_store, tmp_path / "mlflow.db"))
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False), tracking_uri=uri)
    if moment == "while artifacts are sent":
        monkeypatch.setattr(MLflowTracker, "artifact", lambda self, path, *_: path.name == "plots" and ask())
    else:
        edges = {"before the first epoch": (RunRecords, "open"), "after the last epoch": (RunRecords, "plot")}
        owner, name = edges[moment]
        method = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: (method(*given), ask()))
    mine = lambda *_: pytest.fail("the signal was not handled by the run")  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(SystemExit) as caught:
            trainer.run()
        assert caught.value.code == 143
    finally:
        assert signal.signal(signal.SIGTERM, before) is mine
    (run,) = (tmp_path / "fold_1").glob("run_*")
    record = read_json(run / "run.json")
    assert (record["status"], trainer.state.iteration) == ("killed", 0 if moment.startswith("before") else 2)
    assert mlflow.MlflowClient(uri).get_run(record["mlflow_run_id"]).info.status == "KILLED"


@pytest.mark.parametrize("breaks", [False, True], ids=["finished", "failed"])
def test_system_metrics_are_in_mlflow_and_their_thread_ends_with_the_run(tmp_path, monkeypatch, empty_store, breaks):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    uri = sqlite_uri(shutil.copy(empty_store, tmp_path / "mlflow.db"))
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False), tracking_uri=uri)
    records = trainer.standard_training.records

    def sampled():
        while not records.system._samples:
            pass

    def fail():
        raise KeyError("colour")

    trainer.add_event_handler(Events.EPOCH_STARTED, sampled)
    if breaks:
        trainer.add_event_handler(Events.EPOCH_STARTED(once=2), fail)
    with pytest.raises(KeyError) if breaks else contextlib.nullcontext():
        trainer.run()
    assert "system metrics" not in [thread.name for thread in threading.enumerate()]
    found = mlflow.MlflowClient(uri).get_run(records.run.record["mlflow_run_id"])
    assert "system/cpu_utilization_percentage" in found.data.metrics
    assert found.info.status == ("FAILED" if breaks else "FINISHED")


def test_a_signal_after_the_record_of_the_end_stops_what_would_come_next_and_leaves_the_record(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(StandardTraining, "_say_what_next", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False)).run()
    assert caught.value.code == 143
    (run,) = (tmp_path / "fold_1").glob("run_*")
    assert read_json(run / "run.json")["status"] == "finished"
    assert "--resume" not in caplog.text


def test_a_resumed_run_keeps_its_memory_peaks(tmp_path, monkeypatch):
    monkeypatch.setattr(MemoryMonitor, "start", lambda self, engine: self.peaks.update(process=1e6))
    trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False)).run()
    monkeypatch.undo()
    (run,) = (tmp_path / "fold_1").glob("run_*")
    trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False), resume=str(run)).run()
    assert read_json(run / "run.json")["memory"]["process_peak_mib"] == 1e6


@pytest.mark.parametrize(
    ("peaks", "said"),
    [
        ({"process": 1234.4, "system_used": 5678.0}, ["memory at its peak in MiB: process 1234, system used 5678"]),
        ({}, []),
    ],
    ids=["measured", "nothing measured"],
)
def test_the_console_says_the_memory_in_words(tmp_path, monkeypatch, caplog, peaks, said):
    caplog.set_level(logging.INFO, "monai_ext")
    for name in ("start", "sample"):
        monkeypatch.setattr(MemoryMonitor, name, lambda self, engine=None: self.peaks.update(peaks))
    trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False)).run()
    assert [line for line in caplog.messages if "memory at its peak" in line] == said


def failed(trainer, folder):
    """The sentence and the exit code of a training that fails, and what its record says."""
    with pytest.raises(WriteError) as caught:
        trainer.run()
    (record,) = folder.glob("fold_1/run_*/run.json")
    content = read_json(record)
    assert content["status"] == "failed"
    assert content["events"] == [describe(caught.value)[0]]
    return describe(caught.value)


def test_a_log_that_can_not_be_written_ends_the_training_as_failed(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "monai_ext")
    log = LogFile("/dev/full")  # whoever writes to it finds the disk full
    monkeypatch.setattr("monai_ext.handlers.run_records.LogFile", lambda path: log)
    try:
        said = failed(trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False)), tmp_path)
    finally:
        log.handler._has_failed = True
        with contextlib.suppress(OSError):
            log.close()
    assert said == ("could not write /dev/full: No space left on device; make room there, or name another folder", 2)


def test_a_disk_that_fills_up_in_the_training_leaves_a_record_that_says_failed(tmp_path, monkeypatch):
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False))
    with contextlib.ExitStack() as until_the_end:
        full = full_while(tmp_path, "fold_1/run_*/.reserve", monkeypatch)
        trainer.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: until_the_end.enter_context(full))
        sentence, code = failed(trainer, tmp_path)
    assert (code, "No space left on device; make room there" in sentence) == (2, True)


def test_curves_that_can_not_be_written_end_the_training_and_the_record_still_says_failed(tmp_path, monkeypatch):
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False))
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.flush", failing(errno.ENOSPC))
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.close", failing(errno.ENOSPC))
    sentence, code = failed(trainer, tmp_path)
    assert (code, "/tensorboard: No space left on device" in sentence) == (2, True)


def test_a_store_without_locks_ends_the_training_as_failed(tmp_path, monkeypatch):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False), tracking_uri=uri)
    monkeypatch.setattr("monai_ext.handlers.mlflow_tracker.fcntl.flock", failing(errno.ENOLCK))
    sentence, code = failed(trainer, tmp_path)
    assert (code, "/.mlflow.db.lock: No locks available; its file system has no file locks" in sentence) == (2, True)
