from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_ext.errors import ConfigError
from monai_ext.reports import slice_figure
from monai_ext.reports.slices import IGNORED

SHEET = {"sheet": {"channels": 1, "activation": "sigmoid"}}
NORMALS = {"normals": {"channels": 3, "activation": "none"}}
CLASSES = {"material": {"channels": 3, "activation": "softmax"}}
SHAPE = (5, 4, 6)
BLACK = [0, 0, 0]


def sample(case: str = "scroll_1", **targets: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """Each target given as (label, prediction)."""
    image = np.linspace(-2, 2, num=int(np.prod(SHAPE)), dtype=np.float32).reshape(1, *SHAPE)
    label, pred = ({name: pair[index] for name, pair in targets.items()} for index in (0, 1))
    return {"image": image, "label": label, "pred": pred, "case": case}


def sheet(z: int = 3, value: float = 1) -> np.ndarray:
    """A sheet in one slice, its first row."""
    label = np.zeros((1, *SHAPE), np.float32)
    label[0, z, 0] = value
    return label


def normals(z: int = 3) -> np.ndarray:
    """In the first row of one slice: along x, y, z, against x, and twice along x."""
    vectors = np.zeros((3, *SHAPE), np.float32)
    vectors[:, z, 0] = [[1, 0, 0, -1, 2, 2], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    return vectors


def pictures(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_columns_are_the_input_then_label_and_prediction_of_each_target() -> None:
    targets = {**SHEET, **NORMALS}
    samples = [sample(name, sheet=(sheet(), sheet()), normals=(normals(), normals())) for name in ("a", "b_$1")]
    figure = slice_figure(samples, targets)
    heads = ["input", "sheet label", "sheet prediction", "normals label", "normals prediction"]
    assert [axes.get_title() for axes in figure.axes] == [*heads, *[""] * 5]
    assert [figure.axes[index].get_xlabel() for index in (0, 5)] == ["a, z = 3", r"b_\$1, z = 3"]
    assert len(pictures(figure)) == 10


def test_the_slice_with_most_labels_is_drawn() -> None:
    label = sheet(1) + sheet(4)
    label[0, 4, 1] = 1
    figure = slice_figure([sample(sheet=(label, label))], SHEET)
    assert figure.axes[0].get_xlabel() == "scroll_1, z = 4"
    assert (pictures(figure)[1][..., 0] == label[0, 4]).all()


def test_ignored_voxels_are_no_labels() -> None:
    label = sheet(1)
    label[0, 4] = 2
    assert slice_figure([sample(sheet=(label, label))], SHEET).axes[0].get_xlabel() == "scroll_1, z = 1"


def test_without_any_label_it_is_the_middle_slice() -> None:
    empty = np.zeros((1, *SHAPE))
    assert slice_figure([sample(sheet=(empty, empty))], SHEET).axes[0].get_xlabel() == "scroll_1, z = 2"
    bare = {**sample(), "label": {}, "pred": {}}
    assert slice_figure([bare], SHEET).axes[0].get_xlabel() == "scroll_1, z = 2"


def test_one_channel_is_grey_from_0_to_1_and_ignored_labels_stand_out() -> None:
    label = sheet()
    label[0, 3, 1, 0] = 2
    label[0, 3, 1, 1] = -1
    _, drawn, predicted = pictures(slice_figure([sample(sheet=(label, 0.4 * sheet()))], SHEET))
    assert drawn[0].tolist() == [[1, 1, 1]] * 6
    assert drawn[1, :2].tolist() == [list(IGNORED)] * 2
    assert drawn[2:].max() == 0
    np.testing.assert_allclose(predicted[0], 0.4)


def test_vectors_are_colours_and_zero_is_black() -> None:
    _, drawn, predicted = pictures(slice_figure([sample(normals=(normals(), normals() - 0.0))], NORMALS))
    expected = [[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1], [0, 0.5, 0.5], [1, 0.5, 0.5], [1, 0.5, 0.5]]
    np.testing.assert_allclose(drawn[0], expected)
    assert drawn[1:].max() == 0
    assert np.array_equal(predicted, drawn)


def test_predicted_vectors_are_drawn_where_the_first_labels_are_predicted() -> None:
    probability = np.full((1, *SHAPE), 0.6)
    probability[0, 3, 0, :3] = 0.4
    pair = (normals(), np.ones((3, *SHAPE)))
    targets = {"edge": {"channels": 1}, **NORMALS, **SHEET}
    edge = (sheet(), sheet())
    figure = slice_figure([sample(sheet=(sheet(), probability), edge=edge, normals=pair)], targets)
    predicted = pictures(figure)[4]
    assert predicted[0, :3].tolist() == [BLACK] * 3
    assert (predicted[0, 3:] > 0.7).all()
    assert (predicted[1:] > 0.7).all()


def test_classes_have_a_colour_each_and_the_first_is_black() -> None:
    classes = np.zeros((1, *SHAPE), np.int64)
    classes[0, 3, 0] = [0, 1, 2, 1, 0, 255]
    scores = np.stack([classes[0] == number for number in range(3)]).astype(np.float32)
    _, drawn, predicted = pictures(slice_figure([sample(material=(classes, scores))], CLASSES))
    assert drawn[0, 0].tolist() == drawn[0, 4].tolist() == drawn[1, 0].tolist() == BLACK
    assert drawn[0, 5].tolist() == list(IGNORED)
    colours = drawn[0, [1, 2, 3]].tolist()
    assert colours[0] == colours[2]
    assert BLACK not in colours
    assert colours[0] != colours[1]
    assert np.array_equal(predicted[:, :5], drawn[:, :5])


def test_more_classes_than_colours_never_look_like_background() -> None:
    targets = {"material": {"channels": 24, "activation": "softmax"}}
    classes = np.arange(24).reshape(1, 1, 4, 6).repeat(5, axis=1)
    drawn = pictures(slice_figure([sample(material=(classes, np.eye(24)[classes[0]].transpose(3, 0, 1, 2)))], targets))
    assert drawn[1].reshape(-1, 3)[1:].sum(axis=1).min() > 0
    assert np.array_equal(drawn[1], drawn[2])


def test_the_input_spans_the_greys_whatever_its_range() -> None:
    for factor, shift in ((1, 0), (1000, 5000)):
        given = sample(sheet=(sheet(), sheet()))
        given["image"] = given["image"] * factor + shift
        drawn = pictures(slice_figure([given], SHEET))[0]
        assert (drawn.min(), drawn.max()) == (0, pytest.approx(1))
    flat = {**sample(sheet=(sheet(), sheet())), "image": np.ones((1, *SHAPE))}
    assert np.isfinite(pictures(slice_figure([flat], SHEET))[0]).all()


def flat(label: np.ndarray, pred: np.ndarray) -> dict[str, Any]:
    """A 2-D sample of a mask and a probability map (Y, X)."""
    image = np.linspace(0, 1, num=label.size).reshape(1, *label.shape)
    return {"image": image, "label": {"sheet": label[None]}, "pred": {"sheet": pred[None]}, "case": "p1/slice_7"}


def test_of_two_dimensional_images_masks_are_outlines_on_image_and_prediction() -> None:
    mask = np.zeros((8, 9))
    mask[2:5, 3:7] = 1
    figure = slice_figure([flat(mask, 0.3 * mask), flat(0 * mask, 0.3 * mask)], SHEET)
    assert [axes.get_xlabel() for axes in figure.axes[::3]] == ["p1/slice_7"] * 2
    image, drawn, predicted = pictures(figure)[:3]
    assert np.array_equal(drawn, image)
    np.testing.assert_allclose(predicted[..., 0], 0.3 * mask)
    # no outline on the input, and none of a mask without a pixel
    assert [len(axes.collections) for axes in figure.axes] == [0, 1, 1, 0, 0, 0]
    around = figure.axes[1].collections[0].get_paths()[0].vertices
    assert around.min(axis=0).tolist() == [2.5, 1.5]
    assert around.max(axis=0).tolist() == [6.5, 4.5]


def test_what_is_not_there_leaves_its_place_empty() -> None:
    given = sample(sheet=(sheet(), sheet()))
    given["pred"] = {}
    figure = slice_figure([given], {**SHEET, **NORMALS})
    assert [bool(axes.images) for axes in figure.axes] == [True, True, False, False, False]


def test_pyplot_is_never_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    slice_figure([sample(sheet=(sheet(), sheet()))], SHEET)


def test_texts_do_not_overlap() -> None:
    targets = {f"a_very_long_name_of_a_target_{index}": {"channels": 1, "activation": "sigmoid"} for index in range(3)}
    samples = [sample(f"scroll {index} with a very long name indeed") for index in range(2)]
    figure = slice_figure(samples, targets)
    figure.draw_without_rendering()
    boxes = [
        text.get_window_extent() for axes in figure.axes for text in (axes.title, axes.xaxis.label) if text.get_text()
    ]
    assert len(boxes) == 7 + 2
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ConfigError, match="no samples"):
        slice_figure([], SHEET)
