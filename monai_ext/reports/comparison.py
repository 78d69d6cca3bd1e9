"""Comparison of training runs: table, CSV and figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ext.errors import ConfigError
from monai_ext.io import write_csv
from monai_ext.pages.style import COLOURS, draw_line, dress, place_legend, plain, whole_epochs
from monai_ext.reports.plots import save
from monai_ext.reports.tracked_runs import ComparedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# These differ in every run or fold anyway.
_NOT_COMPARED = {"fold", "run_name", "output_dir", "bundle_root", "data_fingerprint"}


def differing_parameters(runs: Sequence[ComparedRun]) -> list[str]:
    """Names of the parameters with different values among the runs that have them.

    Args:
        runs: with their nested runs, see `monai_ext.reports.tracked_runs.load_runs`.
    """
    values: dict[str, set[str]] = {}
    for run in _flat(runs):
        for name, value in run.parameters.items():
            values.setdefault(name, set()).add(value)
    return sorted(name for name, found in values.items() if len(found) > 1 and name not in _NOT_COMPARED)


def comparison_rows(runs: Sequence[ComparedRun], metric: str) -> list[dict[str, Any]]:
    """One row per run, a parent before its children.

    Columns: run, parent, experiment, status, fold, ``best_<metric>`` (the compared one first), the differing
    parameters as ``param_<name>`` (a parameter may have the name of another column), duration.

    Args:
        runs: see `monai_ext.reports.tracked_runs.load_runs`.
        metric: the compared metric.
    """
    flat = _flat(runs)
    names = {run.run_id: run.name for run in flat}
    metrics = dict.fromkeys([metric, *sorted({name for run in flat for name in run.best})])
    parameters = differing_parameters(runs)
    return [
        {
            "run": run.name,
            "parent": names.get(run.parent_id or ""),
            "experiment": run.experiment,
            "status": run.status,
            "fold": run.parameters.get("fold"),
            **{f"best_{name}": _number(name, run.best.get(name)) for name in metrics},
            **{f"param_{name}": run.parameters.get(name) for name in parameters},
            "duration": None if run.seconds is None else str(timedelta(seconds=round(run.seconds))),
        }
        for run in flat
    ]


def console_table(rows: Sequence[dict[str, Any]], widest: int = 32) -> str:
    """The rows as aligned text, children indented; no control character from the store reaches the terminal.

    Args:
        rows: of `comparison_rows`, at least one.
        widest: largest number of characters in a column.
    """
    columns = [name for name in rows[0] if name != "parent"]
    header = [_shown(name.removeprefix("param_"), widest) for name in columns]
    body = [
        [("  " if row["parent"] and name == "run" else "") + _shown(row[name], widest) for name in columns]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [header, ["-" * width for width in widths], *body]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def write_comparison(runs: Sequence[ComparedRun], metric: str, output: str | Path) -> tuple[Path, Path]:
    """Write the table as CSV and, beside it, the figure as PNG of the same name.

    Args:
        runs: see `monai_ext.reports.tracked_runs.load_runs`.
        metric: the compared metric.
        output: ``.csv`` file.

    Returns:
        Paths of the CSV and the PNG.

    Raises:
        ConfigError: when ``output`` doesn't end in ``.csv``.
        WriteError: when a file can't be written.
    """
    path = Path(output)
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"compare: output must end in .csv, got {path.name!r}; the figure goes beside it as .png")
    write_csv(path, comparison_rows(runs, metric))
    return path, save(comparison_figure(runs, metric), path.with_suffix(".png"))


def comparison_figure(runs: Sequence[ComparedRun], metric: str) -> Figure:
    """Best value of each run as dots, and the metric by epoch as lines in the same colours.

    Args:
        runs: see `monai_ext.reports.tracked_runs.load_runs`.
        metric: the compared metric; runs without it are left out.
    """
    from matplotlib.figure import Figure

    shown = [run for run in _flat(runs) if metric in run.best]
    height = max(1.2, 0.28 * len(shown))
    figure = Figure(figsize=(8, 4 + height), layout="constrained")
    dots, curves = figure.subplots(2, 1, height_ratios=[height, 3.2])
    dress(dots, f"Best {metric} of each run", f"best {metric}")
    dress(curves, f"{metric} by epoch", "epoch", metric)
    for index, run in enumerate(shown):
        dots.plot(run.best[metric], index, "o", color=COLOURS[index % len(COLOURS)])
        epochs, values = [epoch for epoch, _ in run.history], [value for _, value in run.history]
        draw_line(curves, epochs, values, run.name, index)
    dots.set_yticks(range(len(shown)), [plain(run.name) for run in shown])
    dots.set_ylim(len(shown) - 0.5, -0.5)
    whole_epochs(curves)
    # More lines can't be distinguished; the dots above name all runs.
    if 0 < len(curves.lines) <= 14:
        place_legend(curves, "lower right")
    return figure


def _flat(runs: Iterable[ComparedRun]) -> list[ComparedRun]:
    return [one for run in runs for one, _ in run.walk()]


def _number(name: str, value: float | None) -> float | int | None:
    return int(value) if name == "epoch" and value is not None else value


def _shown(value: Any, widest: int) -> str:
    if value is None:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= widest else f"{text[: widest - 1]}…"
