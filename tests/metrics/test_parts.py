from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from two_processes import run_two

from monai_ext.errors import ConfigError, DataError
from monai_ext.metrics import classification_intervals, classification_metrics, merge_parts
from monai_ext.predictions import Classification

# Three nuclei with two, one and two crops, counted by hand.
NAMES = ["A", "B", "C"]
CASES = ["n1", "n1", "n2", "n3", "n3"]
LABELS = [0, 0, 1, 2, 2]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
CROP_Z = [0, 80, 0, 0, 80]


def items(order: list[int] | range = range(5)) -> list[dict]:
    logits = torch.from_numpy(np.log(PROBABILITIES))
    return [{"image": logits[i], "label": LABELS[i], "case": CASES[i], "index": i, "crop_z": CROP_Z[i]} for i in order]


def evaluate(metric: Classification, data: list[dict], batch_size: int = 2):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=batch_size),
        network=torch.nn.Identity(),
        key_val_metric={"best": metric},
    )
    evaluator.run()
    return evaluator.state


def test_a_nucleus_has_the_mean_probabilities_of_its_crops() -> None:
    crops = classification_metrics(PROBABILITIES, LABELS, NAMES, cases=CASES, columns={"crop_z": CROP_Z})
    nuclei = merge_parts(crops)
    assert nuclei.cases == ["n1", "n2", "n3"]
    np.testing.assert_allclose(nuclei.probabilities, [[0.45, 0.35, 0.2], [0.5, 0.4, 0.1], [0.2, 0.25, 0.55]])
    assert (nuclei.metrics["accuracy"], nuclei.metrics["top2_accuracy"]) == pytest.approx((2 / 3, 1.0))
    assert (crops.metrics["accuracy"], crops.metrics["top2_accuracy"]) == pytest.approx((3 / 5, 4 / 5))
    assert nuclei.confusion_matrix == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert crops.confusion_matrix_normalised == [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 1]]
    assert [row["prediction"] for row in nuclei.rows()] == ["A", "A", "C"]
    assert list(crops.rows()[1]) == ["case", "crop_z", "prob_A", "prob_B", "prob_C", "prediction", "label"]
    assert crops.rows()[1]["crop_z"] == 80
    assert list(nuclei.rows()[1]) == ["case", "prob_A", "prob_B", "prob_C", "prediction", "label"]


def test_parts_that_lie_apart_are_put_together_in_the_order_of_the_first() -> None:
    order = [3, 0, 2, 4, 1]
    crops = classification_metrics(
        PROBABILITIES[order], [LABELS[i] for i in order], NAMES, cases=[CASES[i] for i in order]
    )
    nuclei = merge_parts(crops)
    assert nuclei.cases == ["n3", "n1", "n2"]
    np.testing.assert_allclose(nuclei.probabilities[0], [0.2, 0.25, 0.55])


def test_crops_of_one_nucleus_with_two_labels_are_refused() -> None:
    crops = classification_metrics(PROBABILITIES, [0, 1, 1, 2, 2], NAMES, cases=CASES)
    with pytest.raises(DataError, match="case 'n1' has parts labelled 'A' and parts labelled 'B'"):
        merge_parts(crops)


def test_top2_accuracy_has_an_interval_and_gives_a_tie_to_the_first_classes() -> None:
    result = classification_metrics(PROBABILITIES, LABELS, NAMES)
    low, high = classification_intervals(result, n=50)["top2_accuracy"].ends
    assert low <= 4 / 5 <= high
    tied = classification_metrics(np.full((3, 3), 1 / 3), [0, 1, 2], NAMES)
    assert tied.metrics["top2_accuracy"] == pytest.approx(2 / 3)
    assert tied.metrics["accuracy"] == pytest.approx(1 / 3)


def test_two_classes_have_no_top2_accuracy() -> None:
    result = classification_metrics([[0.2, 0.8], [0.6, 0.4]], [0, 1], ["a", "b"])
    assert "top2_accuracy" not in result.metrics
    with pytest.raises(ConfigError, match="got 'top2_accuracy'"):
        Classification(["a", "b"], key="top2_accuracy")


