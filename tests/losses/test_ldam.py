from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
import torch

from monai_ext.losses import LDAMLoss, drw_weights

CASES = json.loads((Path(__file__).parents[1] / "golden" / "ldam.json").read_text())


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request) -> dict:
    tensors = {
        name: torch.tensor(value, dtype=torch.int64 if name == "target" else torch.float64)
        for name, value in request.param.items()
        if isinstance(value, list) and name != "counts"
    }
    return {**request.param, **tensors}


def loss_of(case: dict, **kwargs) -> LDAMLoss:
    return LDAMLoss(case["counts"], max_m=case["max_m"], s=case["s"], **kwargs)


def assert_close(actual: torch.Tensor, expected: torch.Tensor | float) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach().double(), expected, rtol=1e-6, atol=1e-9)


def test_margins_equal_reference(case) -> None:
    assert_close(loss_of(case).margins, case["margins"])


@pytest.mark.parametrize("reduction", ["weighted_mean", "batch_mean"])
def test_unweighted_loss_and_gradient_equal_reference(case, reduction) -> None:
    logits = case["logits"].clone().requires_grad_()
    loss = loss_of(case, reduction=reduction)(logits, case["target"])
    loss.backward()
    assert loss.dtype == torch.float64
    assert_close(loss, case["loss"])
    assert_close(logits.grad, case["gradient"])


@pytest.mark.parametrize("reduction", ["weighted_mean", "batch_mean"])
@pytest.mark.parametrize("scheme", ["sqrt", "effective_number"])
def test_weighted_loss_equals_reference(case, scheme, reduction) -> None:
    weights = drw_weights(case["counts"], scheme)
    assert_close(weights, case[f"weights_{scheme}"])
    w, losses = case[f"weights_{scheme}"][case["target"]], case["per_sample"]
    by_definition = (w * losses).mean() if reduction == "batch_mean" else (w * losses).sum() / w.sum()
    expected = case.get(f"{scheme}_{reduction}", float(by_definition))
    assert expected == pytest.approx(float(by_definition), rel=1e-9)
    assert_close(loss_of(case, weight=weights, reduction=reduction)(case["logits"], case["target"]), expected)


def test_hand_computed_case() -> None:
    # Counts 1 and 16: margins 1/2 and 1/4. Logits 0: l = log(1 + exp(s * margin)).
    loss = LDAMLoss([1, 16], max_m=0.5, s=2.0)
    assert loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(math.log1p(math.exp(1.0)))
    assert loss(torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(math.log1p(math.exp(0.5)))


def test_without_margin_and_scale_it_is_weighted_cross_entropy() -> None:
    logits, target = (
        torch.randn(8, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0, 1, 2, 0, 0]),
    )
    weight = torch.tensor([0.2, 1.0, 3.0])
    expected = torch.nn.functional.cross_entropy(logits, target, weight=weight)
    torch.testing.assert_close(LDAMLoss([5, 6, 7], max_m=0.0, s=1.0, weight=weight)(logits, target), expected)


def test_gradient_by_differences() -> None:
    loss = LDAMLoss([75, 210, 3], s=5.0, weight=[1.0, 0.5, 2.0])
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([0, 1, 2, 1])), logits)


def test_column_target_is_accepted() -> None:
    loss, logits = LDAMLoss([75, 210]), torch.tensor([[0.3, -0.1], [0.2, 0.4]])
    assert torch.equal(loss(logits, torch.tensor([[0], [1]])), loss(logits, torch.tensor([0, 1])))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_logits_are_computed_in_float32(dtype) -> None:
    loss = LDAMLoss([75, 210], weight=[1.7, 1.0])
    logits, target = torch.tensor([[0.3, -0.1], [0.2, 0.4]]).to(dtype), torch.tensor([0, 1])
    value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), target))


def test_autocast_does_not_change_the_result() -> None:
    loss, target = LDAMLoss([75, 210]), torch.tensor([0, 1])
    logits = torch.tensor([[0.3, -0.1], [0.2, 0.4]])
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, target)
    assert torch.equal(value, loss(logits, target))


