import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.metrics import DiceMetric

from monai_ext.engines import ImageAndTargets
from monai_ext.errors import ConfigError, DataError
from monai_ext.losses import MultiTargetLoss
from monai_ext.metrics import MultiTargetResult, PatchRecord
from monai_ext.metrics.multi_target import compare
from monai_ext.predictions import Patches

TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3, "weight": 0.75}}


class Echo(torch.nn.Module):
    """The image's channels are what it predicts."""

    def forward(self, x):
        return {"sheet": x[:, :1], "normals": x[:, 1:]}


def patches(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        sheet = (torch.rand(1, 4, 5, 6, generator=generator) < 0.1 + 0.15 * index).float()
        normals = torch.nn.functional.normalize(torch.randn(3, 4, 5, 6, generator=generator), dim=0) * sheet
        image = torch.randn(4, 4, 5, 6, generator=generator)
        found.append({"image": image, "sheet": sheet, "normals": normals, "case": f"patch {index}", "index": index})
    return found


def evaluate(items, batch_size=2, metric=None):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size),
        network=Echo(),
        prepare_batch=ImageAndTargets(TARGETS),
        key_val_metric={"score": metric or Patches(TARGETS, MultiTargetLoss(TARGETS))},
    )
    evaluator.run()
    return evaluator.state


def test_dice_is_that_of_all_voxels_together():
    items = patches()
    state = evaluate(items)
    everything = [torch.cat([item[key][:1] for item in items], dim=3)[None] for key in ("image", "sheet")]
    expected = DiceMetric()((everything[0] > 0).float(), everything[1]).item()
    assert state.metrics["sheet_dice"] == pytest.approx(expected, rel=1e-6)


