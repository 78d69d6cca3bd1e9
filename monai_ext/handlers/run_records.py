"""Records of a run: configuration, log, metrics, curves, plots, report, MLflow entry."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from monai_ext import runs
from monai_ext.handlers.data_summary import (
    Data,
    count_labels,
    dataset_hash,
    described_datasets,
    label_cells,
    patient_counts,
    unique_cases,
)
from monai_ext.handlers.handing_on import bundle_metadata, inference_config
from monai_ext.handlers.history import History
from monai_ext.handlers.log_file import LogFile
from monai_ext.handlers.mlflow_tracker import FAILED, FINISHED, KILLED, MLflowTracker
from monai_ext.handlers.optional import optional
from monai_ext.handlers.system_metrics import SystemMetrics
from monai_ext.handlers.tensorboard import TensorBoard
from monai_ext.handlers.tracking import Tracker, Tracking
from monai_ext.handlers.wandb_tracker import WandbTracker
from monai_ext.io import finite, read_csv, read_json, write_csv, write_json, write_text
from monai_ext.mlflow_network import write_network
from monai_ext.predictions.kind import Predictions
from monai_ext.provenance import provenance_of
from monai_ext.settings import changes_since, recipe_key, recipe_of, resolved_settings
from monai_ext.settings.resuming import RECIPE
from monai_ext.workflow import find_workflow, monai_tracks

logger = logging.getLogger("monai_ext")

_TRACKER_STATUS = {runs.FINISHED: FINISHED, runs.FAILED: FAILED, runs.KILLED: KILLED}


class RunRecords:
    """Writes the files of a run folder that aren't checkpoints; for the main process only.

    Created while a config is being read, because that is when the workflow and its settings can be found.

    Args:
        run: the run folder.
        kind: ``"train"`` or ``"evaluate"``, the name of the log.
        data: section name → list of data items, for counts and the dataset hash.
        class_names: names of the labels in the data items.
        predictions: predictions of the best epoch.
        tracking: arguments of `Tracking`; without them MLflow is off.
        run_name: name of the run in MLflow and the report; default: the folder's.
        split_columns: header of ``splits/fold_<k>_<section>.csv``, the lists of cases and labels;
            multi-label items have a column for each label.
    """

    def __init__(
        self,
        run: runs.RunFolder,
        kind: str,
        data: Data | None = None,
        class_names: Sequence[str] = (),
        predictions: Predictions | None = None,
        tracking: Mapping[str, Any] | None = None,
        run_name: str | None = None,
        split_columns: tuple[str, str] = ("case", "class"),
    ) -> None:
        workflow = find_workflow()
        self.parser = workflow.parser if workflow is not None else None
        self.bundle = _bundle_of(workflow) if workflow is not None else None
        self.run = run
        self.kind = kind
        self.data = dict(data or {})
        self.left_out = list(getattr(data, "left_out", ()))
        self.class_names = list(class_names)
        self.predictions = predictions
        self.tracking = Tracking(**(tracking or {}))
        self.run_name = run_name
        self.split_columns = split_columns
        # Case → how its file was understood; of extracted slices this is known from the beginning.
        items = (item for section in self.data.values() for item in section)
        self.readings: dict[str, str] = {item["case"]: item["reading"] for item in items if "reading" in item}
        self.tracker: MLflowTracker | None = None
        self.trackers: list[Tracker] = []
        self.system: SystemMetrics | None = None
        self.log_file: LogFile | None = None
        self._plots: dict[Path, None] = {}
        # Epochs and best epoch that they show.
        self._shown: tuple[int, int] | None = None

    @property
    def settings(self) -> list[str]:
        """Names of the config's settings; none outside a bundle's workflow."""
        return list(self.parser.get()) if self.parser is not None else []

    def open_log(self) -> None:
        """Begin the log file."""
        stamp = (self.run / "").name.removeprefix("run_")
        self.log_file = LogFile(self.run / "logs" / f"{self.kind}_{stamp}.log")

    def open(self, seed: int | None, first_epoch: int | None = 1, key_metric: str | None = None) -> None:
        """Write the record and the resolved configuration, start the trackers.

        Args:
            seed: seed of the run, or ``None``.
            first_epoch: first epoch to log, from 1; ``None`` for MLflow alone, as in an evaluation.
            key_metric: name of the metric that selects the best epoch, with ``-`` in front where less is better.
        """
        parameters = resolved_settings(self.parser) if self.parser is not None else {}
        if self.run.resumed:
            with optional("how the files were read before"):
                self.readings = self._earlier_readings() | self.readings
        record: dict[str, Any] = {
            "bundle": self.bundle.name if self.bundle else None,
            "fold": self.run.fold,
            "run_name": self.run_name or self.run.name,
            "key_metric": key_metric,
            "parameters": parameters,
            "data": self._describe_data(),
            "versions": runs.versions(),
            "commit": runs.commit(),
        }
        if self.run.resumed:
            _warn_of_other_data(self.run.record, record)
        changes: list[dict[str, Any]] = list(self.run.record.get("changes", []))
        if self.parser is not None:
            recipe = recipe_of(self.parser.get())
            if self.run.resumed:
                changes += changes_since(self.run / "", recipe, first_epoch or 1)
            record |= {"recipe": recipe_key(recipe), "changes": changes}
            write_json(self.run / RECIPE, recipe)
            config = {key: value for key, value in copy.deepcopy(self.parser.get()).items() if key != "_meta_"}
            noted = {"_changes_": changes} if changes else {}
            write_json(self.run / "config" / "config.json", {**config, **parameters, **noted})
        self._write_splits()
        self._open_trackers(record, first_epoch)
        for tracker in self.trackers:
            tracker.parameters(_flat_parameters(record, seed) | _flat_changes(changes))
        for crashed in self.run.crashed():
            self._mark_failed(crashed)
        self.run.update(**record)

    def _open_trackers(self, record: dict[str, Any], first_epoch: int | None) -> None:
        before = self.run.record if self.run.resumed else {}
        name, chosen = str(record["run_name"]), self.tracking.chosen
        if first_epoch is not None and "tensorboard" in chosen:
            self.trackers.append(TensorBoard(self.run / "tensorboard", first_epoch))
        # With ``--tracking mlflow`` MONAI's own handler tracks: one store, one run.
        if self.tracking.mlflow and not (self.parser is not None and monai_tracks(self.parser.get())):
            known, tags = before.get("mlflow_run_id"), self._tags(record)
            self.tracker = MLflowTracker(
                **self.tracking.of_run(), run_name=name, run_id=known, folder=self.run / "", tags=tags
            )
            self.trackers.append(self.tracker)
            record["mlflow_run_id"] = self.tracker.run_id
            self.tracker.inputs(described_datasets(record["bundle"], self.data, record["parameters"], self.class_names))
            if self.tracking.system_metrics:
                self.system = SystemMetrics()
            self.tracker.artifact(self.run / "config" / "config.json", "config")
        if first_epoch is not None and "wandb" in chosen:
            project, group = self.tracking.experiment_name, self.tracking.parent_run_id
            wandb = WandbTracker(self.run / "", project, name, group, before.get("wandb_run_id"))
            self.trackers.append(wandb)
            record["wandb_run_id"] = wandb.run_id

    def note_readings(self, readings: Mapping[str, str]) -> None:
        """Add to the lists of cases, and count in the record, how files were understood.

        Args:
            readings: case → by what its file was read, such as "metadata table (slope 1, intercept -1024)".
        """
        known = {**self.readings, **readings}
        if known != self.readings:
            self.readings = known
            self._write_splits()
            self.run.update(data=self.run.record["data"] | self._count_readings())

    def epoch(self, entry: Mapping[str, Any], extra: Mapping[str, float] | None = None) -> None:
        """Add an epoch's numbers to the trackers.

        Args:
            entry: the history's entry of the epoch.
            extra: further numbers by name.
        """
        for tracker in self.trackers:
            tracker.metrics({**entry, **(extra or {})}, step=entry["epoch"])
        if self.tracker is not None:
            self._send_samples(self.tracker)
            self._note_run_id(self.tracker)

    def metrics(
        self,
        history: History | None,
        best_epoch: int,
        best: Mapping[str, Any],
        events: Sequence[str] = (),
        intervals: bool = False,
        key_metric: str | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        """Write ``metrics/metrics.json`` and, when they can be computed, ``metrics/classification_report.txt``.

        Confidence intervals take a while, so they are for the end. Metrics of instances are under ``parts`` alone.

        Args:
            history: history of the training; ``None`` without one.
            best_epoch: number of the best epoch, from 1; 0 for none.
            best: metrics of the best epoch by name.
            events: sentences about events of the run, such as skipped batches.
            intervals: whether to compute confidence intervals.
            key_metric: name of the metric that selected the best epoch.
            further: entries for ``metrics.json``, plain values.
        """
        entries = history.entries if history is not None else []
        content = {
            "bundle": self.bundle.name if self.bundle else None,
            "fold": self.run.fold,
            "epoch": entries[-1]["epoch"] if entries else 0,
            "best_epoch": best_epoch,
            "key_metric": key_metric,
            "class_names": self.class_names,
            "metrics": {},
            "intervals": {},
            "skipped": [],
            **(self.predictions.metrics(intervals) if self.predictions is not None else {}),
            "history": entries,
            "loss_summary": history.summary() if history is not None else {},
            **(further or {}),
        }
        parts = content.get("parts")
        of_cases = {k: v for k, v in best.items() if parts is None or not k.startswith(f"{parts['name']}_")}
        content["metrics"] = {**of_cases, **content["metrics"]}
        content["skipped"] = [*content["skipped"], *events]
        write_json(self.run / "metrics" / "metrics.json", finite(content))
        report = self.predictions.report() if self.predictions is not None else None
        if report is not None:
            write_text(self.run / "metrics" / "classification_report.txt", report)

    def plot(self, history: History | None, best_epoch: int = 0) -> None:
        """Bring all plots up to date; those that have nothing new to show stay as they are.

        Args:
            history: history of the training; None without one.
            best_epoch: number of the best epoch, from 1; 0 for none.
        """
        with optional("the plots"):
            self._plot(history, best_epoch)

    def _plot(self, history: History | None, best_epoch: int) -> None:
        from monai_ext.reports import save_all

        entries = history.entries if history is not None else []
        before, self._shown = self._shown, (len(entries), best_epoch)
        if before == self._shown:
            return
        predictions = self.predictions
        saved = save_all(
            self.run / "plots",
            entries,
            predictions.drawn() if predictions is not None and (not before or before[1] != best_epoch) else {},
            best_epoch or None,
            count_labels(unique_cases(self.data), self.class_names) if self.class_names and not before else None,
            predictions.cases if predictions is not None else None,
            predictions.instances if predictions is not None else None,
        )
        self._plots.update(dict.fromkeys(saved))

    def preview(self, figure: Any, epoch: int) -> None:
        """Keep a figure of predictions: as a file of its epoch, and in the trackers.

        Args:
            figure: figure of matplotlib.
            epoch: number of the epoch, from 1.
        """
        from monai_ext.reports.plots import save

        path = save(figure, self.run / "previews" / f"epoch_{epoch:04d}.png")
        for tracker in self.trackers:
            tracker.picture("preview", path, epoch)

    def finish(
        self,
        best: Mapping[str, Any],
        best_epoch: int,
        interruptible: Callable[[], None] = lambda: None,
        network: Callable[[], nn.Module] | None = None,
    ) -> Path | None:
        """Write the report, hand everything to MLflow and only then close as finished; returns the report's path, if it
        could be made.

        Args:
            best: metrics of the best epoch by name.
            best_epoch: number of the best epoch, from 1.
            interruptible: called between the steps; what it raises leaves the run unfinished.
            network: makes the best network, for MLflow; ``None`` where there is none.
        """
        from monai_ext.reports import write_report

        end = {"status": runs.FINISHED, "ended": runs.now()}
        report = None
        with optional("the report"):
            report = write_report(self.run / "", current_plots=list(self._plots), end=end)
        interruptible()
        numbers = {f"best_{name}": value for name, value in best.items() if name != "lr"}
        for tracker in self.trackers:
            tracker.best({**numbers, "best_epoch": best_epoch})
        if self.tracker is not None:
            self._send_samples(self.tracker)
            for name in ("metrics", "plots", "predictions"):
                self.tracker.artifact(self.run / name, name)
                interruptible()
            if report is not None:
                self.tracker.artifact(report)
            if network is not None and self.tracking.log_model:
                with optional("the model for MLflow"):
                    self._hand_over(network(), best_epoch, self.tracker)
                interruptible()
        self.close(runs.FINISHED)
        return report

    def _hand_over(self, network: nn.Module, epoch: int, tracker: MLflowTracker) -> None:
        metadata = self.run / "config" / "metadata.json"
        if metadata.is_file():  # outside a bundle nobody knows the size of an image
            image = read_json(metadata)["network_data_format"]["inputs"]["image"]
            folder = self.run / "mlflow_model"
            write_network(network, (image["num_channels"], *image["spatial_shape"]), folder)
            tracker.model(folder, epoch, self.tracking.register)

    def close(self, status: str, **entries: Any) -> None:
        """Write the end state to ``run.json`` and the trackers: to each, though another can't be written.

        Args:
            status: ``"finished"``, ``"failed"`` or ``"killed"``.
            entries: further ones of ``run.json``.

        Raises:
            WriteError: when one can't be written.
        """
        with contextlib.ExitStack() as each:  # from the last to the first
            each.callback(self.run.close, status, **entries)
            if self.tracker is not None:
                each.callback(self._note_run_id, self.tracker)
            for tracker in reversed(self.trackers):
                each.callback(tracker.finish, _TRACKER_STATUS[status])
            self.tracker, self.trackers = None, []
            if self.system is not None:
                each.callback(self.system.stop)
        if self.log_file is not None and status == runs.FINISHED:
            self.log_file.close()  # after a failure it still gets the traceback

    def provenance(self, settings: Mapping[str, Any], selection: str | None = None) -> dict[str, Any]:
        """Provenance for a checkpoint, see `monai_ext.provenance.provenance_of`.

        Args:
            settings: settings of the network, of which the modality is recorded.
            selection: how the epoch is chosen, see `EpochSelection`.
        """
        metadata = bundle_metadata(self.bundle) if self.bundle is not None else {}
        return provenance_of(
            self.data,
            bundle=self.bundle.name if self.bundle is not None else None,
            version=metadata.get("version"),
            fold=self.run.fold,
            selection=selection,
            class_names=self.class_names,
            modality=settings.get("modality"),
            data_fingerprint=dataset_hash(self.data),
        )

    def write_inference(
        self, settings: Mapping[str, Any], checkpoint: str, extras: Mapping[str, Any] | None = None
    ) -> None:
        """Write ``config/inference.json``, see `inference_config`, and the bundle's ``settings.json`` and
        ``logging.conf`` beside it, where they can be made of the bundle's.

        Args:
            settings: settings of the network.
            checkpoint: path of the best checkpoint within the run folder.
            extras: further entries of the checkpoint.
        """
        if self.bundle is None or self.parser is None or not (self.bundle / "configs" / "inference.json").is_file():
            return
        with optional("config/inference.json"):
            content = inference_config(self.bundle, self.parser.get(), settings, checkpoint, extras or {})
            write_json(self.run / "config" / "inference.json", content)
            schema = self.bundle / "configs" / "settings.json"
            if schema.is_file():
                write_json(self.run / "config" / "settings.json", read_json(schema))
            log = self.bundle / "configs" / "logging.conf"
            if log.is_file():  # without it MONAI would run these configs without a word
                write_text(self.run / "config" / "logging.conf", log.read_text(encoding="utf-8"))

    def _tags(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Tags with MLflow's own names, where we know better than MLflow, which looks at ``monai.bundle`` itself."""
        commit = (record["commit"] or "").removesuffix("+changes")
        known = {"source.git.commit": commit, "source.name": self.bundle, "project.entryPoint": self.kind}
        return {f"mlflow.{name}": str(value) for name, value in known.items() if value}

    def _describe_data(self) -> dict[str, Any]:
        counts = count_labels(self.data, self.class_names)
        cases = count_labels(unique_cases(self.data), self.class_names)
        summary = {
            "fingerprint": dataset_hash(self.data),
            "counts": counts,
            **patient_counts(self.data),
            "left_out": self.left_out,
            **self._count_readings(),
        }
        return summary if cases == counts else {**summary, "cases": cases}

    def _write_splits(self) -> None:
        if not self.class_names:
            return
        case, label = self.split_columns
        for section, items in unique_cases(self.data).items():
            rows = [{case: item["case"], **label_cells(item, self.class_names, label)} for item in items]
            if self.readings:
                rows = [{**row, "reading": self.readings.get(row[case], "")} for row in rows]
            write_csv(self._list_of(section), rows, None if rows else [case, label])

    def _list_of(self, section: str) -> Path:
        return self.run / "splits" / f"fold_{self.run.fold}_{section}.csv"

    def _count_readings(self) -> dict[str, Any]:
        return {"readings": dict(Counter(self.readings.values()))} if self.readings else {}

    def _earlier_readings(self) -> dict[str, str]:
        """Those that a resumed run has noted: in the epochs that are left, not every case need come again."""
        case, _ = self.split_columns
        files = [path for path in map(self._list_of, self.data) if path.is_file()]
        rows = [row for path in files for row in read_csv(path, [case])]
        return {row[case]: row["reading"] for row in rows if row.get("reading")}

    def _send_samples(self, tracker: MLflowTracker) -> None:
        if self.system is not None:
            tracker.samples(self.system.take())

    def _note_run_id(self, tracker: MLflowTracker) -> None:
        """A fold that began while the server was away learns its id later."""
        if self.run.record.get("mlflow_run_id") not in (None, tracker.run_id):
            self.run.update(mlflow_run_id=tracker.run_id)

    def _mark_failed(self, crashed: Path) -> None:
        record = runs.record_of(crashed)
        write_json(crashed / runs.RECORD, {**record, "status": runs.FAILED})
        if self.tracker is not None and record.get("mlflow_run_id"):
            self.tracker.mark_failed(record["mlflow_run_id"])


