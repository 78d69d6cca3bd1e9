"""The static HTML report of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ext.io import write_text
from monai_ext.pages.document import Block, Folded, Section, Text, pairs, picture, render
from monai_ext.pages.tables import as_dict, as_lines, as_list, count_table, key_metric, with_interval
from monai_ext.predictions.kind import Predictions
from monai_ext.reports import contact_sheet, mistakes_figure, plots
from monai_ext.reports.checklist import checklist_section
from monai_ext.reports.run_folder import RunContents, read_object, read_run
from monai_ext.reports.subgroup_tables import FILE, subgroup_section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pictures in "plots" that the run drew while it had images, for sections of their own.
INPUTS, MISTAKES = "inputs", "mistakes"
OWN_SECTION = (INPUTS, MISTAKES)
_STATUS = {
    "finished": "The run finished.",
    "running": "The run had not finished when this report was written, or was killed without a record.",
    "failed": "The run failed: this report has what was written before.",
    "killed": "The run was killed: this report has what was written before.",
}


def write_report(
    run_dir: str | Path,
    output: str | Path | None = None,
    current_plots: Sequence[Path] = (),
    end: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of one run: one HTML file without external parts.

    A sentence replaces every part that the run didn't write (because it was killed, or had no validation).

    Args:
        run_dir: run folder.
        output: HTML file; default ``report.html`` in the run folder.
        current_plots: files of `monai_ext.reports.save_all` that show what the run folder holds; by default they are
            drawn anew, which takes seconds: those that a killed run left may show an earlier epoch.
        end: ``status`` and ``ended`` of a run that will have them in its ``run.json`` after this report.

    Returns:
        Path of the report.

    Raises:
        DataError: when ``run_dir`` is not a run folder.
        WriteError: when the file can't be written.
    """
    run = read_run(run_dir)
    run.info.update(end or {})
    bundle = run.info.get("bundle") or run.metrics.get("bundle")
    title = " ".join(str(part) for part in (bundle, run.info.get("run_name") or run.path.name) if part)
    status = str(run.info.get("status", ""))
    cases = run.cases or "cases"
    sections = [
        Section("Summary", _summary(run, status)),
        Section(f"Metrics of {cases}" if run.instances else "Metrics", run.kind.metric_blocks(run.metrics, cases)),
        *_instance_sections(run),
        *([_previews(run)] if run.kind.previews else []),
        *run.kind.sections(run.result, cases),
        *picture_sections(run.path, MISTAKES, "Mistakes in pictures", mistakes_figure.ALTERNATIVE),
        Section("Curves", _pictures(run, current_plots)),
        subgroup_section(read_object(run.path / FILE, run.problems) if (run.path / FILE).is_file() else {}),
        checklist_section(run.info, run.metrics, run.result, cases),
        *picture_sections(run.path, INPUTS, "Inputs", contact_sheet.ALTERNATIVE),
        Section("Hyper-parameters", _parameters(run)),
        Section("Data", _data(run)),
        Section("Environment", _environment(run.info)),
        Section("Skipped, and why", [Text(_skipped(run) or ["Nothing was skipped."])]),
    ]
    page = render(title, f"{run.path.name}, {_times(run.info)}", status if status in _STATUS else "", sections)
    return write_text(output or run.path / "report.html", page)


NO_CURVES = Text(["There is nothing to draw: no epoch had ended and there are no predictions."])


def _summary(run: RunContents, status: str) -> list[Block]:
    lines = [_STATUS.get(status, "How the run ended is not recorded.")]
    done = len(run.history)
    evaluation = status == "finished" and not done
    planned = as_dict(run.info.get("parameters")).get("max_epochs")
    if not evaluation:
        lines.append(f"{done} of {planned} epochs were run." if planned else f"{done} epochs were run.")
    fold = run.metrics.get("fold", as_dict(run.info.get("parameters")).get("fold"))
    if fold is not None:
        lines.append(f"Fold {fold}.")
    key = key_metric(run.metrics)
    if run.metrics.get("best_epoch") and not evaluation:
        lines.append(f"Best epoch: {run.metrics['best_epoch']}.")
    sentence = as_dict(run.metrics.get("selection")).get("sentence")
    if sentence:
        lines.append(str(sentence))
    lines += [f"Warning: {sentence}." for sentence in as_lines(run.info.get("warnings"))]
    if run.metrics.get("training_cases"):
        lines.append(f"{run.metrics['training_cases']} of the cases were trained on: this says little about new cases.")
    kind = "Evaluation" if evaluation else "Validation"
    lines.append(f"{kind} {with_interval(run.metrics, key)}." if key else "No metric could be computed.")
    return [Text(lines)]


def _instance_sections(run: RunContents) -> list[Section]:
    if not run.instances:
        return []
    name, cases = run.instances["name"], run.cases or "cases"
    metrics = {**run.instances, "class_names": run.metrics.get("class_names")}
    note = f"The {cases} above have the {run.kind.joined} probabilities of their {name}; these metrics are of single "
    note += f"{name}."
    return [Section(f"Metrics of {name}", [Text([note]), *run.kind.metric_blocks(metrics, name)])]


def _previews(run: RunContents) -> Section:
    """Previews of the best epoch, else of the last one."""
    previews = sorted((run.path / "previews").glob("epoch_*.png"))
    best = run.path / "previews" / f"epoch_{run.metrics.get('best_epoch') or 0:04d}.png"
    shown: list[Block] = [picture(path) for path in ([best] if best in previews else previews[-1:])]
    return Section("Previews", shown or [Text(["There are none."])])


