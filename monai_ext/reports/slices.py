"""Slices of 2-D and 3-D images with labels and predictions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ext.arrays import to_numpy
from monai_ext.errors import ConfigError
from monai_ext.pages.style import COLOURS, shorten, text_width
from monai_ext.targets import target_kind, vector_targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Targets = Mapping[str, Mapping[str, Any]]
# colour of voxels whose label isn't one of the target's, which the loss ignores
IGNORED = (0.34, 0.71, 0.91)
OUTLINE = COLOURS[4]


def slice_figure(samples: Sequence[Mapping[str, Any]], targets: Targets) -> Figure:
    """One row per sample: the image, then label and prediction of each target; of volumes the Z slice with most labels.

    One channel is drawn in greyscale from 0 to 1; a vector n of length 1 as the colour (n + 1) / 2, black where the
    label is the zero vector or, in a prediction, where the first "sigmoid" target is below 0.5; "softmax" with one
    colour per class, class 0 black. Of other targets with several channels the first is drawn. Light blue marks labels
    out of range, such as the ignored one. 2-D labels of one "sigmoid" channel are drawn as outlines on the image and on
    the prediction, where even a few pixels are visible.

    Args:
        samples: ``{"image": (1, Z, Y, X), "label": {target: (C, Z, Y, X)}, "pred": {target: (C, Z, Y, X)}, "case":
            str}``, arrays or tensors, of 2-D images without Z; predictions after their activation, labels of "softmax"
            as one channel of class numbers. The place of a missing label or prediction stays empty.
        targets: definition of each target by name, see `monai_ext.losses.MultiTargetLoss`.

    Returns:
        A figure without global state of pyplot.

    Raises:
        ConfigError: without any sample.
    """
    from matplotlib.figure import Figure

    if not samples:
        raise ConfigError("slice_figure: there are no samples to draw; give one at least")
    flat = [np.ndim(sample["image"]) == 3 for sample in samples]
    samples = [_volume(sample, is_flat) for sample, is_flat in zip(samples, flat, strict=True)]
    slices = [_labelled_slice(sample, targets) for sample in samples]
    heads = ["input", *(f"{shorten(name, 18)} {part}" for name in targets for part in ("label", "prediction"))]
    names = [
        shorten(sample["case"]) if is_flat else f"{shorten(sample['case'])}, z = {z}"
        for sample, z, is_flat in zip(samples, slices, flat, strict=True)
    ]
    height, width = np.max([np.shape(sample["image"])[2:] for sample in samples], axis=0)
    # as wide as the longest head or name needs, as high as the slices then are with the name below
    cell = max(2.0, text_width([*heads, *names]) + 0.2)
    size = (cell * len(heads), (cell * height / width + 0.3) * len(samples) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(samples), len(heads), squeeze=False)
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize="medium", fontweight="bold")
    for row, sample, z, name, is_flat in zip(grid, samples, slices, names, flat, strict=True):
        row[0].set_xlabel(name, fontsize="small")
        for axes, picture in zip(row, _pictures(sample, targets, z), strict=True):
            axes.set(xticks=[], yticks=[], anchor="N")
            axes.spines[:].set_visible(False)
            if picture is not None:
                axes.imshow(picture, interpolation="nearest")
        if is_flat:
            _outline_masks(row, sample, targets)
    return figure


def _volume(sample: Mapping[str, Any], is_flat: bool) -> dict[str, Any]:
    """A sample in numpy, a 2-D one as a volume of one slice."""

    def array(values: Any) -> np.ndarray:
        return to_numpy(values)[:, None] if is_flat else to_numpy(values)

    parts = {part: {name: array(values) for name, values in sample[part].items()} for part in ("label", "pred")}
    return {**sample, **parts, "image": array(sample["image"])}


def _outline_masks(row: Sequence[Axes], sample: Mapping[str, Any], targets: Targets) -> None:
    """The edge of each mask around the image, in place of the mask, and around the prediction."""
    for number, (name, definition) in enumerate(targets.items()):
        label = sample["label"].get(name)
        if label is None or target_kind(definition) != "labels" or len(label) > 1:
            continue
        drawn, predicted = row[1 + 2 * number : 3 + 2 * number]
        drawn.images[0].set_data(row[0].images[0].get_array())
        mask = (label[0, 0] > 0.5) & ~_ignored(label, definition)[0, 0]
        for axes in (drawn, predicted):
            if mask.any() and not mask.all():
                axes.contour(mask, levels=[0.5], colors=[OUTLINE], linewidths=1)


def _labelled_slice(sample: Mapping[str, Any], targets: Targets) -> int:
    """The slice with most labelled voxels, of all targets together; the middle one without any."""
    length = np.shape(sample["image"])[1]
    counts = np.zeros(length, np.int64)
    for name, definition in targets.items():
        if name in sample["label"]:
            label = sample["label"][name]
            labelled = (label != 0) & ~_ignored(label, definition)
            counts += labelled.any(axis=0).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else length // 2


def _pictures(sample: Mapping[str, Any], targets: Targets, z: int) -> list[np.ndarray | None]:
    """Colours (Y, X, 3) from 0 to 1 of each column, None where there is nothing to draw."""
    image = sample["image"][0, z].astype(np.float32)
    low, high = np.percentile(image, (0.5, 99.5))
    pictures: list[np.ndarray | None] = [_grey((image - low) / max(high - low, 1e-6))]
    labels, predictions = ({name: values[:, z] for name, values in sample[part].items()} for part in ("label", "pred"))
    found = [name for name, of in targets.items() if of.get("activation") == "sigmoid" and name in predictions]
    foreground = predictions[found[0]][0] >= 0.5 if found else np.True_
    vectors = vector_targets(targets)
    for name, definition in targets.items():
        label, prediction = labels.get(name), predictions.get(name)
        if name in vectors:
            pictures += [_directions(label, np.True_), _directions(prediction, foreground)]
        elif definition.get("activation") == "softmax":
            pictures += [
                _classes(label, definition),
                _classes(None if prediction is None else prediction.argmax(axis=0)[None], definition),
            ]
        else:
            pictures += [_values(label, definition), _values(prediction, definition)]
    return pictures


def _directions(vectors: np.ndarray | None, foreground: np.ndarray | np.bool_) -> np.ndarray | None:
    if vectors is None:
        return None
    length = np.linalg.norm(vectors.astype(np.float32), axis=0)
    colours = (vectors / np.maximum(length, 1e-6) + 1) / 2
    return np.moveaxis(np.where((length > 0) & foreground, colours, 0), 0, -1)


def _classes(classes: np.ndarray | None, definition: Mapping[str, Any]) -> np.ndarray | None:
    from matplotlib.colors import to_rgb

    if classes is None:
        return None
    # the last colour is black, which is background's
    palette = np.array([(0, 0, 0), *(to_rgb(colour) for colour in COLOURS[:-1])])
    ignored = _ignored(classes, definition)
    numbers = np.where(ignored, 0, classes)[0].astype(np.int64)
    # more classes than colours: the colours are repeated, without that of the background
    numbers = np.where(numbers > 0, (numbers - 1) % (len(palette) - 1) + 1, 0)
    return np.where(ignored[0, ..., None], IGNORED, palette[numbers])


def _values(values: np.ndarray | None, definition: Mapping[str, Any]) -> np.ndarray | None:
    if values is None:
        return None
    return np.where(_ignored(values, definition)[0, ..., None], IGNORED, _grey(values[0]))


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(values, 0, 1)[..., None], 3, axis=-1)


def _ignored(values: np.ndarray, definition: Mapping[str, Any]) -> np.ndarray:
    """Voxels whose label isn't one of the target's values."""
    highest = {"sigmoid": 1, "softmax": definition["channels"] - 1}.get(definition.get("activation", "none"))
    return np.zeros(values.shape, bool) if highest is None else (values < 0) | (values > highest)