def test_a_class_without_cases_has_no_shares_and_is_explained_in_the_text_report() -> None:
    result = classification_metrics(PROBABILITIES[[0, 3]], [0, 2], NAMES)
    assert result.to_dict()["confusion_matrix_normalised"] == [[1, 0, 0], [None] * 3, [0, 0, 1]]
    assert "Classes without cases" in str(result.report())
    assert "Classes without cases" not in str(classification_metrics(PROBABILITIES, LABELS, NAMES).report())


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="expected 5 values in column 'crop_z', got 2"):
        classification_metrics(PROBABILITIES, LABELS, NAMES, columns={"crop_z": [0, 80]})


def test_the_state_holds_both_levels_and_the_loss_of_the_crops() -> None:
    metric = Classification(
        NAMES,
        torch.nn.CrossEntropyLoss(),
        "top2_accuracy",
        cases="nuclei",
        instances="crops",
        instance_columns=["crop_z"],
    )
    state = evaluate(metric, items())
    assert state.metrics["accuracy"] == pytest.approx(2 / 3)
    assert state.metrics["crops_accuracy"] == pytest.approx(3 / 5)
    assert state.metrics["crops_top2_accuracy"] == pytest.approx(4 / 5)
    assert state.metrics["best"] == state.metrics["top2_accuracy"] == 1.0
    expected = -np.log(PROBABILITIES[range(5), LABELS]).mean()
    assert state.metrics["loss"] == pytest.approx(expected)
    assert state.metric_details["classification"].cases == ["n1", "n2", "n3"]
    assert state.metric_details["instances"].columns == {"crop_z": CROP_Z}
    json.dumps(state.metric_details["instances"].columns)


def test_neither_the_order_of_the_crops_nor_repetitions_change_a_bit() -> None:
    plain = evaluate(Classification(NAMES, cases="nuclei", instances="crops"), items())
    other = evaluate(Classification(NAMES, cases="nuclei", instances="crops"), items([4, 2, 0, 3, 1, 0]), batch_size=4)
    assert other.metrics == plain.metrics
    assert other.metric_details["classification"].cases == ["n1", "n2", "n3"]


def test_without_parts_there_is_one_level() -> None:
    state = evaluate(Classification(NAMES), items())
    assert "parts" not in state.metric_details
    assert state.metrics["accuracy"] == pytest.approx(3 / 5)
    assert not [name for name in state.metrics if name.startswith("crops")]


def test_two_crops_of_one_nucleus_with_the_same_index_are_refused() -> None:
    metric = Classification(NAMES, cases="nuclei", instances="crops", instance_columns=["crop_z"])
    batch = [{"case": "n1", "index": 0, "crop_z": z} for z in (0, 80)]
    metric.update((batch, [{"pred": torch.zeros(3), "label": 0}] * 2))
    with pytest.raises(DataError, match="both have index 0"):
        metric.compute()


def test_wrong_columns_are_named() -> None:
    with pytest.raises(ConfigError, match=r"instance_columns \['crop_z'\] need a name in instances"):
        Classification(NAMES, instance_columns=["crop_z"])
    metric = Classification(NAMES, cases="nuclei", instances="crops", instance_columns=["crop_x"])
    with pytest.raises(ConfigError, match="have no 'crop_x'"):
        metric.update(([{"case": "n1", "index": 0}], [{"pred": torch.zeros(3), "label": 0}]))


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # Both crops of n1 and of n3 are on different ranks; rank 1 repeats a crop to make the shares equal.
    state = evaluate(Classification(NAMES, cases="nuclei", instances="crops"), items([[0, 2, 4], [1, 3, 0]][rank]))
    content = {"metrics": state.metrics, "cases": state.metric_details["classification"].cases}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(content))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_crops_of_a_nucleus_may_be_in_different_processes(tmp_path: Path) -> None:
    run_two(_rank, str(tmp_path))
    alone = evaluate(Classification(NAMES, cases="nuclei", instances="crops"), items())
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"metrics": alone.metrics, "cases": ["n1", "n2", "n3"]}