def picture_sections(run: Path, name: str, title: str, alternative: str) -> list[Section]:
    """A section with a picture that the run drew while it had images; none where it didn't.

    Args:
        run: run folder.
        name: of the file in ``plots``, without suffix.
        title: of the section.
        alternative: text for readers who don't see the picture.
    """
    path = run / "plots" / f"{name}.png"
    return [Section(title, [picture(path, alternative)])] if path.is_file() else []


def _pictures(run: RunContents, current: Sequence[Path]) -> list[Block]:
    """Files of the figures, which are else drawn from the metrics, then all other images in ``plots/``."""
    best = run.metrics.get("best_epoch")
    drawn: Mapping[str, Figure | Path] = {path.stem: path for path in current} or plots.run_figures(
        run.history,
        {} if run.result is None else run.kind.figures(run.result, run.cases),
        best if isinstance(best, int) else None,
        (_counts(run, "cases") or _counts(run, "counts")) if run.kind.by_class else None,
        run.cases,
        run.instances.get("name"),
    )
    blocks = drawn_blocks(drawn, run.kind)
    others = sorted((run.path / "plots").glob("[!.]*.png"))
    blocks += [picture(path) for path in others if path.stem not in (*drawn, *OWN_SECTION) and path.is_file()]
    return blocks or [NO_CURVES]


def drawn_blocks(figures: Mapping[str, Figure | Path], kind: type[Predictions]) -> list[Block]:
    """Figures or their files as images, with their alternative texts."""
    alternatives = {**plots.ALTERNATIVES, **kind.alternatives}
    return [picture(figure, alternatives[name]) for name, figure in figures.items()]


def _parameters(run: RunContents) -> list[Block]:
    found = as_dict(run.info.get("parameters"))
    blocks: list[Block] = [pairs(found, ("setting", "value")) if found else Text(["They were not recorded."])]
    changes = [as_dict(one) for one in as_list(run.info.get("changes"))]
    if changes:
        lines = [f"{one.get('setting')}: {one.get('old')} → {one.get('new')}" for one in changes]
        since = [f"from epoch {one.get('from_epoch')}, when the run was resumed" for one in changes]
        blocks.append(pairs(dict(zip(lines, since, strict=True)), ("changed", "holds")))
    if run.config:
        blocks.append(Folded("Resolved configuration", json.dumps(run.config, indent=2, ensure_ascii=False)))
    return blocks


def _data(run: RunContents) -> list[Block]:
    data = as_dict(run.info.get("data"))
    lines = [f"Dataset hash: {data.get('fingerprint', 'not recorded')}."]
    lines += [f"Read by {reading}: {count} cases." for reading, count in as_dict(data.get("readings")).items()]
    blocks: list[Block] = [Text(lines)]
    blocks += _count_tables(run)
    return blocks if run.result is None else [*blocks, *run.kind.case_blocks(run.result, run.cases or "cases")]


def _count_tables(run: RunContents) -> list[Block]:
    """Cases by class; instances too, where the run counted both."""
    of_cases, of_items = _counts(run, "cases"), _counts(run, "counts")
    if not of_cases:
        caption = "Cases by class" if run.kind.by_class else f"Number of {run.cases or 'cases'}"
        return [count_table(of_items, caption, run.kind.exclusive)] if of_items else []
    named = [(of_cases, run.cases or "cases"), (of_items, run.instances.get("name", "items"))]
    return [count_table(counts, f"{name.capitalize()} by class", run.kind.exclusive) for counts, name in named]


def _environment(info: Mapping[str, Any]) -> list[Block]:
    shown = {name: info[name] for name in ("device", "commit", "mlflow_run_id", "memory") if info.get(name) is not None}
    device = as_dict(info.get("parameters")).get("device")
    if device is not None:
        shown.setdefault("device", device)
    blocks: list[Block] = [pairs(shown, ("property", "value"))] if shown else []
    if as_dict(info.get("versions")):
        blocks.append(pairs(info["versions"], ("package", "version")))
    return blocks or [Text(["It was not recorded."])]


def _skipped(run: RunContents) -> list[str]:
    computed = getattr(run.result, "skipped", [])
    of_instances = [f"{run.instances['name']}: {line}" for line in as_lines(run.instances.get("skipped"))]
    recorded = as_lines(run.metrics.get("skipped"))
    lines = [*recorded, *computed, *of_instances, *as_lines(run.info.get("events")), *run.problems]
    return list(dict.fromkeys(lines))


def _counts(run: RunContents, key: str) -> dict[str, dict[str, int]]:
    counts = as_dict(as_dict(run.info.get("data")).get(key))
    whole = {
        str(part): {str(name): count for name, count in as_dict(found).items() if isinstance(count, int)}
        for part, found in counts.items()
    }
    return {part: found for part, found in whole.items() if found}


def _times(info: Mapping[str, Any]) -> str:
    started, ended = info.get("started"), info.get("ended")
    if not started:
        return "start not recorded"
    try:
        length = datetime.fromisoformat(str(ended)) - datetime.fromisoformat(str(started))
    except (ValueError, TypeError):
        return f"started {started}" + (f", ended {ended}" if ended else "")
    return f"started {started}, took {str(length).split('.')[0]}"
