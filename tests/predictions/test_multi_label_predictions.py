from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from scipy.special import expit
from two_processes import run_two

from monai_ext.errors import ConfigError, DataError
from monai_ext.losses import AsymmetricLoss
from monai_ext.metrics import merge_label_parts, multi_label_metrics
from monai_ext.predictions import MultiLabel

NAMES = ["nodule", "fluid", "hernia"]
LOGITS = np.random.default_rng(0).normal(size=(7, 3))
CASES = ["v1", "v1", "v2", "v2", "v3", "v3", "v4"]
OF_CASE = {"v1": [1, 0, 0], "v2": [0, 1, 0], "v3": [1, 1, 0], "v4": [0, 0, 0]}
LABELS = np.array([OF_CASE[case] for case in CASES])


def items(order: list[int] | range = range(7)) -> list[dict]:
    return [
        {
            "image": torch.from_numpy(LOGITS[i]),
            "label": torch.tensor(LABELS[i], dtype=torch.float32),
            "case": CASES[i],
            "index": i,
            "slice_index": 10 * i,
        }
        for i in order
    ]


def evaluate(metric: MultiLabel, data: list[dict], batch_size: int = 2):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=batch_size),
        network=torch.nn.Identity(),
        key_val_metric={"best": metric},
    )
    evaluator.run()
    return evaluator.state


def test_the_state_holds_the_metrics_of_all_cases_and_their_loss() -> None:
    state = evaluate(MultiLabel(NAMES, AsymmetricLoss(), "average_precision"), items())
    expected = multi_label_metrics(expit(LOGITS), LABELS, NAMES)
    scalars = {name: state.metrics[name] for name in expected.metrics}
    assert scalars == pytest.approx(expected.metrics)
    assert state.metrics["best"] == state.metrics["average_precision"]
    loss = AsymmetricLoss()(torch.from_numpy(LOGITS), torch.from_numpy(LABELS))
    assert state.metrics["loss"] == pytest.approx(float(loss))
    assert state.metric_details["multi_label"].cases == CASES
    assert [sentence[:12] for sentence in state.metric_details["multi_label"].skipped] == ["class hernia"]
    assert "instances" not in state.metric_details


def test_with_slices_there_are_two_levels() -> None:
    metric = MultiLabel(
        NAMES, cases="volumes", instances="slices", instance_columns=["slice_index"], thresholds=[0.4] * 3, merge="max"
    )
    state = evaluate(metric, items())
    slices = multi_label_metrics(expit(LOGITS), LABELS, NAMES, cases=CASES)
    volumes = merge_label_parts(slices, "max", [0.4] * 3)
    assert state.metric_details["multi_label"].to_dict() == volumes.to_dict()
    assert state.metrics["f1_tuned"] == pytest.approx(volumes.metrics["f1_tuned"])
    assert state.metrics["slices_auroc"] == pytest.approx(slices.metrics["auroc"])
    assert "slices_f1_tuned" not in state.metrics
    assert state.metric_details["instances"].columns == {"slice_index": [0, 10, 20, 30, 40, 50, 60]}


def test_neither_order_nor_batches_nor_repetitions_change_a_bit() -> None:
    plain = evaluate(MultiLabel(NAMES, AsymmetricLoss(), cases="volumes", instances="slices"), items())
    other = evaluate(
        MultiLabel(NAMES, AsymmetricLoss(), cases="volumes", instances="slices"),
        items([4, 2, 6, 0, 3, 5, 1, 0]),
        batch_size=5,
    )
    assert other.metrics == plain.metrics


def test_nothing_computable_is_nan_in_the_state() -> None:
    state = evaluate(MultiLabel(NAMES), items([6]))
    assert np.isnan(state.metrics["auroc"])
    assert np.isnan(state.metrics["best"])
    assert np.isnan(state.metrics["hamming"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"key": "auc"}, "key must be one of .*'auroc'.*, got 'auc'"),
        ({"key": "loss"}, "got 'loss'"),
        ({"key": "f1_tuned"}, "got 'f1_tuned'"),
        ({"instance_columns": ["slice_index"]}, "need a name in instances"),
        ({"cases": "volumes", "instances": "slices", "merge": "sum"}, "merge must be one of mean, max, got 'sum'"),
    ],
    ids=["unknown", "no-loss", "no-thresholds", "no-instances", "merge"],
)
def test_wrong_arguments_are_refused(arguments, match) -> None:
    with pytest.raises(ConfigError, match=match):
        MultiLabel(NAMES, **arguments)


@pytest.mark.parametrize(("key", "what"), [("pred", "logits"), ("label", "labels")])
def test_another_number_of_classes_is_refused_with_the_case(key, what) -> None:
    item = {"pred": torch.zeros(3), "label": torch.zeros(3), "case": "v1", "index": 0} | {key: torch.zeros(2)}
    with pytest.raises(DataError, match=f"v1: expected 3 {what}, one per class, got 2"):
        MultiLabel(NAMES).record(item)


def test_two_cases_with_one_index_are_refused() -> None:
    metric = MultiLabel(NAMES)
    batch = [{"case": "v1", "index": 0}] * 2
    metric.update((batch, [{"pred": torch.zeros(3), "label": torch.tensor([value, 0, 0])} for value in (0, 1)]))
    with pytest.raises(DataError, match="both have index 0"):
        metric.compute()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    state = evaluate(
        MultiLabel(NAMES, AsymmetricLoss(), cases="volumes", instances="slices"),
        items([[0, 2, 4, 6], [1, 3, 5, 0]][rank]),
    )
    (Path(folder) / f"{rank}.json").write_text(json.dumps(state.metrics))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_slices_of_a_volume_may_be_in_different_processes(tmp_path: Path) -> None:
    run_two(_rank, str(tmp_path))
    alone = evaluate(MultiLabel(NAMES, AsymmetricLoss(), cases="volumes", instances="slices"), items())
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(alone.metrics, nan_ok=True)
