from __future__ import annotations

import math
import re

import pytest
import torch
from monai.losses import SoftDiceclDiceLoss

from monai_ext.errors import ConfigError
from monai_ext.losses import (
    BCEDiceLoss,
    CrossEntropyDiceLoss,
    MaskedCosineLoss,
    MaskedSmoothL1Loss,
    MultiTargetLoss,
)
from monai_ext.networks import SurfaceUNet

SHAPE = (4, 6, 5)
SURFACE = {"sheet": {"channels": 1}, "normals": {"channels": 3, "weight": 0.75}}


@pytest.fixture
def batch() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Predictions, and a sheet with normals that aren't zero on it and in a border around it."""
    generator = torch.Generator().manual_seed(0)
    pred = {name: torch.randn((2, n, *SHAPE), generator=generator) for name, n in (("sheet", 1), ("normals", 3))}
    sheet = torch.zeros((2, 1, *SHAPE), dtype=torch.uint8)
    sheet[:, :, :, 2:4] = 1
    normals = torch.nn.functional.normalize(torch.randn((2, 3, *SHAPE), generator=generator), dim=1)
    normals[:, :, :, 5:] = 0
    return pred, {"sheet": sheet, "normals": normals}


def gradients(loss, pred, target) -> dict[str, torch.Tensor]:
    pred = {name: value.clone().requires_grad_() for name, value in pred.items()}
    loss(pred, target).backward()
    return {name: value.grad for name, value in pred.items()}


def test_sums_the_weighted_terms_and_keeps_them_for_logging(batch) -> None:
    pred, target = batch
    loss = MultiTargetLoss(SURFACE)
    value = loss(pred, target)
    sheet = BCEDiceLoss()(pred["sheet"], target["sheet"])
    normals = MaskedCosineLoss()(pred["normals"], target["normals"])
    assert float(value) == pytest.approx(float(sheet + 0.75 * normals))
    assert {name: float(term) for name, term in loss.terms.items()} == {
        "sheet": pytest.approx(float(sheet)),
        "normals": pytest.approx(0.75 * float(normals)),
    }


def test_kept_terms_hold_no_graph(batch) -> None:
    pred, target = batch
    loss = MultiTargetLoss(SURFACE)
    loss({name: value.requires_grad_() for name, value in pred.items()}, target)
    assert not any(term.requires_grad for term in loss.terms.values())


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"channels": 1}, BCEDiceLoss),
        ({"channels": 1, "activation": "sigmoid"}, BCEDiceLoss),
        ({"channels": 3, "activation": "sigmoid"}, BCEDiceLoss),
        ({"channels": 3, "activation": "softmax"}, CrossEntropyDiceLoss),
        ({"channels": 3}, MaskedCosineLoss),
        ({"channels": 3, "activation": "none"}, MaskedCosineLoss),
        ({"channels": 2, "activation": "none"}, MaskedSmoothL1Loss),
        ({"channels": 1, "activation": "none", "loss": MaskedSmoothL1Loss()}, MaskedSmoothL1Loss),
    ],
    ids=["one", "sigmoid", "sigmoid-three", "softmax", "vector", "vector-none", "values", "given"],
)
def test_default_losses(definition, expected) -> None:
    assert type(MultiTargetLoss({"a": definition}).losses[0]) is expected


def test_an_ignored_label_leaves_the_voxel_out_of_every_loss(batch) -> None:
    pred, target = batch
    target["sheet"][:, :, 1] = 2
    ignored = (target["sheet"] == 2).expand(-1, 3, -1, -1, -1)
    found = gradients(MultiTargetLoss(SURFACE, ignore_label=2), pred, target)
    assert (found["sheet"][ignored[:, :1]] == 0).all()
    assert (found["sheet"][~ignored[:, :1]] != 0).all()
    assert (found["normals"][ignored] == 0).all()
    assert (found["normals"][~ignored] != 0).any()


def test_an_ignored_label_is_looked_for_in_label_maps_only(batch) -> None:
    pred, target = batch
    target["normals"][:] = 1
    found = gradients(MultiTargetLoss(SURFACE, ignore_label=-1), pred, target)
    target["normals"][:] = -1
    again = gradients(MultiTargetLoss(SURFACE, ignore_label=-1), pred, target)
    assert torch.equal(again["sheet"], found["sheet"])
    assert (again["normals"] != 0).any()


def test_a_batch_that_is_ignored_completely_counts_nothing(batch) -> None:
    pred, target = batch
    target["sheet"][:] = 2
    loss = MultiTargetLoss(SURFACE, ignore_label=2)
    assert math.isnan(loss(pred, target))
    assert not loss.counted
    assert all(math.isnan(term) for term in loss.terms.values())
    assert all((gradient == 0).all() for gradient in gradients(loss, pred, target).values())