def _flat_parameters(record: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    counts = {f"{section}_{name}": n for section, by in record["data"]["counts"].items() for name, n in by.items()}
    versions = {f"version_{name}": version for name, version in record["versions"].items()}
    return {
        **record["parameters"],
        "fold": record["fold"],
        "seed": seed,
        "key_metric": record["key_metric"],
        "data_fingerprint": record["data"]["fingerprint"],
        "commit": record["commit"],
        **counts,
        **versions,
    }


def _flat_changes(changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """MLflow's parameters never change: a later value is one of its own."""
    return {f"{one['setting'].replace('#', '.')}.from_epoch_{one['from_epoch']}": one["new"] for one in changes}


def _warn_of_other_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    # Not an error: a copy of the data on another machine has other times, too.
    if before.get("data", {}).get("fingerprint", now["data"]["fingerprint"]) != now["data"]["fingerprint"]:
        logger.warning("the data are not those that the resumed run began with: other cases, labels, sizes or times")


def _bundle_of(workflow: Any) -> Path:
    """The bundle that the config names, which may be a copy that lies elsewhere; else the one that it lies in."""
    parser = workflow.parser
    root = parser.get_parsed_content("bundle_root") if "bundle_root" in parser else None
    return Path(workflow.config_root_path).absolute().parent if root is None else Path(root).absolute()
