from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from two_processes import run_two

from monai_ext.errors import ConfigError, DataError
from monai_ext.predictions import Classification

NAMES = ["LGG", "HGG"]
LOGITS = torch.tensor([[2.0, 0.5], [0.2, 0.1], [-1.0, 1.5], [0.3, 0.9], [1.0, -0.4], [0.0, 3.0], [0.8, 0.6]])
LABELS = [0, 0, 1, 1, 0, 1, 1]


def weighted_loss() -> torch.nn.Module:
    return torch.nn.CrossEntropyLoss(weight=torch.tensor([2.5, 1.0]))


def items(indices: list[int]) -> list[dict]:
    return [{"image": LOGITS[i], "label": LABELS[i], "case": f"case_{i}", "index": i} for i in indices]


def evaluate(metric: Classification, cases: list[dict], batch_size: int = 2, name: str = "auc"):
    # The network passes its input through, so that the logits are known; drop-out shows that eval mode is on.
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=batch_size),
        network=torch.nn.Dropout(0.5),
        key_val_metric={name: metric},
    )
    evaluator.run()
    return evaluator.state


def test_state_holds_scalars_and_the_whole_result() -> None:
    state = evaluate(Classification(NAMES, weighted_loss()), items([6, 0, 1, 5, 4, 3, 2]))
    expected = weighted_loss()(LOGITS, torch.tensor(LABELS)).item()
    assert state.metrics["loss"] == pytest.approx(expected, rel=1e-6)
    assert state.metrics["accuracy"] == pytest.approx(6 / 7)
    assert state.metrics["auc"] == pytest.approx(11 / 12)
    result = state.metric_details["classification"]
    assert result.cases == [f"case_{i}" for i in range(7)]
    assert result.labels.tolist() == LABELS
    np.testing.assert_allclose(result.probabilities, LOGITS.softmax(1), rtol=1e-6)
    assert result.false_negatives.cases == ["case_6"]
    assert state.best_metric == state.metrics["auc"]


def test_the_loss_is_exact_where_float32_would_round_it_to_zero() -> None:
    case = {"image": torch.tensor([20.0, 0.0]), "label": 0, "case": "certain", "index": 0}
    state = evaluate(Classification(NAMES, torch.nn.CrossEntropyLoss(), "accuracy"), [case])
    assert state.metrics["loss"] == pytest.approx(math.log1p(math.exp(-20)))


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_batch_size_changes_no_bit(batch_size: int) -> None:
    reference = evaluate(Classification(NAMES, weighted_loss()), items(list(range(7))), batch_size=2)
    other = evaluate(Classification(NAMES, weighted_loss()), items(list(range(7))), batch_size=batch_size)
    assert other.metrics == reference.metrics


def test_repeated_case_counts_once() -> None:
    once = evaluate(Classification(NAMES, weighted_loss()), items(list(range(7))))
    padded = evaluate(Classification(NAMES, weighted_loss()), items([*range(7), 6]))
    assert padded.metrics == once.metrics


def test_second_epoch_starts_afresh_and_sees_new_loss_weights() -> None:
    loss = weighted_loss()
    metric = Classification(NAMES, loss)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items(list(range(7)))), batch_size=4),
        network=torch.nn.Identity(),
        key_val_metric={"auc": metric},
    )
    evaluator.run(global_epoch=1)
    loss.weight.copy_(torch.tensor([1.0, 1.0]))
    evaluator.run(global_epoch=2)
    expected = torch.nn.functional.cross_entropy(LOGITS, torch.tensor(LABELS)).item()
    assert evaluator.state.metrics["loss"] == pytest.approx(expected, rel=1e-6)
    assert len(evaluator.state.metric_details["classification"].cases) == 7
    assert loss.weight.dtype == torch.float32


def test_one_class_gives_nan_never_a_number() -> None:
    state = evaluate(Classification(NAMES), items([2, 3, 5]))
    assert np.isnan(state.metrics["auc"])
    assert state.metric_details["classification"].skipped == ["auc: the validation set holds only class HGG (3 cases)"]


def test_attached_name_gets_the_key_scalar() -> None:
    state = evaluate(Classification(NAMES, key="f1"), items(list(range(7))), name="val_f1")
    assert state.metrics["val_f1"] == state.metrics["f1"]
    assert "loss" not in state.metrics


def test_half_precision_logits_are_taken() -> None:
    metric = Classification(NAMES, weighted_loss())
    metric.update(([{"case": "a", "index": 0}], [{"pred": LOGITS[0].bfloat16(), "label": torch.tensor(0)}]))
    result, _, loss = metric.compute()
    assert result.metrics["accuracy"] == 1.0
    assert loss == pytest.approx(np.log1p(np.exp(-1.5)))


def test_wrong_use_is_named() -> None:
    with pytest.raises(ConfigError, match=r"key must be one of .*, got 'loss'"):
        Classification(NAMES, key="loss")
    metric = Classification(NAMES)
    with pytest.raises(DataError, match="no cases"):
        metric.compute()
    with pytest.raises(ConfigError, match="each case needs 'index', got the keys"):
        metric.update(([{"case": "a"}], [{"pred": LOGITS[0], "label": 0}]))
    with pytest.raises(ConfigError, match="decollate=True"):
        metric.update(({"case": ["a"]}, {"pred": LOGITS[:1]}))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a: expected 2 logits, one per class, got 3"):
        metric.update(([{"case": "a", "index": 0}], [{"pred": torch.zeros(3), "label": 0}]))
    with pytest.raises(ConfigError, match="a loss is computed from logits"):
        Classification(NAMES, weighted_loss(), logits=False)


@pytest.mark.parametrize("label", [{}, {"label": None}, {"label": -1}], ids=["absent", "none", "filled up"])
def test_a_validation_names_the_case_without_a_label(label) -> None:
    metric = Classification(NAMES)
    metric.update(([{"case": "a", "index": 0}], [{"pred": LOGITS[0], **label}]))
    with pytest.raises(DataError, match="a: has no label"):
        metric.compute()


def test_two_cases_with_one_index_are_refused() -> None:
    metric = Classification(NAMES)
    batch = [{"case": name, "index": 4} for name in ("a", "b")]
    metric.update((batch, [{"pred": LOGITS[0], "label": 0}] * 2))
    with pytest.raises(DataError, match="'a' and 'b' both have index 4"):
        metric.compute()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # As a distributed sampler does: seven cases, rank 1 repeats the first to make the parts equal.
    state = evaluate(Classification(NAMES, weighted_loss()), items([[0, 2, 4, 6], [1, 3, 5, 0]][rank]), 3)
    content = {"metrics": state.metrics, "cases": state.metric_details["classification"].cases}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(content))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_report_what_one_does(tmp_path: Path) -> None:
    run_two(_rank, str(tmp_path))
    alone = evaluate(Classification(NAMES, weighted_loss()), items(list(range(7))))
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"metrics": alone.metrics, "cases": [f"case_{i}" for i in range(7)]}