def test_a_target_without_any_voxel_is_left_out_of_the_sum(batch) -> None:
    pred, target = batch
    target["normals"][:] = 0
    loss = MultiTargetLoss(SURFACE)
    assert float(loss(pred, target)) == float(loss.terms["sheet"]) > 0
    assert math.isnan(loss.terms["normals"])
    assert loss.counted
    found = gradients(loss, pred, target)
    assert (found["normals"] == 0).all()
    assert (found["sheet"] != 0).all()


def test_a_target_that_only_measures_does_not_count(batch) -> None:
    pred, target = batch
    target["normals"][:] = 0
    loss = MultiTargetLoss({**SURFACE, "sheet": {"channels": 1, "weight": 0}})
    assert math.isnan(loss(pred, target))
    assert not loss.counted


def test_a_level_without_any_voxel_is_left_out_of_the_mean() -> None:
    loss = MultiTargetLoss({"sheet": {"channels": 1}}, ignore_label=2)
    sheet = torch.full((1, 1, 2, 2, 2), 2.0)
    sheet[..., 1] = 1  # which the half size doesn't see
    pred = {"sheet": torch.zeros(1, 1, 2, 2, 2), "sheet/1": torch.zeros(1, 1, 1, 1, 1)}
    full = MultiTargetLoss({"sheet": {"channels": 1}}, ignore_label=2)
    assert float(loss(pred, {"sheet": sheet})) == float(full({"sheet": pred["sheet"]}, {"sheet": sheet})) > 0


def test_a_network_that_is_not_finite_is_no_lack_of_voxels(batch) -> None:
    pred, target = batch
    loss = MultiTargetLoss(SURFACE)
    assert math.isnan(loss({**pred, "sheet": pred["sheet"] * math.nan}, target))
    assert loss.counted


@pytest.mark.parametrize(
    ("only", "by"), [(True, "normals"), ("sheet", "sheet"), ("ref_label", "ref_label")], ids=["own", "sheet", "other"]
)
def test_loss_only_on_label(batch, only, by) -> None:
    pred, target = batch
    target["ref_label"] = torch.zeros((2, 1, *SHAPE))
    target["ref_label"][..., 3:] = 1
    loss = MultiTargetLoss({**SURFACE, "normals": {"channels": 3, "loss_only_on_label": only}})
    found = gradients(loss, pred, target)
    counts = (target[by] != 0).any(1) & (target["normals"] != 0).any(1)
    assert torch.equal((found["normals"] != 0).any(1), counts)
    assert (found["sheet"] != 0).all()


def test_levels_of_deep_supervision_share_a_target_s_weight(batch) -> None:
    pred, target = batch
    pred = {"sheet": pred["sheet"], "sheet/1": pred["sheet"][..., ::2, ::2, ::2]}
    loss = MultiTargetLoss({"sheet": {"channels": 1}})
    full = BCEDiceLoss()(pred["sheet"], target["sheet"])
    coarse = BCEDiceLoss()(pred["sheet/1"], target["sheet"][..., ::2, ::2, [0, 1, 3]])
    assert float(loss(pred, target)) == pytest.approx(float(full * 2 / 3 + coarse / 3))
    assert list(loss.terms) == ["sheet"]


def test_ignored_voxels_count_at_no_level() -> None:
    loss = MultiTargetLoss({"sheet": {"channels": 1}}, ignore_label=2)
    sheet = torch.ones(1, 1, 8, 8, 8)
    sheet[:, :, :4] = 2
    found = gradients(
        loss, {"sheet": torch.zeros(1, 1, 8, 8, 8), "sheet/1": torch.zeros(1, 1, 4, 4, 4)}, {"sheet": sheet}
    )
    assert (found["sheet/1"][:, :, :2] == 0).all()
    assert (found["sheet/1"][:, :, 2:] != 0).all()


@pytest.mark.parametrize("deep_supervision", [False, True], ids=["plain", "deep"])
def test_trains_the_network(batch, deep_supervision) -> None:
    _, target = batch
    torch.manual_seed(0)
    network = SurfaceUNet(f_maps=(8, 8, 16), deep_supervision=deep_supervision).train()
    loss = MultiTargetLoss(SURFACE)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    image = target["sheet"].float()
    values = []
    for _ in range(5):
        optimizer.zero_grad()
        value = loss(network(image), target)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert values[-1] < values[0]


def test_monai_s_losses_of_topology_can_be_a_target_s_loss(batch) -> None:
    pred, target = batch
    part = SoftDiceclDiceLoss(sigmoid=True)
    loss = MultiTargetLoss({"sheet": {"channels": 1, "activation": "sigmoid", "loss": part}})
    sheet = target["sheet"].float()
    assert torch.equal(loss({"sheet": pred["sheet"]}, {"sheet": sheet}), part(pred["sheet"], sheet))


@pytest.fixture
def losses() -> dict[str, torch.nn.Module]:
    return {"bce_dice": BCEDiceLoss(0.1), "masked_cosine": MaskedCosineLoss(), "smooth_l1": MaskedSmoothL1Loss()}


