"""Validation metrics of predictions and labels that lie on a GPU are those of the same numbers on the CPU."""

import numpy as np
import pytest
import torch
from device_tensor import on_device

from monai_ext.losses import HeadCrossEntropy, MultiTargetLoss
from monai_ext.metrics import (
    apply_platt,
    classification_intervals,
    classification_metrics,
    fit_platt,
    head_metrics,
    multi_label_metrics,
)
from monai_ext.metrics.parts import max_by_case, mean_by_case
from monai_ext.predictions import Classification, Masks, MultiLabel, Patches

RANDOM = torch.Generator().manual_seed(0)
TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "activation": "none"}}
HEADS = ["a/x", "a/y", "b/x", "b/y"]


def case(index, pred, label):
    part = torch.tensor(index)  # a column of an item is a tensor after collation
    return {"case": f"c{index}", "patient": "p", "index": torch.tensor(index), "part": part}, pred, label


def fields(channels):
    return {
        "sheet": torch.rand(1, 2, 3, 4, generator=RANDOM),
        "normals": torch.randn(channels, 2, 3, 4, generator=RANDOM),
    }


LEVELS = {"cases": "whole", "instances": "parts", "instance_columns": ["part"]}
CASES = {
    "classes": (
        lambda: Classification(["x", "y"], torch.nn.CrossEntropyLoss(), **LEVELS),
        [case(n, torch.randn(2, generator=RANDOM), torch.tensor(n % 2)) for n in range(6)],
    ),
    "heads": (
        lambda: Classification(HEADS, HeadCrossEntropy(HEADS), "f1", heads=True),
        [case(n, torch.randn(4, generator=RANDOM), torch.tensor(n % 4)) for n in range(8)],
    ),
    "several labels": (
        lambda: MultiLabel(["x", "y"], torch.nn.BCEWithLogitsLoss(), **LEVELS),
        [case(n, torch.randn(2, generator=RANDOM), torch.tensor([n % 2, n // 3]).float()) for n in range(6)],
    ),
    "masks": (
        lambda: Masks(torch.nn.BCEWithLogitsLoss()),
        [case(n, torch.randn(1, 4, 5, generator=RANDOM), torch.ones(1, 4, 5)) for n in range(3)],
    ),
    "targets": (
        lambda: Patches(TARGETS, MultiTargetLoss(TARGETS)),
        [case(n, fields(3), fields(3)) for n in range(3)],
    ),
}


def computed(metric, cases, move):
    for item, pred, label in cases:
        # a case by itself, as the evaluator hands it over
        metric.update(([move(item)], [{"pred": move(pred), "label": move(label)}]))
    result, instances, loss = metric.compute()
    return {**result.metrics, "exact loss": loss}, getattr(instances, "columns", None)


@pytest.mark.parametrize("name", CASES)
def test_a_metric_takes_predictions_labels_and_columns_of_a_device(name):
    create, cases = CASES[name]
    expected = computed(create(), cases, lambda values: values)
    assert computed(create(), cases, on_device) == expected


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_logits_of_mixed_precision_are_taken(kind):
    metric = Classification(["x", "y"])
    for item, pred, label in CASES["classes"][1]:
        metric.update(([item], [{"pred": on_device(pred.to(kind)), "label": on_device(label)}]))
    assert metric.compute().result.metrics["accuracy"] is not None


SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
BOTH = torch.tensor([0, 1, 1, 0])
FUNCTIONS = {
    "classification_metrics": lambda p, y: classification_metrics(p, y, ["x", "y"]).metrics,
    "head_metrics": lambda p, y: head_metrics(p, y, ["a/x", "a/y"]).metrics,
    "multi_label_metrics": lambda p, y: (
        multi_label_metrics(p, torch.stack([y, 1 - y], 1), ["x", "y"], [0.5, 0.5]).metrics
    ),
    "classification_intervals": lambda p, y: classification_intervals(classification_metrics(p, y, ["x", "y"]), n=20),
    "fit_platt": lambda p, y: fit_platt(p[:, 1], y),
    "apply_platt": lambda p, y: apply_platt(p[:, 1], 2.0, 0.5).tolist(),
    "mean_by_case": lambda p, y: mean_by_case(["u", "u", "v", "v"], p)[1].tolist(),
    "max_by_case": lambda p, y: max_by_case(["u", "u", "v", "v"], p)[1].tolist(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_arrays_of_a_device(name):
    np.testing.assert_equal(FUNCTIONS[name](on_device(SCORES), on_device(BOTH)), FUNCTIONS[name](SCORES, BOTH))