@pytest.mark.parametrize("weight", [None, [1.0, 2.0]], ids=["unweighted", "weighted"])
def test_script_equals_eager(weight) -> None:
    loss = LDAMLoss([75, 210], weight=weight)
    logits, target = torch.tensor([[0.3, -0.1], [0.2, 0.4]]), torch.tensor([0, 1])
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(loss), buffer)
    buffer.seek(0)
    assert torch.equal(torch.jit.load(buffer)(logits, target), loss(logits, target))


def test_weight_can_be_set_and_moves_with_the_module() -> None:
    loss = LDAMLoss([75, 210])
    assert loss.weight is None
    loss.weight = [1.0, 2.0]
    assert loss.to("meta").weight.device.type == "meta"
    loss = LDAMLoss([75, 210], weight=[1.0, 2.0])
    loss.weight = None
    assert loss.weight is None
    assert not loss.state_dict()


def test_setting_the_weight_copies_it() -> None:
    weight = torch.tensor([1.0, 2.0], dtype=torch.float64)
    loss = LDAMLoss([75, 210], weight=weight)
    weight.zero_()
    assert loss.weight.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([100, 0, 5],), r"class_counts must all be > 0, got \[100, 0, 5\]; drop class 1 or merge it"),
        (([0, 3, -1],), r"got \[0, 3, -1\]; drop classes 0, 2 or merge them"),
        (([3, float("nan")],), "class_counts must all be > 0"),
        (([],), "one count per class"),
        (([75, 210], -0.1), "max_m must be a number of at least 0, got -0.1"),
        (([75, 210], 0.5, 0.0), "s must be a number > 0, got 0.0"),
        (([75, 210], 0.5, 30.0, [1.0]), r"one value for each of 2 classes, got shape \(1,\)"),
        (([75, 210], 0.5, 30.0, [1.0, -1.0]), "weights must be finite, ≥ 0"),
        (([75, 210], 0.5, 30.0, None, "mean"), "reduction must be one of weighted_mean, batch_mean, got 'mean'"),
    ],
    ids=["zero", "two-bad", "nan", "empty", "max_m", "s", "weight-shape", "weight-sign", "reduction"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=f"LDAMLoss: .*{message}"):
        LDAMLoss(*arguments)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 1]), r"logits must have shape \(B, 2\).*got \(2, 3\)"),
        (torch.zeros(2, 2), torch.tensor([0, 1, 1]), r"target must have shape \(2,\) or \(2, 1\).*got \(3,\)"),
        (torch.zeros(2, 2), torch.eye(2, dtype=torch.int64), r"target must have shape.*got \(2, 2\)"),
        (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "target must hold integer class numbers, got torch.float32"),
        (torch.zeros(3, 2), torch.tensor([0, 2, -1]), r"labels must be 0 to 1, got \[-1, 2\]"),
    ],
    ids=["classes", "length", "one-hot", "float", "range"],
)
def test_bad_input(logits, target, message) -> None:
    with pytest.raises(ValueError, match=f"LDAMLoss: {message}"):
        LDAMLoss([75, 210])(logits, target)


@pytest.mark.parametrize("label", [2, -1, 255])
def test_where_labels_are_not_checked_a_wrong_one_gives_nan(label) -> None:
    # The scripted loss takes the same path as a GPU.
    value = torch.jit.script(LDAMLoss([75, 210]))(torch.zeros(2, 2), torch.tensor([0, label]))
    assert torch.isnan(value)


@pytest.mark.parametrize("reduction", ["weighted_mean", "batch_mean"])
def test_a_batch_without_any_weight_counts_nothing(reduction) -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    value = LDAMLoss([75, 210], weight=[1, 0], reduction=reduction)(logits, torch.tensor([1, 1]))
    value.backward()
    assert torch.isnan(value)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([5, 0],), r"class_counts must all be > 0, got \[5, 0\]; drop class 1"),
        (([5, 1], "log"), "scheme must be one of sqrt, effective_number, got 'log'"),
        (([5, 1], "effective_number", 1.0), r"beta must be in \[0, 1\), got 1.0"),
    ],
    ids=["zero", "scheme", "beta"],
)
def test_drw_weights_bad_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=f"drw_weights: {message}"):
        drw_weights(*arguments)


def test_effective_number_weights_sum_to_the_number_of_classes() -> None:
    assert drw_weights([1000, 100, 10], "effective_number").sum().item() == pytest.approx(3)
