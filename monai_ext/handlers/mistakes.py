"""Pictures of wrong cases with heat maps, drawn at the end of a run while network and data are at hand."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from monai_ext.arrays import to_numpy
from monai_ext.data.prepared_inputs import over
from monai_ext.data.seeded import SeededDataset
from monai_ext.metrics.classification import ClassificationResult
from monai_ext.metrics.multi_label import MultiLabelResult
from monai_ext.predictions.kind import Predictions

FILE = "plots/mistakes.png"
DOZEN = 12
# Seconds for all heat maps: a 3-D network on a CPU takes some for each.
_PATIENCE = 60.0
# A map of fewer cells along an axis says nothing about where.
_CELLS = 4


class Mistake(NamedTuple):
    """A wrong answer.

    Args:
        case: name of the case.
        answer: number of the class that a heat map is for: the predicted one, or a missed label.
        truth: what it is.
        text: what was predicted, with the probability.
    """

    case: str
    answer: int
    truth: str
    text: str


def draw_mistakes(path: Path, network: torch.nn.Module, predictions: Predictions, loader: Any) -> bool:
    """Draw up to a dozen wrong cases of the best epoch, the most certain ones first; fewer when they take long.

    Args:
        path: PNG file.
        network: of the best epoch; a copy of it is run.
        predictions: of a classification; other kinds have previews.
        loader: of the cases, a `monai_ext.data.SeededLoader`.

    Returns:
        Whether there was anything to draw.
    """
    dataset = getattr(loader, "dataset", None)
    if predictions.best is None or not isinstance(dataset, SeededDataset):
        return False
    wrong = list(wrong_answers(predictions.best))[:DOZEN]
    if not wrong:
        return False
    from monai_ext.reports.mistakes_figure import DrawnMistake, mistakes_figure
    from monai_ext.reports.plots import save

    device = next(network.parameters()).device
    network = _for_heat_maps(network)
    data = over(dataset.dataset, dataset.data)
    end = time.monotonic() + _PATIENCE
    drawn = []
    for mistake in wrong:
        index = _item_of(mistake, dataset.data, predictions.best_instances)
        if index is None:
            continue
        image = data[index]["image"]
        heat = heat_map(network, image[None].to(device, torch.float32), mistake.answer)
        head = f"{mistake.case}: {mistake.truth}"
        drawn.append(DrawnMistake(head, mistake.text, to_numpy(image, np.float32), heat))
        if time.monotonic() > end:
            break
    if drawn:
        save(mistakes_figure(drawn), path)
    return bool(drawn)


def wrong_answers(result: Any) -> Iterator[Mistake]:
    """Wrong answers of a classification or a multi-label classification, the most certain ones first, one per case.

    Args:
        result: of the cases; of another kind there are none.
    """
    if isinstance(result, ClassificationResult):
        wrong = np.flatnonzero(result.predictions != result.labels)
        for row in wrong[np.argsort(-result.probabilities[wrong].max(axis=1), kind="stable")]:
            said, true = int(result.predictions[row]), int(result.labels[row])
            p, names = result.probabilities[row], result.class_names
            truth, text = f"is {names[true]} ({p[true]:.2f})", f"predicted {names[said]} ({p[said]:.2f})"
            yield Mistake(_case(result, row), said, truth, text)
    elif isinstance(result, MultiLabelResult):
        cut = np.asarray(0.5 if result.thresholds is None else result.thresholds)
        away = np.where(result.predictions != result.labels, np.abs(result.probabilities - cut), 0)
        for row in np.argsort(-away.max(axis=1), kind="stable"):
            label = int(away[row].argmax())
            if away[row, label] > 0:
                kind = "missed" if result.labels[row, label] else "false alarm"
                text = f"{result.class_names[label]} ({result.probabilities[row, label]:.2f})"
                yield Mistake(_case(result, row), label, kind, text)


def heat_map(network: torch.nn.Module, image: torch.Tensor, answer: int) -> np.ndarray:
    """Grad-CAM (Selvaraju et al., arXiv:1610.02391) of a class, at the last convolution with at least 4 cells an axis.

    Args:
        network: in evaluation, without operations in place.
        image: (1, C, spatial axes), or (1, slices, C, Y, X).
        answer: number of the class.

    Returns:
        (1, spatial axes) or (slices, 1, Y, X), 0 to 1.
    """
    from monai.visualize import GradCAM

    cam = GradCAM(network, _last_convolution(network, image))
    with torch.enable_grad():
        found = cam.compute_map(image.detach().requires_grad_(True), class_idx=answer).detach()
    slices = found.ndim < image.ndim  # a network of slices takes each as an image of its own
    shape = tuple(image.shape[-2:] if slices else image.shape[2:])
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    heat = interpolate(found.clamp(min=0), size=shape, mode=mode, align_corners=False)
    heat = heat / heat.max().clamp(min=1e-12)
    return to_numpy(heat if slices else heat[0], np.float32)


def _for_heat_maps(network: torch.nn.Module) -> torch.nn.Module:
    """A copy that takes MONAI's hooks: they don't come off again, and operations in place break them."""
    network = copy.deepcopy(network).eval().float()
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return network


@torch.no_grad()
def _last_convolution(network: torch.nn.Module, image: torch.Tensor) -> str:
    """Name of the last convolution that is run, of those with enough cells where there are any."""
    run: list[tuple[str, int]] = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: run.append((name, min(output.shape[2:])))
        )
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)
    ]
    network(image)
    for hook in hooks:
        hook.remove()
    fine = [name for name, cells in run if cells >= _CELLS]
    return (fine or [name for name, _ in run])[-1]


def _item_of(mistake: Mistake, items: Any, instances: Any) -> int | None:
    """The case's item; of several instances the one that speaks most for the wrong answer."""
    numbers = [number for number, item in enumerate(items) if str(item.get("case")) == mistake.case]
    if instances is None or len(numbers) < 2:
        return numbers[0] if numbers else None
    rows = [row for row, case in enumerate(instances.cases) if str(case) == mistake.case]
    row = max(rows, key=lambda row: instances.probabilities[row, mistake.answer], default=None)
    if row is None:
        return numbers[0]
    wanted = {name: values[row] for name, values in instances.columns.items()}
    return next((number for number in numbers if _fits(items[number], wanted)), numbers[0])


def _fits(item: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(str(item[name]) == str(value) for name, value in wanted.items() if name in item)


def _case(result: Any, row: int) -> str:
    return str(result.cases[row]) if result.cases else str(row)
