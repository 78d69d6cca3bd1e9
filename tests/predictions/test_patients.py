"""Intervals are over patients, from the batch to the metrics of a run."""

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from monai_ext.predictions import Classification, MultiLabel

NAMES = ["a", "b"]
LEVELS = [{}, {"cases": "volumes", "instances": "slices", "instance_columns": ["z"]}]


@pytest.mark.parametrize("levels", LEVELS, ids=["cases", "instances"])
@pytest.mark.parametrize("kind", [Classification, MultiLabel])
def test_cases_of_one_patient_are_one_unit(kind, levels):
    """Eight cases of three patients; with instances two of each case."""
    items = [
        {
            "image": torch.randn(2),
            "label": case % 2 if kind is Classification else torch.tensor([case % 2, 1 - case % 2]),
            "case": f"case {case}",
            "patient": f"patient {case % 3}",
            "z": z,
        }
        for case in range(8)
        for z in range(2 if levels else 1)
    ]
    predictions = kind(NAMES, key="f1", **levels)
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{**item, "index": i} for i, item in enumerate(items)]), batch_size=3),
        network=torch.nn.Identity(),
        key_val_metric={"f1": predictions},
    )
    engine.run()
    predictions.take(engine)
    methods = predictions.metrics(intervals=True)["interval_methods"]
    assert methods.keys() >= {"accuracy", "auc"} if kind is Classification else {"f1", "auroc"}
    assert {(method["unit"], method["n"]) for method in methods.values()} == {("patients", 3)}
