"""A look at the inputs before a run: a contact sheet, and warnings where the network would see nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_ext.data.input_findings import input_findings
from monai_ext.data.seeded import SeededDataset
from monai_ext.data.shown_inputs import shown_inputs

logger = logging.getLogger("monai_ext")

FILE = "plots/inputs.png"


def draw_inputs(
    path: Path, train: Any, plain: Any, class_names: Sequence[str] = (), settings: Iterable[str] = ()
) -> list[str]:
    """Draw a dozen inputs and warn of what is wrong with them.

    Loaders that aren't `monai_ext.data.SeededLoader` are left alone: their data sets needn't have the items.

    Args:
        path: PNG file.
        train: loader of the training; ``None`` for the cases of the evaluation, without augmentation.
        plain: loader of the validation or evaluation.
        class_names: names of the labels.
        settings: names of the bundle's settings, for advice.

    Returns:
        A sentence for each finding, also logged as a warning.
    """
    from monai_ext.reports.contact_sheet import contact_sheet
    from monai_ext.reports.plots import save

    datasets: list[Any] = [getattr(loader, "dataset", None) for loader in (train, plain) if loader is not None]
    if not all(isinstance(dataset, SeededDataset) and dataset.data for dataset in datasets):
        return []
    plain_data, train_data = datasets[-1].dataset, datasets[0].dataset if train is not None else None
    section = "train" if train is not None else "val"
    shown = shown_inputs(plain_data, train_data, datasets[0].data, class_names, section)
    save(contact_sheet(shown), path)
    problems = input_findings([one.summary for one in shown], settings)
    sentences = [f"inputs: {problem.message} → {problem.step}" for problem in problems if problem.severity != "note"]
    for sentence in sentences:
        logger.warning("of %d %s", len(shown), sentence)
    return sentences
