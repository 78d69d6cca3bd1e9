"""Reading a run folder in any state: running, finished, failed, killed, partly damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ext.errors import DataError
from monai_ext.io import read_json
from monai_ext.pages.tables import as_dict, as_list
from monai_ext.predictions.kind import Predictions
from monai_ext.predictions.tasks import kind_of, task_of

PREDICTIONS = "predictions/val_predictions.csv"


@dataclass
class RunContents:
    """Content of a run folder; a missing part is empty, and `problems` names parts that can't be read.

    Args:
        path: the folder.
        info: ``run.json``: status, times, parameters, versions, data, memory, events.
        metrics: ``metrics/metrics.json``.
        config: ``config/config.json``, the resolved configuration.
        kind: the class of the run's kind of predictions.
        result: of the validation's prediction file, see `Predictions.read`; ``None`` without one.
        problems: one sentence for each part that is missing or damaged.
    """

    path: Path
    info: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    kind: type[Predictions] = Predictions  # type: ignore[type-abstract]
    result: Any = None
    problems: list[str] = field(default_factory=list)

    @property
    def cases(self) -> str | None:
        """Name of the cases, such as ``"nuclei"`` or ``"patches"``; ``None`` where they have none of their own."""
        return str(self.metrics["cases"]) if self.metrics.get("cases") else None

    @property
    def instances(self) -> dict[str, Any]:
        """Metrics of the instances with their ``name`` (``"crops"``); empty where each item is a case."""
        found = as_dict(self.metrics.get("parts"))
        return found if isinstance(found.get("name"), str) else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """Epochs of the history, without damaged ones."""
        return [row for row in as_list(self.metrics.get("history")) if isinstance(row, dict)]


def read_run(run_dir: str | Path) -> RunContents:
    """Read a run folder.

    Args:
        run_dir: the folder.

    Raises:
        DataError: when it isn't one: neither ``run.json`` nor ``metrics/metrics.json`` is there.
    """
    run = RunContents(Path(run_dir))
    files = {"info": "run.json", "metrics": "metrics/metrics.json", "config": "config/config.json"}
    if not any((run.path / files[name]).is_file() for name in ("info", "metrics")):
        raise DataError("is not a run folder: it has neither run.json nor metrics/metrics.json", run_dir)
    for name, file in files.items():
        setattr(run, name, read_object(run.path / file, run.problems))
    try:
        run.kind = kind_of(task_of(run.metrics))
    except DataError as error:
        run.problems.append(f"metrics.json: {error}")
    run.result = read_predictions(run.kind, run.path / predictions_file(run.metrics), run.metrics, run.problems)
    return run


def read_predictions(
    kind: type[Predictions], path: Path, metrics: Mapping[str, Any], problems: list[str]
) -> Any | None:
    """Read a prediction file; for a damaged one return ``None`` and add a line to ``problems``.

    Args:
        kind: class of the predictions.
        path: see `Predictions.read`.
        metrics: see `Predictions.read`.
        problems: changed in place.
    """
    try:
        return kind.read(path, metrics)
    except (DataError, OSError) as error:
        problems.append(f"{path.name}: {error}")
        return None


def predictions_file(metrics: Mapping[str, Any]) -> str:
    """The predictions of the cases that a ``metrics.json`` names, within the run folder."""
    named = metrics.get("predictions")
    return named if isinstance(named, str) else PREDICTIONS


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """Read a JSON object; for a missing or damaged one return an empty one and add a line to ``problems``."""
    name = f"{path.parent.name}/{path.name}" if path.parent.name in ("metrics", "config") else path.name
    if not path.is_file():
        problems.append(f"{name}: not there (the run ended before it was written, or never writes it)")
        return {}
    try:
        content = read_json(path)
    except (DataError, OSError) as error:
        problems.append(f"{name}: {error}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{name}: holds a {type(content).__name__} instead of an object")
        return {}
    return content
