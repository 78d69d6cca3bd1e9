"""Configs that name what `monai_ext.predictions` has replaced still work, with a warning that says what to use."""

import importlib

import pytest
import torch
from ignite.engine import Engine

from monai_ext.handlers import StandardEvaluation, StandardTraining
from monai_ext.predictions import Classification, Masks, MultiLabel, Patches
from monai_ext.runs import RunFolder

NAMES = ["x", "y"]
TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}}
LEVELS = {"cases": "volumes", "parts": "slices"}
COLUMNS = {"parts": "slices", "part_columns": ["z"]}


def old(package, name):
    with pytest.warns(DeprecationWarning, match=rf"{package}\.{name} is now (monai_ext|sklearn)"):
        return getattr(importlib.import_module(f"monai_ext.{package}"), name)


@pytest.mark.parametrize(
    ("metric", "outputs", "kind", "pred", "label"),
    [
        (("ClassificationCases", (NAMES,), COLUMNS), ("ClassificationOutputs", (NAMES,), LEVELS), Classification, 2, 1),
        (("HeadCases", (["a/x", "a/y"],), {}), ("HeadOutputs", (["a/x", "a/y"],), {}), Classification, 2, 1),
        (
            ("MultiLabelCases", (NAMES,), {**COLUMNS, "merge": "max"}),
            ("MultiLabelOutputs", (NAMES,), LEVELS),
            MultiLabel,
            2,
            [0, 1],
        ),
        (("SegmentationCases", (), {}), ("SegmentationOutputs", ("cord",), {}), Masks, (1, 3, 4), (1, 3, 4)),
        (
            ("MultiTargetPatches", (TARGETS,), {"key": "sheet_dice"}),
            ("TargetOutputs", (TARGETS,), {}),
            Patches,
            "sheet",
            "sheet",
        ),
    ],
    ids=["classification", "heads", "multi-label", "masks", "patches"],
)
def test_a_metric_and_the_outputs_beside_it_are_two_of_the_new_objects(metric, outputs, kind, pred, label, tmp_path):
    def tensor(of):
        if of == "sheet":
            return {"sheet": torch.ones(1, 2, 3, 4)}
        return torch.ones(of) if isinstance(of, tuple) else torch.tensor(of)

    def step(engine, batch):
        engine.state.batch = [{"case": "a", "patient": "p", "index": 0, "z": 0, "label": tensor(label)}]
        return [{"pred": torch.ones(2) if pred == 2 else tensor(pred)}]

    (name, arguments, named), (name_of_outputs, arguments_of_outputs, named_of_outputs) = metric, outputs
    engine = Engine(step)
    cases = old("metrics", name)(*arguments, **named)
    kept = old("handlers", name_of_outputs)(*arguments_of_outputs, **named_of_outputs)
    assert isinstance(cases, kind)
    assert isinstance(kept, kind)
    cases.attach(engine, "key")
    engine.run([0])
    kept.take(engine)
    kept.write(tmp_path)
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["PredictionWriter", "MultiLabelWriter"])
def test_a_writer_writes_what_it_always_did(name, tmp_path):
    def step(engine, batch):
        engine.state.batch = [{"case": "a", "index": 0, "z": 0}]
        return [{"pred": torch.tensor([0.25, 0.75])}]

    engine = Engine(step)
    old("handlers", name)(tmp_path, NAMES, cases="volumes", parts="slices", part_columns=["z"]).attach(engine)
    engine.run([0])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("predictions.json", "predictions_slices.csv", "predictions_volumes.csv")
    }
    assert (tmp_path / "predictions_slices.csv").read_text().splitlines()[1].startswith("a,0,0.25,0.75")


def test_the_reliability_curve_is_scikit_learn_s():
    predicted, observed = old("metrics", "reliability_curve")([0.1, 0.1, 0.9, 0.9], [0, 1, 1, 1], bins=2)
    assert (predicted.tolist(), observed.tolist()) == ([0.1, 0.9], [0.5, 1.0])


def test_handlers_take_predictions_under_their_old_name(tmp_path):
    predictions = Classification(NAMES)
    for handler, arguments in ((StandardEvaluation, ()), (StandardTraining, (torch.nn.Identity(), None, None))):
        with pytest.warns(DeprecationWarning, match=rf"{handler.__name__}\(outputs=...\) is now .*\(predictions=...\)"):
            assert handler(RunFolder(tmp_path), *arguments, outputs=predictions).predictions is predictions
