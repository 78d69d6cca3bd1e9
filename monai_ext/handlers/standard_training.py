"""Everything around a training that is the same in every bundle, as one handler."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.errors import ConfigError
from monai_ext.handlers.best import BestEpoch
from monai_ext.handlers.checkpoint import Checkpoints
from monai_ext.handlers.classification_outputs import ClassificationOutputs
from monai_ext.handlers.console import Console
from monai_ext.handlers.early_stopping import EarlyStopping
from monai_ext.handlers.history import History
from monai_ext.handlers.log_file import LogFile
from monai_ext.handlers.memory_monitor import MemoryMonitor
from monai_ext.handlers.mlflow_tracker import FAILED, FINISHED, KILLED, MLflowTracker
from monai_ext.handlers.seeding import IterationSeeding
from monai_ext.handlers.signals import GracefulSignals, Interrupted
from monai_ext.handlers.tensorboard import TensorBoard
from monai_ext.io import finite, write_json
from monai_ext.workflow import find_workflow, knobs

logger = logging.getLogger("monai_ext")

# What may differ between a run and its continuation without changing a number.
_FREE_ON_RESUME = {"resume", "run_name", "num_workers", "device", "tracking_uri", "max_epochs", "dataset_dir", "debug"}


class StandardTraining:
    """Run folder, seeding, console, history, best and last checkpoints, resume, early stopping, schedule, trackers,
    plots, report, memory, signals: attached to a trainer, after its `ValidationHandler`.

    Only the main process writes; the others follow its decisions. Everything is laid out as ``docs/`` tells.

    Args:
        run: the run folder.
        network: the network itself, not a multi-process wrapper.
        optimizer: what the trainer uses.
        step: the trainer's ``iteration_update``.
        scheduler: stepped at the end of each epoch; `ReduceLROnPlateau` gets the first monitored metric.
        evaluator: the validation engine, run by a `ValidationHandler` in front of this handler.
        outputs: keeps and writes the predictions of the best epoch.
        monitors: name of a best file → metrics that decide (``-`` in front: less is better; later ones break ties).
            The first entry also decides on early stopping and on what ``metrics.json`` tells.
        patience, min_epochs: see `EarlyStopping`.
        seed: see `IterationSeeding`.
        settings: what changes the network's function without changing its keys; saved with every checkpoint.
        data: section name → list of data items, for counts and the fingerprint.
        class_names: names of the labels in the data items.
        tracking_uri, experiment_name, run_name, parent_run_id: see `MLflowTracker`; the word ``none`` as URI
            switches tracking off.
        checkpoint_every: also save every so many iterations, for epochs of hours.
        plot_every: epochs between plots; 0 for the end only.
    """

    def __init__(
        self,
        run: runs.RunFolder,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        step: Any,
        scheduler: Any = None,
        evaluator: Engine | None = None,
        outputs: ClassificationOutputs | None = None,
        monitors: Mapping[str, Sequence[str]] | None = None,
        patience: int | None = None,
        min_epochs: int = 10,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        data: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        class_names: Sequence[str] = (),
        tracking_uri: str = "none",
        experiment_name: str = "monai_experiment",
        run_name: str | None = None,
        parent_run_id: str | None = None,
        checkpoint_every: int | None = None,
        plot_every: int = 1,
    ) -> None:
        self.run = run
        self.network = network
        self.step = step
        self.scheduler = scheduler
        self.evaluator = evaluator
        self.outputs = outputs
        self.monitors = {name: BestEpoch(metrics) for name, metrics in (monitors or {"best": ["-train_loss"]}).items()}
        self.main_monitor = next(iter(self.monitors.values()))
        self.stopping = EarlyStopping(self.main_monitor, patience, min_epochs)
        self.history = History(evaluator)
        self.memory = MemoryMonitor()
        self.signals = GracefulSignals()
        self.optimizer = optimizer
        self.seed = seed
        self.settings = dict(settings or {})
        self.data = dict(data or {})
        self.class_names = list(class_names)
        self.tracking = {
            "tracking_uri": tracking_uri,
            "experiment_name": experiment_name,
            "parent_run_id": parent_run_id,
        }
        self.run_name = run_name
        self.checkpoint_every = checkpoint_every
        self.plot_every = plot_every
        workflow = find_workflow()
        self.parser = workflow.parser if workflow is not None else None
        self.root = Path(workflow.config_root_path).absolute().parent if workflow is not None else None
        self.tracker: MLflowTracker | None = None
        self.tensorboard: TensorBoard | None = None
        self.log_file: LogFile | None = None
        self.checkpoints: Checkpoints | None = None
        self.best_metrics: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._started)
        IterationSeeding(self.seed).attach(engine)
        self.history.attach(engine)
        self.memory.attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        if self.checkpoint_every:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.checkpoint_every), self._save_within_epoch)
        self.signals.attach(*[engine] + ([self.evaluator] if self.evaluator is not None else []))
        engine.add_event_handler(Events.COMPLETED, self._completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._share_buffers)
        if _is_main():
            Console().attach(engine)

    # -- beginning -----------------------------------------------------------------------------------------------

    def _started(self, engine: Engine) -> None:
        if _is_main():
            self.run.open()
        folder, resumed = _from_main((str(self.run / "") if _is_main() else "", self.run.resumed))
        self.run.attach(folder)
        if _is_main():
            self.log_file = LogFile(self.run / "logs" / f"train_{(self.run / '').name.removeprefix('run_')}.log")
        logger.info("run folder: %s", self.run / "")
        self.step.prepare(engine)
        parts = {"optimizer": self.optimizer, "scaler": self.step.scaler, "step": self.step}
        if self.scheduler is not None:
            parts["scheduler"] = self.scheduler
        self.checkpoints = Checkpoints(self.run / "checkpoints", self.network, parts, self.settings)
        if resumed:
            self._resume(engine)
        if _is_main():
            self._open_records(engine, resumed)

    def _resume(self, engine: Engine) -> None:
        assert self.checkpoints is not None
        content = self.checkpoints.load_last()
        if content is None:
            logger.info("no checkpoint in the run folder yet: starting from the first epoch")
            return
        reached, handlers = content["trainer"], content["handlers"]
        if reached["epoch_length"] != engine.state.epoch_length:
            raise ConfigError(
                f"--resume: the run has {reached['epoch_length']} batches an epoch, this configuration "
                f"{engine.state.epoch_length}; resume with the same data, batch size and number of processes"
            )
        engine.state.epoch, engine.state.iteration = reached["epoch"], reached["iteration"]
        within = reached["iteration"] - reached["epoch"] * reached["epoch_length"]
        if within:
            engine.data_loader.skip_batches(within)  # type: ignore[attr-defined]
        self.history.load_state_dict({**handlers["history"], "entries": content["history"]})
        for name, monitor in self.monitors.items():
            monitor.load_state_dict(handlers["monitors"][name])
        self.stopping.load_state_dict(handlers["early_stopping"])
        self.best_metrics = dict(handlers["best_metrics"])
        if self.outputs is not None:
            self.outputs.load_state_dict(handlers["outputs"])
        logger.info("resumed after epoch %d, iteration %d", reached["epoch"], reached["iteration"])

    def _open_records(self, engine: Engine, resumed: bool) -> None:
        parameters = knobs(self.parser) if self.parser is not None else {}
        if resumed:
            _warn_of_changes(self.run.record.get("parameters", {}), parameters)
        record = {
            "bundle": self.root.name if self.root else None,
            "fold": self.run.fold,
            "run_name": self.run_name or self.run.name,
            "parameters": parameters,
            "data": {"fingerprint": fingerprint(self.data), "counts": count_labels(self.data, self.class_names)},
            "versions": runs.versions(),
            "commit": runs.commit(),
        }
        if self.parser is not None:
            config = {key: value for key, value in copy.deepcopy(self.parser.get()).items() if key != "_meta_"}
            write_json(self.run / "config" / "config.json", {**config, **parameters})
        self.tensorboard = TensorBoard(self.run / "tensorboard", engine.state.epoch + 1)
        if self._tracks():
            self.tracker = MLflowTracker(
                **self.tracking,  # type: ignore[arg-type]
                run_name=str(record["run_name"]),
                run_id=self.run.record.get("mlflow_run_id") if resumed else None,
            )
            record["mlflow_run_id"] = self.tracker.run_id
            self._log_parameters(record)
            for crashed in self.run.crashed():
                self._bury(crashed)
        self.run.update(**record)

    def _tracks(self) -> bool:
        if str(self.tracking["tracking_uri"]).lower() == "none":
            return False
        # With --tracking mlflow MONAI has appended its own handler: one store, one run.
        handlers = self.parser.get("train", {}).get("handlers", []) if self.parser is not None else []
        return not any(isinstance(h, Mapping) and str(h.get("_target_")).endswith("MLFlowHandler") for h in handlers)

    def _log_parameters(self, record: Mapping[str, Any]) -> None:
        assert self.tracker is not None
        counts = {f"{section}_{name}": n for section, by in record["data"]["counts"].items() for name, n in by.items()}
        versions = {f"version_{name}": version for name, version in record["versions"].items()}
        extra = {"data_fingerprint": record["data"]["fingerprint"], "commit": record["commit"], **counts, **versions}
        self.tracker.parameters({**record["parameters"], "fold": record["fold"], "seed": self.seed, **extra})
        self.tracker.artifact(self.run / "config" / "config.json", "config")

    def _bury(self, crashed: Path) -> None:
        record = runs.read_json(crashed / "run.json")
        write_json(crashed / "run.json", {**record, "status": runs.FAILED})
        if self.tracker is not None and record.get("mlflow_run_id"):
            self.tracker.mark_failed(record["mlflow_run_id"])

    # -- each epoch ----------------------------------------------------------------------------------------------

    def _share_buffers(self) -> None:
        """Validate with the running statistics of the main process on all of them."""
        if idist.get_world_size() > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _epoch_completed(self, engine: Engine) -> None:
        entry = self.history.record(engine)
        is_best = False
        if self.history.validated or self.evaluator is None:
            is_best = self._update_best(entry)
        self._step_scheduler(entry)
        stop = (self.history.validated or self.evaluator is None) and self.stopping.should_stop(entry["epoch"])
        if _is_main():
            Console().epoch(entry, engine.state.max_epochs or 0, is_best)
            self._save(engine, engine.state.epoch)
            self._write_metrics()
            if self.tensorboard is not None:
                self.tensorboard.epoch(entry)
            if self.tracker is not None:
                memory = {f"memory_{name}_mib": value for name, value in self.memory.latest.items()}
                self.tracker.metrics({**entry, **memory}, step=entry["epoch"])
            if self.plot_every and entry["epoch"] % self.plot_every == 0:
                self._plot()
        if stop:
            logger.info("early stopping: no better epoch than %d for %d", self.main_monitor.epoch, self.stopping.waited)
            engine.terminate()

    def _update_best(self, entry: Mapping[str, Any]) -> bool:
        improved = {name: monitor.update(entry["epoch"], entry) for name, monitor in self.monitors.items()}
        main = next(iter(self.monitors))
        if improved[main]:
            self.best_metrics = {k: v for k, v in entry.items() if k not in ("epoch", "seconds", "data_seconds")}
            if self.outputs is not None and self.evaluator is not None:
                self.outputs.take(self.evaluator)
                if _is_main():
                    self.outputs.write(self.run / "predictions")
        if _is_main():
            assert self.checkpoints is not None
            for name in (name for name, better in improved.items() if better):
                self.checkpoints.save_best(name, entry, entry["epoch"])
        return improved[main]

    def _step_scheduler(self, entry: Mapping[str, Any]) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            name = self.main_monitor.metrics[0]
            value = entry.get(name.removeprefix("-"))
            if value is not None:
                # The scheduler looks for small values; a metric to be maximised is handed over negated.
                self.scheduler.step(value if name.startswith("-") else -value)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _save_within_epoch(self, engine: Engine) -> None:
        position = engine.state.iteration % (engine.state.epoch_length or 1)
        # The end of an epoch saves anyway, and half an accumulation can't be saved.
        if position and position % self.step.accumulate == 0 and _is_main():
            self._save(engine, engine.state.epoch - 1)

    def _save(self, engine: Engine, epoch: int) -> None:
        assert self.checkpoints is not None
        trainer = {"epoch": epoch, "iteration": engine.state.iteration, "epoch_length": engine.state.epoch_length or 0}
        history = self.history.state_dict()
        handlers = {
            "monitors": {name: monitor.state_dict() for name, monitor in self.monitors.items()},
            "early_stopping": self.stopping.state_dict(),
            "best_metrics": self.best_metrics,
            "outputs": self.outputs.state_dict() if self.outputs is not None else {},
            "history": {"sum": history["sum"]},
        }
        self.checkpoints.save_last(trainer, handlers, history["entries"])

    def _write_metrics(self, intervals: bool = False) -> dict[str, Any]:
        content = {
            "bundle": self.root.name if self.root else None,
            "fold": self.run.fold,
            "epoch": self.history.entries[-1]["epoch"] if self.history.entries else 0,
            "best_epoch": self.main_monitor.epoch,
            "class_names": self.class_names,
            **(self.outputs.metrics(intervals) if self.outputs is not None else {"metrics": {}}),
            "history": self.history.entries,
            "loss_summary": self.history.summary(),
        }
        content["metrics"] = {**self.best_metrics, **content["metrics"]}
        content.setdefault("intervals", {})
        content["skipped"] = [*content.get("skipped", []), *self.step.events]
        content = finite(content)
        write_json(self.run / "metrics" / "metrics.json", content)
        return content

    def _plot(self) -> None:
        from monai_ext.reports import save_all

        save_all(self.run / "plots", self.history.entries, self.outputs.result if self.outputs is not None else None)

    # -- end -----------------------------------------------------------------------------------------------------

    def _completed(self, engine: Engine) -> None:
        if not _is_main():
            return
        from monai_ext.reports import write_report

        self._write_metrics(intervals=True)
        self._plot()
        self._record_end()
        self.run.update(status=runs.FINISHED, ended=runs.now())
        report = write_report(self.run / "")
        if self.tracker is not None:
            best = {f"best_{name}": value for name, value in self.best_metrics.items() if name != "lr"}
            self.tracker.metrics({**best, "best_epoch": self.main_monitor.epoch})
            for name in ("metrics", "plots", "predictions"):
                self.tracker.artifact(self.run / name, name)
            self.tracker.artifact(report)
        self._close(runs.FINISHED, FINISHED)
        self._say_what_next(report)

    def _failed(self, engine: Engine, error: BaseException) -> None:
        asked = isinstance(error, (Interrupted, KeyboardInterrupt))
        self.signals.remove()
        self.memory.stop()
        if _is_main() and self.run.path is not None:
            if asked:
                logger.warning("interrupted; go on with --resume auto")
            else:
                self._record_end(f"{type(error).__name__}: {error}")
            self._close(runs.KILLED if asked else runs.FAILED, KILLED if asked else FAILED)
        raise error

    def _record_end(self, *events: str) -> None:
        peaks = {f"{name}_peak_mib": value for name, value in self.memory.peaks.items()}
        self.run.update(memory=peaks, events=[*self.step.events, *events])

    def _close(self, status: str, tracker_status: str) -> None:
        if self.tensorboard is not None:
            self.tensorboard.close()
        if self.tracker is not None:
            self.tracker.finish(tracker_status)
            self.tracker = None
        self.run.close(status)
        if self.log_file is not None and status == runs.FINISHED:
            self.log_file.close()  # after a failure it still gets the traceback

    def _say_what_next(self, report: Path) -> None:
        logger.info("report: %s", report)
        logger.info("plots: %s", self.run / "plots")
        if self.root is None:
            return
        best = self.run / "checkpoints" / f"{next(iter(self.monitors))}.pt"
        logger.info(
            "to infer with the best checkpoint: python -m monai.bundle run --config_file %s --checkpoint %s "
            "--inputs FILE_OR_FOLDER%s",
            self.root / "configs" / "inference.json",
            best,
            "".join(f" --{key} {value}" for key, value in self._changed_settings().items()),
        )

    def _changed_settings(self) -> dict[str, Any]:
        """Settings that inference has to be told because they differ from its defaults."""
        assert self.root is not None
        path = self.root / "configs" / "inference.json"
        defaults = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {
            key: value
            for key, value in self.settings.items()
            if key in defaults and defaults[key] != value and isinstance(value, (bool, int, float, str))
        }


def _is_main() -> bool:
    return idist.get_rank() == 0


def _from_main(value: Any) -> Any:
    if idist.get_world_size() == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def fingerprint(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A hash of cases, labels, file sizes and times, section by section."""
    content = {
        section: [[item.get("case"), item.get("label"), item.get("stamp")] for item in items]
        for section, items in data.items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def count_labels(data: Mapping[str, Sequence[Mapping[str, Any]]], class_names: Sequence[str]) -> dict[str, Any]:
    """Cases per class in every section; without class names, cases in all."""
    if not class_names:
        return {section: {"cases": len(items)} for section, items in data.items()}
    counters = {section: Counter(int(item["label"]) for item in items) for section, items in data.items()}
    return {
        section: {name: counter[index] for index, name in enumerate(class_names)}
        for section, counter in counters.items()
    }


def _warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted((before.keys() & now.keys()) - _FREE_ON_RESUME):
        if before[key] != now[key]:
            logger.warning("--%s is %s now, the resumed run began with %s", key, now[key], before[key])