def test_a_loss_can_be_named(batch, losses) -> None:
    pred, target = batch
    named = {"sheet": {"channels": 1, "loss": "bce_dice"}, "normals": {"channels": 3, "loss": "smooth_l1"}}
    given = {name: {**definition, "loss": losses[definition["loss"]]} for name, definition in named.items()}
    loss = MultiTargetLoss(named, losses=losses)
    assert torch.equal(loss(pred, target), MultiTargetLoss(given)(pred, target))
    assert not torch.equal(loss(pred, target), MultiTargetLoss(SURFACE)(pred, target))


def test_a_named_loss_counts_as_if_it_were_given(losses) -> None:
    """A label map by its loss is looked at for the ignored label; one without a mask can't leave anything out."""
    assert MultiTargetLoss({"a": {"channels": 1, "loss": "bce_dice"}}, 2, losses).label_maps == ["a"]
    assert MultiTargetLoss({"a": {"channels": 1, "loss": "smooth_l1"}}, 2, losses).label_maps == []
    with pytest.raises(ConfigError, match="the loss of target 'a', L1Loss, takes no mask"):
        MultiTargetLoss({"a": {"channels": 1, "loss": "l1"}}, 2, {"l1": torch.nn.L1Loss()})


def test_targets_without_a_loss_get_the_sensible_one_beside_a_table(losses) -> None:
    assert type(MultiTargetLoss({"a": {"channels": 3}}, losses=losses).losses[0]) is MaskedCosineLoss


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bce_dise", "no loss 'bce_dise' in losses; did you mean 'bce_dice'?"),
        ("xyz", "no loss 'xyz' in losses; there are bce_dice, masked_cosine, smooth_l1"),
    ],
    ids=["near", "far"],
)
def test_an_unknown_name_is_told(losses, name, message) -> None:
    with pytest.raises(ConfigError, match=f"target 'a': {re.escape(message)}"):
        MultiTargetLoss({"a": {"channels": 1, "loss": name}}, losses=losses)


def test_a_table_holds_modules(losses) -> None:
    with pytest.raises(ConfigError, match="target 'a': loss must be a loss module"):
        MultiTargetLoss({"a": {"channels": 1, "loss": "bce_dice"}}, losses={**losses, "bce_dice": "bce"})


def test_more_in_the_batch_is_allowed(batch) -> None:
    pred, target = batch
    assert torch.equal(
        MultiTargetLoss(SURFACE)(pred, {**target, "image": None}), MultiTargetLoss(SURFACE)(pred, target)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pred, target: target.pop("normals"), "the batch lacks 'normals'; it has sheet"),
        (lambda pred, target: pred.pop("normals"), "the network doesn't predict 'normals'"),
        (lambda pred, target: pred.update(ink=pred["sheet"]), "predicts 'ink', which targets doesn't define"),
    ],
    ids=["target", "prediction", "undefined"],
)
def test_what_does_not_fit_together_is_named(batch, change, message) -> None:
    change(*batch)
    with pytest.raises(ValueError, match=f"MultiTargetLoss: .*{message}"):
        MultiTargetLoss(SURFACE)(*batch)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "targets is empty"),
        ({"a": {"channels": 1, "weight": 0}}, "every target has weight 0"),
        ({"a": {}}, "target 'a' needs channels, an integer of at least 1, got None"),
        ({"a": {"channels": 1, "activation": "relu"}}, "activation must be one of none, sigmoid, softmax, got 'relu'"),
        ({"a": {"channels": 1, "activation": "softmax"}}, "softmax over one channel is always 1"),
        ({"a": {"channels": 1, "weight": -1}}, "weight must be a number of at least 0, got -1"),
        ({"a": {"channels": 1, "weight": float("nan")}}, "weight must be a number of at least 0, got nan"),
        ({"a": {"channels": 1, "loss": 3}}, "target 'a': loss must be a loss module, .* got 3"),
        ({"a": {"channels": 1, "loss": "bce"}}, "target 'a': no loss 'bce' in losses; there are none"),
        ({"a": {"channels": 1, "loss_only_on_label": 1}}, "loss_only_on_label must be true, false or the name"),
        (
            {"a": {"channels": 1, "loss": torch.nn.BCEWithLogitsLoss(), "loss_only_on_label": True}},
            "the loss of target 'a', BCEWithLogitsLoss, takes no mask",
        ),
    ],
    ids=[
        "none",
        "unweighted",
        "channels",
        "activation",
        "softmax",
        "weight",
        "nan",
        "loss",
        "loss-name",
        "only",
        "mask",
    ],
)
def test_bad_definitions(targets, message) -> None:
    with pytest.raises(ConfigError, match=f"MultiTargetLoss: .*{message}"):
        MultiTargetLoss(targets)
