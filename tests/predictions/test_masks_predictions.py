import math

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.losses import DiceLoss
from monai.metrics import compute_dice, compute_iou
from two_processes import run_two

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics import SegmentationResult, SliceRecord, segmentation_intervals
from monai_ext.predictions import Masks

LOSS = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1)


def slices(count=6, seed=0):
    """Slices of three patients with growing masks; the network passes the image through as logits."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.randn(1, 8, 9, generator=generator),
            "label": (torch.rand(1, 8, 9, generator=generator) < 0.1 + 0.1 * index).float(),
            "case": f"p{index % 3}/slice_{index}",
            "patient": f"p{index % 3}",
            "index": index,
        }
        for index in range(count)
    ]


def evaluate(items, batch_size=2, metric=None):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size),
        network=torch.nn.Identity(),
        key_val_metric={"score": metric or Masks(LOSS)},
    )
    evaluator.run()
    return evaluator.state


def result_of(*rows):
    """Rows (patient, overlap, predicted, true)."""
    found = [SliceRecord(n, f"slice {n}", patient, 0.5, *pixels) for n, (patient, *pixels) in enumerate(rows)]
    return SegmentationResult(found)


def test_scores_of_slices_are_those_of_monai():
    items = slices()
    state = evaluate(items)
    masks = [torch.stack([item[key] for item in items]) for key in ("image", "label")]
    predicted, true = (masks[0] >= 0).float(), masks[1]
    rows = state.metric_details["segmentation"].rows()
    expected = {"dice": compute_dice(predicted, true)[:, 0], "iou": compute_iou(predicted, true)[:, 0]}
    for name, values in expected.items():
        np.testing.assert_allclose([row[name] for row in rows], values, rtol=1e-6)
    assert state.metrics["dice"] == state.metrics["score"] == pytest.approx(float(expected["dice"].mean()))


def test_pooled_scores_are_those_of_all_pixels_side_by_side():
    items = slices()
    metrics = evaluate(items).metrics
    image, true = (torch.cat([item[key] for item in items], dim=2)[None] for key in ("image", "label"))
    predicted = (image >= 0).float()
    assert metrics["iou"] == pytest.approx(compute_iou(predicted, true).item())
    assert metrics["pooled_dice"] == pytest.approx(compute_dice(predicted, true).item())
    assert metrics["precision"] == pytest.approx(float(true[predicted > 0].mean()))
    assert metrics["recall"] == pytest.approx(float(predicted[true > 0].mean()))


def test_the_loss_is_the_mean_of_each_slice_by_itself():
    items = slices()
    values = [float(LOSS(item["image"][None], item["label"][None])) for item in items]
    state = evaluate(items)
    assert state.metrics["loss"] == pytest.approx(sum(values) / 6)
    assert [row["loss"] for row in state.metric_details["segmentation"].rows()] == pytest.approx(values)
    assert "loss" not in evaluate(items, metric=Masks()).metrics


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_batch_size_changes_no_bit(batch_size):
    assert evaluate(slices(), batch_size).metrics == evaluate(slices(), 2).metrics


def test_a_slice_seen_twice_counts_once_and_another_one_of_its_number_is_an_error():
    items = slices()
    assert evaluate([*items, items[1]]).metrics == evaluate(items).metrics
    with pytest.raises(DataError, match="'p1/slice_1' and 'other' both have index 1"):
        evaluate([*items, {**items[1], "case": "other"}])


def test_slices_without_a_mask_are_counted_but_left_out_of_the_means():
    masked = [("a", 4, 8, 8), ("a", 8, 8, 8), ("b", 0, 0, 4)]
    result = result_of(*masked, ("b", 0, 0, 0), ("c", 0, 0, 0), ("c", 0, 6, 0))
    assert result.metrics == {
        "loss": 0.5,
        "dice": pytest.approx((0.5 + 1 + 0) / 3),
        "iou": pytest.approx(12 / 30),
        "precision": pytest.approx(12 / 22),
        "recall": pytest.approx(12 / 20),
        "pooled_dice": pytest.approx(24 / 42),
        "patient_dice": pytest.approx((24 / 32 + 0) / 2),
        "empty_slices": 3,
        "false_positive_slices": 1,
    }
    left_out = "dice: 3 of 6 slices have no mask and don't count in the mean; something was predicted on 1 of them"
    assert result.skipped == [left_out]
    assert [row["dice"] for row in result.rows()] == [0.5, 1, 0, 1, 1, 0]
    assert [row["iou"] for row in result.rows()] == [pytest.approx(1 / 3), 1, 0, 1, 1, 0]


def test_patients_have_the_scores_of_all_their_pixels():
    result = result_of(("b", 4, 8, 8), ("a", 0, 0, 0), ("b", 4, 4, 4), ("b", 0, 2, 0))
    assert result.patients == ["b", "a"]
    assert result.patient_rows() == [
        {
            "patient": "b",
            "slices": 3,
            "empty_slices": 1,
            "false_positive_slices": 1,
            "dice": pytest.approx(16 / 26),
            "iou": pytest.approx(8 / 18),
            "true_pixels": 12,
            "predicted_pixels": 14,
            "overlap_pixels": 8,
        },
        {
            "patient": "a",
            "slices": 1,
            "empty_slices": 1,
            "false_positive_slices": 0,
            "dice": 1,
            "iou": 1,
            "true_pixels": 0,
            "predicted_pixels": 0,
            "overlap_pixels": 0,
        },
    ]


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([("a", 0, 0, 0)], {"dice", "patient_dice", "recall", "iou", "pooled_dice", "precision"}),
        ([("a", 0, 3, 0)], {"dice", "patient_dice", "recall"}),
        ([("a", 0, 0, 3)], {"precision"}),
    ],
    ids=["nothing at all", "false alarms only", "nothing predicted"],
)
def test_what_cannot_be_computed_is_none_and_said(rows, missing):
    result = result_of(*rows)
    assert {name for name, value in result.metrics.items() if value is None} == missing
    assert {line.split(":")[0] for line in result.skipped} == missing


def test_a_network_without_finite_output_has_no_score_at_all():
    items = slices()
    items[4]["image"][0, 0, 0] = math.nan
    state = evaluate(items)
    assert all(math.isnan(state.metrics[name]) for name in ("score", "loss", "dice", "iou", "patient_dice"))
    result = state.metric_details["segmentation"]
    assert "p1/slice_4" in result.skipped[0]
    assert [row["dice"] is None for row in result.rows()] == [number == 4 for number in range(6)]
    assert segmentation_intervals(result, n=20) == {}


def test_a_higher_threshold_predicts_less():
    items = slices()
    low, high = (evaluate(items, metric=Masks(threshold=t)).metric_details for t in (0.3, 0.7))
    pixels = [sum(row["predicted_pixels"] for row in each["segmentation"].rows()) for each in (low, high)]
    expected = [sum(int((item["image"].sigmoid() >= t).sum()) for item in items) for t in (0.3, 0.7)]
    assert pixels == expected
    assert pixels[0] > pixels[1]


@pytest.mark.parametrize("shape", [(2, 8, 9), (1, 8, 8), (8, 9)], ids=["channels", "size", "no channel"])
def test_a_mask_of_another_shape_is_named(shape):
    items = slices(2)
    items[1]["label"] = torch.zeros(shape)
    with pytest.raises(DataError, match=r"p1/slice_1, got \[1, 8, 9\] and "):
        evaluate(items, batch_size=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": "auc"}, r"key must be one of \['dice', .*'false_positive_slices'\], got 'auc'"),
        ({"key": "loss"}, "got 'loss'"),
        ({"threshold": 1}, "between 0 and 1, got 1"),
    ],
    ids=["unknown key", "no loss", "threshold"],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Masks(**arguments)


def test_intervals_hold_the_value_and_narrow_with_the_number_of_patients():
    rng = np.random.default_rng(0)

    def result(patients):
        overlaps = rng.integers(5, 20, 4 * patients)
        return result_of(*((f"p{n // 4}", overlap, 20, 20) for n, overlap in enumerate(overlaps)))

    few, many = result(10), result(200)
    widths = []
    for each in (few, many):
        low, high = segmentation_intervals(each, n=300)["dice"].ends
        assert low < each.metrics["dice"] < high
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]
    names = {"dice", "iou", "precision", "recall", "pooled_dice", "patient_dice"}
    assert set(segmentation_intervals(few, n=20)) == names


def test_intervals_are_over_patients_not_slices():
    # within a patient all slices are alike: a hundred of them say no more than one
    one = result_of(*((f"p{n}", n, 10, 10) for n in range(10)))
    many = result_of(*((f"p{n}", n, 10, 10) for n in range(10) for _ in range(100)))
    found = segmentation_intervals(many, n=200)["dice"]
    assert found[1:] == ("bootstrap", "patients", 10, None)
    assert found.ends == pytest.approx(segmentation_intervals(one, n=200)["dice"].ends)


def test_few_patients_with_a_mask_have_no_interval_but_a_reason():
    empty = [(f"e{n}", 0, 0, 0) for n in range(9)]
    found = segmentation_intervals(result_of(("a", 1, 2, 2), ("a", 2, 2, 2), *empty), n=20)
    assert {each.ends for each in found.values()} == {None}
    assert found["dice"].reason == "patients with a mask: 1, fewer than 10"


def _rank(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # as a distributed sampler does: five slices, rank 1 repeats the first to make the parts equal
    items = slices(5)
    state = evaluate([items[index] for index in ([0, 2, 4], [1, 3, 0])[rank]])
    assert state.metrics == evaluate_alone(items)
    torch.distributed.destroy_process_group()


def evaluate_alone(items):
    metric = Masks(LOSS)
    for item in items:
        metric._records.append(metric.record({**item, "pred": item["image"]}))
    result = SegmentationResult(metric._records)
    return {"score": result.metrics["dice"], **result.metrics}


@pytest.mark.slow
def test_processes_agree_with_one_alone(tmp_path):
    run_two(_rank, str(tmp_path))
