"""What a network on a GPU gives reaches files, pictures and checkpoints as if it had come from the CPU."""

import numpy as np
import pytest
import torch
from device_tensor import on_device
from ignite.engine import Engine

from monai_ext.handlers import SlicePreviews, WritePredictions
from monai_ext.handlers.data_summary import count_labels
from monai_ext.metrics import classification_metrics, head_metrics, multi_label_metrics
from monai_ext.predictions import Classification, MultiLabel
from monai_ext.reports.slices import slice_figure

NAMES = ["x", "y"]
PREDICTIONS = torch.tensor([[0.75, 0.25], [0.125, 0.875]])


def written(create, folder, move, labels):
    """Bytes of all files of new cases whose evaluator gives its outputs, and items, by ``move``."""

    def step(engine, batch):
        engine.state.batch = batch
        return [{"pred": move(prediction)} for prediction in PREDICTIONS]

    engine = Engine(step)
    WritePredictions(create(), folder).attach(engine)
    items = [
        {"case": f"c{n}", "index": torch.tensor(n), "z": torch.tensor(2 * n), "label": label}
        for n, label in enumerate(labels)
    ]
    engine.run([move(items)])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


LEVELS = {"cases": "volumes", "instances": "slices", "instance_columns": ["z"], "logits": False}
KINDS = {
    "classification": (lambda: Classification(NAMES, **LEVELS), torch.tensor([0, 1])),
    "multi-label": (lambda: MultiLabel(NAMES, **LEVELS), torch.tensor([[0.0, 1.0], [1.0, 0.0]])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_written_of_probabilities_labels_and_columns_of_a_device(kind, tmp_path):
    create, labels = KINDS[kind]
    for name in ("cpu", "device"):
        (tmp_path / name).mkdir()
    expected = written(create, tmp_path / "cpu", lambda values: values, labels)
    assert written(create, tmp_path / "device", on_device, labels) == expected
    assert len(expected) == 3


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("task", KINDS)
def test_files_are_written_of_mixed_precision(task, kind, tmp_path):
    create, labels = KINDS[task]
    assert written(
        create, tmp_path, lambda values: on_device(values.to(kind) if torch.is_tensor(values) else values), labels
    )


RESULTS = {
    "classes": (
        lambda: Classification(NAMES),
        classification_metrics(PREDICTIONS, [0, 1], NAMES, cases=["u", "v"]),
    ),
    "heads": (
        lambda: Classification(["a/x", "a/y"], heads=True),
        head_metrics(PREDICTIONS, [0, 1], ["a/x", "a/y"], ["u", "v"]),
    ),
    "multi-label": (
        lambda: MultiLabel(NAMES),
        multi_label_metrics(PREDICTIONS, [[0, 1], [1, 0]], NAMES, [0.5, 0.5]),
    ),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_predictions_are_restored_from_a_checkpoint_that_was_loaded_onto_a_device(kind):
    create, result = RESULTS[kind]
    saved, restored = create(), create()
    saved.best = result
    restored.restore(on_device(saved.best_state()))
    np.testing.assert_equal(restored.metrics()["metrics"], saved.metrics()["metrics"])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_previews_draw_what_lies_on_a_device(kind):
    targets = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3}}
    tensors = {"sheet": torch.ones(1, 4, 8, 8, dtype=kind), "normals": torch.ones(3, 4, 8, 8, dtype=kind)}

    def step(engine, batch):
        engine.state.batch = batch
        return on_device([{"image": torch.ones(1, 4, 8, 8, dtype=kind), "label": tensors, "pred": tensors}])

    engine, previews = Engine(step), SlicePreviews(targets)
    previews.attach(engine)
    engine.run([[{"case": "a"}]])
    assert all(isinstance(array, np.ndarray) for array in previews.samples[0]["pred"].values())
    assert previews.figure().axes


@pytest.mark.parametrize("shape", [(4, 8, 8), (8, 8)], ids=["volume", "slice"])
def test_a_figure_takes_samples_of_a_device(shape):
    targets = {"mask": {"channels": 1, "activation": "sigmoid"}}
    image = torch.rand(1, *shape)
    sample = {"image": image, "label": {"mask": (image > 0.5).float()}, "pred": {"mask": image}, "case": "a"}
    assert slice_figure([on_device(sample)], targets).axes


def test_labels_of_a_device_are_counted():
    items = [{"label": torch.tensor([0.0, 1.0])}, {"label": torch.tensor([1.0, 1.0])}]
    assert count_labels({"train": on_device(items)}, NAMES) == {"train": {"x": 1, "y": 2}}
