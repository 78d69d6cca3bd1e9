"""The common part of the training of every bundle, as one handler."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.error_report import describe
from monai_ext.errors import ConfigError
from monai_ext.handlers import schedule
from monai_ext.handlers.best import BestEpoch
from monai_ext.handlers.checkpoint import LAST, Checkpoints
from monai_ext.handlers.console import Console
from monai_ext.handlers.early_stopping import EarlyStopping
from monai_ext.handlers.engine_parts import part_of
from monai_ext.handlers.handing_on import next_command, run_metadata
from monai_ext.handlers.history import NOT_METRICS, History
from monai_ext.handlers.input_sheet import FILE as INPUTS
from monai_ext.handlers.input_sheet import draw_inputs
from monai_ext.handlers.lost_rank import lost_rank
from monai_ext.handlers.memory_monitor import MemoryMonitor
from monai_ext.handlers.mistakes import FILE as MISTAKES
from monai_ext.handlers.mistakes import draw_mistakes
from monai_ext.handlers.optional import failed_already, optional
from monai_ext.handlers.readings import Readings
from monai_ext.handlers.replicas import check_replicas
from monai_ext.handlers.run_records import Data, RunRecords
from monai_ext.handlers.seeding import IterationSeeding
from monai_ext.handlers.selection import EpochSelection
from monai_ext.handlers.signals import GracefulSignals, Interrupted
from monai_ext.handlers.slice_previews import SlicePreviews
from monai_ext.handlers.top_epochs import TopEpochs
from monai_ext.io import read_json, write_json
from monai_ext.networks.checkpoints import read_checkpoint
from monai_ext.pages.tables import key_metric, with_interval
from monai_ext.predictions.doubts import doubts
from monai_ext.predictions.kind import Predictions, validation_name
from monai_ext.renamed import renamed_argument

logger = logging.getLogger("monai_ext")


class StandardTraining:
    """Run folder, seeding, console, history, best and last checkpoints, resume, early stopping, schedule, trackers,
    plots, report, memory, signals: attached to a trainer, after its `ValidationHandler`.

    Only the main process writes; the others follow its decisions. ``docs/`` describes the files.

    Args:
        run: the run folder to write or resume.
        network, optimizer, step: the network itself, not a multi-process wrapper, what trains it, and the trainer's
            ``iteration_update``; default: the trainer's own.
        scheduler: stepped at the end of each epoch; `ReduceLROnPlateau` gets the first monitored metric.
        evaluator: the validation engine, run by a `ValidationHandler` in front of this handler.
        predictions: keeps and writes the predictions of the best epoch.
        previews: draws pictures of predictions after each validation; ``None`` for none.
        monitors: name of a best file → metrics that decide (``-`` in front: less is better; later ones break ties).
            The first entry also decides on early stopping and on what ``metrics.json`` reports.
        selection: how the first entry chooses its epoch, see `EpochSelection`: ``"best"``, ``"last"`` or ``"inner"``.
        keep_best: number k of top-k checkpoints, by the first entry of ``monitors``: with 2 or more also written as
            ``<name>_epoch_<number>.pt``, the best one included.
        patience, min_epochs: see `EarlyStopping`.
        seed: see `IterationSeeding`.
        settings: what changes the network's function without changing its keys; saved with every checkpoint.
        data: section name → list of data items, for counts and the dataset hash.
        class_names: names of the labels in the data items.
        split_columns: header of the lists of cases that are written into the run.
        run_name: see `MLflowTracker`.
        tracking_uri, experiment_name, parent_run_id, log_model, register, system_metrics, trackers: see `Tracking`.
        checkpoint_every: iterations between checkpoints within an epoch, for epochs of hours; ``None`` for none.
        plot_every: epochs between plots; 0 for the end only.
        empty_cache_interval: iterations after which torch gives unused GPU memory back to the system; ``None``: never.
        outputs: old name of ``predictions``.

    Raises:
        ConfigError: for ``keep_best`` below 1 or a negative ``patience``; when the training starts, for a trainer whose
            ``iteration_update`` is no `monai_ext.engines.TrainingStep`, or a run to resume that doesn't fit.
    """

    def __init__(
        self,
        run: runs.RunFolder,
        network: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        step: Any = None,
        scheduler: Any = None,
        evaluator: Engine | None = None,
        predictions: Predictions | None = None,
        previews: SlicePreviews | None = None,
        monitors: Mapping[str, Sequence[str]] | None = None,
        patience: int | None = None,
        min_epochs: int = 10,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        data: Data | None = None,
        class_names: Sequence[str] = (),
        split_columns: tuple[str, str] = ("case", "class"),
        tracking_uri: str = "none",
        experiment_name: str = "monai_experiment",
        run_name: str | None = None,
        parent_run_id: str | None = None,
        checkpoint_every: int | None = None,
        plot_every: int = 1,
        empty_cache_interval: int | None = None,
        keep_best: int = 1,
        outputs: Predictions | None = None,
        selection: str = "best",
        log_model: bool = True,
        register: str | None = None,
        system_metrics: bool = True,
        trackers: str | Sequence[str] = ("mlflow", "tensorboard"),
    ) -> None:
        predictions = renamed_argument("StandardTraining", "outputs", outputs, "predictions", predictions)
        self.run = run
        self.network: Any = network
        self.optimizer: Any = optimizer
        self.step = step
        self.scheduler = scheduler
        self.evaluator = evaluator
        self.predictions = predictions
        self.previews = previews
        self.monitors = {name: BestEpoch(metrics) for name, metrics in (monitors or {"best": ["-train_loss"]}).items()}
        main, first = next(iter(self.monitors.items()))
        self.selection = EpochSelection(selection, first.metrics, evaluator, data)
        self.monitors[main] = self.main_monitor = self.selection.monitor
        self.top_epochs = TopEpochs(self.main_monitor, keep_best)
        self.best_metrics: dict[str, Any] = {}
        self.rates: list[float] = []
        self.stopping = EarlyStopping(self.main_monitor, patience, min_epochs)
        self.seed = seed
        self.settings = dict(settings or {})
        self.checkpoint_every = checkpoint_every
        self.plot_every = plot_every
        self.empty_cache_interval = empty_cache_interval
        self.history = History(evaluator)
        self.memory = MemoryMonitor()
        self.readings = Readings()
        self.signals = GracefulSignals()
        self.console = Console(predictions.instances if predictions is not None else None)
        tracking = {
            "tracking_uri": tracking_uri,
            "experiment_name": experiment_name,
            "parent_run_id": parent_run_id,
            "log_model": log_model,
            "register": register,
            "system_metrics": system_metrics,
            "trackers": trackers,
        }
        self.records = RunRecords(run, "train", data, class_names, predictions, tracking, run_name, split_columns)
        self.checkpoints: Checkpoints | None = None
        self.input_warnings: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Register with a trainer.

        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        IterationSeeding(self.seed).attach(engine)
        self.history.attach(engine)
        self.memory.attach(engine)
        self.readings.attach(*[engine] + ([self.evaluator] if self.evaluator is not None else []))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        if self.checkpoint_every:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.checkpoint_every), self._save_within_epoch)
        if _is_main():
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._write_metadata)
        if self.empty_cache_interval and torch.cuda.is_available():
            engine.add_event_handler(
                Events.ITERATION_COMPLETED(every=self.empty_cache_interval), torch.cuda.empty_cache
            )
        engine.add_event_handler(Events.COMPLETED, self._completed)
        self.signals.attach(*[engine] + ([self.evaluator] if self.evaluator is not None else []))
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._share_buffers)
            # The tensors of either engine's last batch would occupy memory while the other engine runs.
            self.evaluator.add_event_handler(Events.STARTED, lambda: _forget_output(engine))
            self.evaluator.add_event_handler(Events.COMPLETED, _forget_output)
            if self.previews is not None and _is_main():
                self.previews.attach(self.evaluator)
        if _is_main():
            self.console.attach(engine)

    # -- beginning -----------------------------------------------------------------------------------------------

    def _started(self, engine: Engine) -> None:
        self.signals.install()
        self._take_parts(engine)
        if _is_main():
            self.run.open()
            self.records.open_log()
        folder, self.run.resumed = _from_main((str(self.run / "") if _is_main() else "", self.run.resumed))
        self.run.attach(folder)
        logger.info("run folder: %s", self.run / "")
        self.step.prepare(engine)
        self.step.pending_signal = self.signals.pending
        parts = {"optimizer": self.optimizer, "scaler": self.step.scaler, "step": self.step}
        if self.scheduler is not None:
            parts["scheduler"] = self.scheduler
        self.checkpoints = Checkpoints(
            self.run / "checkpoints",
            self.network,
            parts,
            self.settings,
            self.records.provenance(self.settings, self.selection.rule),
        )
        if self.run.resumed:
            self._resume(engine)
        self.selection.begin()
        if _is_main():
            self.records.open(self.seed, engine.state.epoch + 1, self.main_monitor.metrics[0])
            self.run.update(best_checkpoint=self.best_checkpoint)
            with optional("the picture of the inputs"):
                self._draw_inputs(engine)
        self.signals.raise_if_received(engine)

    def _draw_inputs(self, engine: Engine) -> None:
        if self.evaluator is not None:
            train, plain = engine.data_loader, self.evaluator.data_loader
            names, settings = self.records.class_names, self.records.settings
            self.input_warnings = draw_inputs(self.run / INPUTS, train, plain, names, settings)
            self.run.update(warnings=self.input_warnings)

    def _take_parts(self, engine: Engine) -> None:
        """Take network, optimizer and step, which MONAI's trainer doesn't have yet when it attaches its handlers."""
        if self.network is None:
            self.network = part_of(engine, "network", "StandardTraining")
        if self.optimizer is None:
            self.optimizer = part_of(engine, "optimizer", "StandardTraining")
        if self.step is None:
            self.step = engine._process_function
        if not hasattr(self.step, "prepare"):
            raise ConfigError("StandardTraining: the trainer's iteration_update must be a TrainingStep")

    def _resume(self, engine: Engine) -> None:
        assert self.checkpoints is not None
        planned = schedule.lengths(self.scheduler)
        content = self.checkpoints.load_last()
        if content is None:
            logger.info("no checkpoint in the run folder yet: starting from the first epoch")
            return
        reached, handlers = content["trainer"], content["handlers"]
        if reached["epoch_length"] != engine.state.epoch_length:
            raise ConfigError(
                f"--resume: the run has {reached['epoch_length']} batches per epoch, this configuration "
                f"{engine.state.epoch_length}; resume with the same data, batch size and number of processes"
            )
        if reached["epoch"] > (engine.state.max_epochs or 0):
            raise ConfigError(f"--max_epochs {engine.state.max_epochs}: the run has already {reached['epoch']} epochs")
        engine.state.epoch, engine.state.iteration = reached["epoch"], reached["iteration"]
        within = reached["iteration"] - reached["epoch"] * reached["epoch_length"]
        schedule.follow(self.scheduler, planned, None if within else handlers.get("rates"))
        if within:
            engine.data_loader.skip_batches(within)
        self.history.load_state_dict({**handlers["history"], "entries": content["history"]})
        for name, monitor in self.monitors.items():
            monitor.load_state_dict(handlers["monitors"][name])
        self.top_epochs.load_state_dict(handlers.get("top_epochs", {}))
        self.stopping.load_state_dict(handlers["early_stopping"])
        self.best_metrics = dict(handlers["best_metrics"])
        self.memory.load_state_dict(handlers.get("memory", {}))
        if self.predictions is not None:
            self.predictions.restore(handlers["outputs"])
        if self.stopping.stopped(reached["epoch"]):
            engine.terminate()  # killed between the decision to stop and the report
        logger.info("resumed after epoch %d, iteration %d", reached["epoch"], reached["iteration"])

    # -- each epoch ----------------------------------------------------------------------------------------------

    def _share_buffers(self) -> None:
        """Validate with the running statistics of the main process on all of them."""
        if idist.get_world_size() > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _epoch_completed(self, engine: Engine) -> None:
        check_replicas(self.network, engine.state.epoch)
        entry = self.history.record(engine)
        is_best = False
        if self.history.validated or self.evaluator is None:
            is_best = self._update_best(entry)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._step_scheduler(entry)
        stop = (self.history.validated or self.evaluator is None) and self.stopping.should_stop(entry["epoch"])
        history = self.history.state_dict()
        readings = self.readings.take()
        if _is_main():
            self.records.note_readings(readings)
            self.console.epoch(entry, engine.state.max_epochs or 0, is_best)
            # Before the checkpoint: a run killed in between resumes behind this epoch, and would never show it.
            self.records.epoch(entry, {f"memory_{name}_mib": value for name, value in self.memory.latest.items()})
            if self.previews is not None and self.history.validated:
                with optional("the preview of predictions"):
                    self.records.preview(self.previews.figure(), entry["epoch"])
            self._save(engine, engine.state.epoch, history)
            self._write_metrics()
            if self.plot_every and entry["epoch"] % self.plot_every == 0:
                self.records.plot(self.history, self.main_monitor.epoch)
        if stop:
            logger.info("early stopping: no better epoch than %d for %d", self.main_monitor.epoch, self.stopping.waited)
            engine.terminate()

    def _update_best(self, entry: Mapping[str, Any]) -> bool:
        improved = {name: monitor.update(entry["epoch"], entry) for name, monitor in self.monitors.items()}
        main = next(iter(self.monitors))
        if improved[main]:
            if _is_main():
                self.run.update(best_checkpoint=self.best_checkpoint)
            self.best_metrics = {name: value for name, value in entry.items() if name not in NOT_METRICS}
            if self.predictions is not None and self.evaluator is not None:
                self.predictions.take(self.evaluator)
                if _is_main():
                    self.predictions.write(self.run / "predictions")
        if _is_main():
            self._save_best([name for name, better in improved.items() if better], entry)
            self._save_top(entry)
        return improved[main]

    def _save_best(self, names: Sequence[str], entry: Mapping[str, Any]) -> None:
        assert self.checkpoints is not None
        if not names:
            return
        extras = self._extras()
        for name in names:
            self.checkpoints.save_best(name, entry, entry["epoch"], extras)
        metadata = self.run / "config" / "metadata.json"
        if next(iter(self.monitors)) in names and metadata.exists():
            write_json(metadata, {**read_json(metadata), **extras})
            self.records.write_inference(self.settings, str(self.best_checkpoint), extras)

    def _save_top(self, entry: Mapping[str, Any]) -> None:
        assert self.checkpoints is not None
        dropped = self.top_epochs.update(entry["epoch"], entry)
        if self.top_epochs.count == 1:
            return
        name = next(iter(self.monitors))
        if entry["epoch"] in self.top_epochs.scores:
            self.checkpoints.save_best(f"{name}_epoch_{entry['epoch']:03d}", entry, entry["epoch"], self._extras())
        for epoch in dropped:
            (self.checkpoints.folder / f"{name}_epoch_{epoch:03d}.pt").unlink(missing_ok=True)

    def _extras(self) -> dict[str, Any]:
        """Entries of a best file beside the network."""
        if self.predictions is None or self.evaluator is None:
            return {}
        return self.predictions.for_checkpoint(self.evaluator)

    def _step_scheduler(self, entry: Mapping[str, Any]) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            name = self.selection.schedule_metric
            value = entry.get(name.removeprefix("-"))
            if value is not None:
                # The scheduler looks for small values; a metric to be maximised is handed over negated.
                self.scheduler.step(value if name.startswith("-") else -value)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _save_within_epoch(self, engine: Engine) -> None:
        position = engine.state.iteration % (engine.state.epoch_length or 1)
        # The end of an epoch saves anyway, and half an accumulation can't be saved.
        if position and position % self.step.accumulate == 0:
            history = self.history.state_dict()  # reduces over all processes
            if _is_main():
                self._save(engine, engine.state.epoch - 1, history)

    def _save(self, engine: Engine, epoch: int, history: Mapping[str, Any]) -> None:
        assert self.checkpoints is not None
        trainer = {"epoch": epoch, "iteration": engine.state.iteration, "epoch_length": engine.state.epoch_length or 0}
        handlers = {
            "monitors": {name: monitor.state_dict() for name, monitor in self.monitors.items()},
            "top_epochs": self.top_epochs.state_dict(),
            "early_stopping": self.stopping.state_dict(),
            "best_metrics": self.best_metrics,
            "rates": self.rates,
            "memory": self.memory.state_dict(),
            # named as ever, so that older checkpoints resume
            "outputs": self.predictions.best_state() if self.predictions is not None else {},
            "history": {name: history[name] for name in ("sums", "samples")},
        }
        self.checkpoints.save_last(trainer, handlers, history["entries"])

    def _write_metrics(self, intervals: bool = False) -> None:
        self.records.metrics(
            self.history,
            self.main_monitor.epoch,
            self.best_metrics,
            self.step.events,
            intervals,
            self.main_monitor.metrics[0].removeprefix("-"),
            {"selection": self.selection.record(self.history.entries)},
        )

    # -- end -----------------------------------------------------------------------------------------------------

    def _completed(self, engine: Engine) -> None:
        chosen = self.best_checkpoint
        if chosen and self.selection.evaluate_fold(self.network, self.run / chosen, self.predictions):
            self._report_fold()
        if not _is_main():
            return
        interruptible = self.signals.raise_if_pending
        interruptible()
        self._write_metrics(intervals=True)
        interruptible()
        with optional("the sentence on the selection"):
            self._say_selection()
        self.records.plot(self.history, self.main_monitor.epoch)
        with optional("the picture of the mistakes"):
            self._draw_mistakes()
        interruptible()
        self.run.update(**self._end())
        self._warn()
        network = self._best_network if self.best_checkpoint else None
        report = self.records.finish(self.best_metrics, self.main_monitor.epoch, interruptible, network)
        if report is not None:
            logger.info("report: %s", report)
        logger.info("plots: %s", self.run / "plots")
        with optional("the hint on what to do next"):
            self._say_what_next()

    def _report_fold(self) -> None:
        """Report the evaluation that has just ended in place of the best epoch's."""
        assert self.evaluator is not None
        found = self.evaluator.state.metrics.items()
        self.best_metrics = {validation_name(name): value for name, value in found if isinstance(value, (int, float))}
        if _is_main() and self.predictions is not None:
            self.predictions.write(self.run / "predictions")

    def _draw_mistakes(self) -> None:
        if self.best_checkpoint and self.predictions is not None and self.evaluator is not None:
            draw_mistakes(self.run / MISTAKES, self._best_network(), self.predictions, self.evaluator.data_loader)

    def _best_network(self) -> torch.nn.Module:
        assert self.best_checkpoint is not None
        network: torch.nn.Module = copy.deepcopy(self.network)
        network.load_state_dict(read_checkpoint(self.run / self.best_checkpoint)["model"])
        return network

    def _say_selection(self) -> None:
        content = read_json(self.run / "metrics" / "metrics.json")
        key, sentence = key_metric(content), content["selection"]["sentence"]
        if key is not None:
            logger.info("%s", with_interval(content, key))
        (logger.warning if content["selection"]["optimistic"] else logger.info)("%s", sentence)
        metadata = self.run / "config" / "metadata.json"
        if metadata.exists():
            write_json(metadata, {**read_json(metadata), "selection": sentence})

    def _failed(self, engine: Engine, error: BaseException) -> None:
        lost = lost_rank(error)
        if lost is not None:
            logger.warning("%s", lost)  # at once: the launcher is about to end this process
            if not _is_main():
                self.run.end_for_main(str(lost))
        else:
            self.signals.remove()  # the launcher's must not end a process that writes what happened
        asked = isinstance(error, (Interrupted, KeyboardInterrupt))
        self.memory.stop()
        if _is_main() and self.run.record.get("status") == runs.RUNNING:
            end: dict[str, Any] = {}
            if asked:
                logger.warning("interrupted; continue with --resume auto")
            else:
                end = self._end(str(lost) if lost is not None else describe(error)[0])
            with failed_already():
                self.records.close(runs.KILLED if asked else runs.FAILED, **end)
        self.signals.remove()
        if lost is not None:
            raise lost from error
        raise error

    @property
    def best_checkpoint(self) -> str | None:
        """Path in the run folder of the checkpoint that the first monitor keeps; ``None`` while there is none."""
        return f"checkpoints/{next(iter(self.monitors))}.pt" if self.main_monitor.epoch else None

    def _warn(self) -> None:
        """Say what the run's last line would hide: no best epoch, or a network that has learnt nothing."""
        found = doubts(self.predictions.best) if self.predictions is not None and self.main_monitor.epoch else []
        if self.best_checkpoint is None:
            name = self.main_monitor.metrics[0].removeprefix("-")
            found = [f"there is no best checkpoint: {name} could not be computed in any epoch; the last is {LAST}"]
        for sentence in found:
            logger.warning(sentence)
        self.run.update(warnings=[*self.input_warnings, *found])

    def _write_metadata(self, engine: Engine) -> None:
        if self.records.bundle is not None:
            batch = engine.state.batch
            image = batch[0]["image"] if isinstance(batch, list) else batch["image"][0]
            content = run_metadata(self.records.bundle, image.shape, self.predictions, self.settings)
            content["provenance"] = self.records.provenance(self.settings, self.selection.rule)
            write_json(self.run / "config" / "metadata.json", content)
            self.records.write_inference(self.settings, self.best_checkpoint or f"checkpoints/{LAST}")

    def _end(self, *events: str) -> dict[str, Any]:
        """The last entries of ``run.json``."""
        if self.memory.peaks:
            words = ", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in self.memory.peaks.items())
            logger.info("memory at its peak in MiB: %s", words)
        peaks = {f"{name}_peak_mib": value for name, value in self.memory.peaks.items()}
        return {"memory": peaks, "events": [*self.step.events, *events]}

    def _say_what_next(self) -> None:
        if (self.run / "config" / "inference.json").is_file():
            which, file = ("best", self.best_checkpoint) if self.best_checkpoint else ("last", f"checkpoints/{LAST}")
            purpose, command = next_command(self.run / "", file)
            logger.info("to %s with the %s checkpoint: %s", purpose, which, command)


def _is_main() -> bool:
    return idist.get_rank() == 0


def _forget_output(engine: Engine) -> None:
    engine.state.output = None


def _from_main(value: Any) -> Any:
    if idist.get_world_size() == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