def test_the_angle_is_the_mean_over_labelled_voxels():
    angles = []
    items = patches()
    for item in items:
        labelled = item["normals"].any(dim=0)
        predicted, true = item["image"][1:, labelled], item["normals"][:, labelled]
        cosines = (predicted / predicted.norm(dim=0) * true).sum(dim=0)
        angles += [math.degrees(math.acos(max(-1.0, min(1.0, float(cosine))))) for cosine in cosines]
    assert evaluate(items).metrics["normals_angle"] == pytest.approx(sum(angles) / len(angles), abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_batch_size_changes_no_bit(batch_size):
    assert evaluate(patches(), batch_size).metrics == evaluate(patches(), 2).metrics


def test_loss_and_terms_are_means_over_patches():
    items, loss = patches(), MultiTargetLoss(TARGETS)
    values, terms = [], []
    for item in items:
        pred = {"sheet": item["image"][None, :1], "normals": item["image"][None, 1:]}
        values.append(float(loss(pred, {name: item[name][None] for name in TARGETS})))
        terms.append(float(loss.terms["normals"]))
    state = evaluate(items)
    assert state.metrics["loss"] == state.metrics["score"] == pytest.approx(sum(values) / 5)
    assert state.metrics["loss_normals"] == pytest.approx(sum(terms) / 5)
    assert state.metrics["loss_sheet"] + state.metrics["loss_normals"] == pytest.approx(state.metrics["loss"])


def test_a_patch_seen_twice_counts_once_and_another_one_of_its_number_is_an_error():
    items = patches()
    assert evaluate([*items, items[1]]).metrics == evaluate(items).metrics
    with pytest.raises(DataError, match="'patch 1' and 'other' both have index 1"):
        evaluate([*items, {**items[1], "case": "other"}])


def test_ignored_voxels_are_left_out_of_every_metric():
    items = patches()
    half = [dict(item, sheet=item["sheet"].clone()) for item in items]
    for item in half:
        item["sheet"][..., 3:] = 2
    cut = [{k: v[..., :3] if torch.is_tensor(v) else v for k, v in item.items()} for item in items]
    ignoring = evaluate(half, metric=Patches(TARGETS, key="sheet_dice", ignore_label=2)).metrics
    expected = evaluate(cut, metric=Patches(TARGETS, key="sheet_dice")).metrics
    assert ignoring == pytest.approx(expected)


def test_classes_are_compared_one_by_one_without_the_background():
    logits = torch.eye(3)[torch.tensor([0, 1, 1, 2, 2, 0])].T.reshape(3, 1, 1, 6)
    label = torch.tensor([0, 1, 2, 2, 2, 1]).reshape(1, 1, 1, 6).float()
    definition = {"channels": 3, "activation": "softmax"}
    assert compare(logits, label, definition) == [[1, 2, 2], [2, 2, 3]]
    result = MultiTargetResult({"tissue": definition}, [PatchRecord(0, "a", {}, {"tissue": [[1, 2, 2], [2, 2, 3]]})])
    assert result.metrics["tissue_dice"] == pytest.approx((2 / 4 + 4 / 5) / 2)


def test_values_have_a_mean_absolute_error():
    definition = {"channels": 2}
    sums = compare(torch.tensor([[1.0, 2.0], [0.0, 0.0]]).view(2, 1, 1, 2), torch.zeros(2, 1, 1, 2), definition)
    assert sums == [[3.0, 2.0], [0.0, 2.0]]
    assert MultiTargetResult({"h": definition}, [PatchRecord(0, "a", {}, {"h": sums})]).metrics["h_mae"] == 0.75


def test_what_cannot_be_compared_is_none_and_said():
    empty = [dict(item, sheet=item["sheet"] * 0, normals=item["normals"] * 0) for item in patches(2)]
    for item in empty:
        item["image"][0] = -1
    state = evaluate(empty)
    assert math.isnan(state.metrics["sheet_dice"])
    result = state.metric_details["multi_task"]
    assert result.metrics["normals_angle"] is None
    assert [line.split(":")[0] for line in result.skipped] == ["loss_normals", "sheet_dice", "normals_angle"]


def test_rows_and_targets_tell_the_same_as_the_metrics():
    result = evaluate(patches()).metric_details["multi_task"]
    rows = result.rows()
    assert [row["case"] for row in rows] == [f"patch {index}" for index in range(5)]
    assert sum(row["loss"] for row in rows) / 5 == pytest.approx(result.metrics["loss"])
    assert result.per_target()["sheet"] == {
        "dice": result.metrics["sheet_dice"],
        "loss": result.metrics["loss_sheet"],
    }


def test_targets_whose_output_is_not_finite_have_no_score():
    # a comparison with NaN is false, which looks like a prediction of nothing
    items = patches()
    items[3]["image"][0, 0, 0, 0] = math.nan
    state = evaluate(items, metric=Patches(TARGETS, key="sheet_dice"))
    assert math.isnan(state.metrics["sheet_dice"])
    assert math.isfinite(state.metrics["normals_angle"])
    assert "not finite" in state.metric_details["multi_task"].skipped[0].replace("isn't", "is not")
    assert "patch 3" in state.metric_details["multi_task"].skipped[0]


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigError, match="'sheet_dice', 'normals_angle'"):
        Patches(TARGETS, key="sheet_auc")


def test_a_patch_without_any_voxel_is_left_out_of_the_mean_loss():
    items = patches(3)
    items[1]["normals"][:] = 0
    with_all = evaluate([items[0], items[2]])
    state = evaluate(items)
    assert state.metrics["loss_normals"] == pytest.approx(with_all.metrics["loss_normals"])


def test_a_loss_over_nothing_is_not_computable():
    items = patches(2)
    for item in items:
        item["sheet"][:] = 2
    loss = MultiTargetLoss(TARGETS, ignore_label=2)
    state = evaluate(items, metric=Patches(TARGETS, loss, ignore_label=2))
    assert math.isnan(state.metrics["loss"])
    result = state.metric_details["multi_task"]
    assert "loss: no voxel counts in any patch" in result.skipped
    assert result.rows()[0]["loss"] is None
