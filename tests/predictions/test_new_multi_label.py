"""Predictions of volumes with several labels, from their slices."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine
from two_processes import run_two

from monai_ext.data.loader import UNKNOWN
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers import WritePredictions
from monai_ext.predictions import MultiLabel

NAMES = ["Lung nodule", "Pleural effusion", "Hiatal hernia"]
# Case, slice and probabilities of five slices of three volumes.
SLICES = [
    ("v1", 10, [0.8, 0.1, 0.4]),
    ("v1", 20, [0.2, 0.3, 0.4]),
    ("v2", 10, [0.1, 0.9, 0.0]),
    ("v3", 10, [0.6, 0.6, 0.2]),
    ("v3", 30, [0.8, 0.0, 0.2]),
]
LABELS = {"v1": [1.0, 0.0, 0.0], "v2": [0.0, 1.0, 1.0], "v3": [0.0, 0.0, 0.0]}


def items(labels=LABELS):
    return [
        {"case": case, "slice": z, "index": i, **({"label": torch.tensor(labels[case])} if case in labels else {})}
        for i, (case, z, _) in enumerate(SLICES)
    ]


def writer(folder, thresholds=None, cases="volumes", instances="slices", instance_columns=("slice",), merge="mean"):
    predictions = MultiLabel(
        NAMES,
        thresholds=thresholds,
        cases=cases,
        instances=instances,
        instance_columns=instance_columns if instances else (),
        merge=merge,
        logits=False,
    )
    return WritePredictions(predictions, folder)


def predict(writer, data=None, batches=((0, 1, 2), (3, 4)), probabilities=None):
    data = items() if data is None else data
    outputs = [p for *_, p in SLICES] if probabilities is None else probabilities

    def step(engine, batch):
        engine.state.batch = [data[i] for i in batch]
        return [{"pred": torch.tensor(outputs[i])} for i in batch]

    engine = Engine(step)
    writer.attach(engine)
    engine.run([list(batch) for batch in batches])


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_how_a_file_was_read_stands_beside_its_prediction(tmp_path):
    data = [{**item, "reading": f"header {i}", "patient": "p"} for i, item in enumerate(items())]
    predict(writer(tmp_path, cases=None, instances=None), data)
    found = rows(tmp_path / "predictions.csv")
    assert list(found[0])[:3] == ["case", "patient", "reading"]
    assert [row["reading"] for row in found] == [f"header {i}" for i in range(5)]
    entries = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [entry["reading"] for entry in entries] == [f"header {i}" for i in range(5)]


def test_volumes_are_at_the_thresholds_and_slices_at_one_half(tmp_path):
    predict(writer(tmp_path, [0.6, 0.2, 0.4]))
    volumes, slices = rows(tmp_path / "predictions_volumes.csv"), rows(tmp_path / "predictions_slices.csv")
    columns = [f"{part}_{name}" for part in ("prob", "pred", "label") for name in NAMES]
    assert list(volumes[0]) == ["case", *columns, "seen_in_training"]
    assert list(slices[0]) == ["case", "slice", *columns, "seen_in_training"]
    assert [(row["case"], row["slice"]) for row in slices] == [(case, str(z)) for case, z, _ in SLICES]
    assert [float(volumes[0][f"prob_{name}"]) for name in NAMES] == pytest.approx([0.5, 0.2, 0.4], abs=1e-6)
    assert [row["pred_Lung nodule"] for row in volumes] == ["0", "0", "1"]
    assert [row["pred_Lung nodule"] for row in slices] == ["1", "0", "0", "1", "1"]
    # 0.3 reaches the threshold of a volume, not one half
    assert [row["pred_Pleural effusion"] for row in slices] == ["0", "0", "1", "1", "0"]
    assert [row["label_Hiatal hernia"] for row in volumes] == ["0", "1", "0"]


def test_the_document_has_classes_thresholds_probabilities_and_findings(tmp_path):
    predict(writer(tmp_path, [0.45, 0.25, 0.9]))
    document = json.loads((tmp_path / "predictions.json").read_text())
    assert (document["class_names"], document["thresholds"]) == (NAMES, [0.45, 0.25, 0.9])
    assert (document["cases"], document["merge"], document["parts"]["name"]) == ("volumes", "mean", "slices")
    v1, _, v3 = document["predictions"]
    assert v1["findings"] == ["Lung nodule"]
    assert v1["probabilities"] == pytest.approx({"Lung nodule": 0.5, "Pleural effusion": 0.2, "Hiatal hernia": 0.4})
    assert v3["findings"] == ["Lung nodule", "Pleural effusion"]
    assert (v1["labels"], v3["labels"]) == (["Lung nodule"], [])
    second = document["parts"]["predictions"][1]
    # 0.3 reaches the threshold of a volume, not one half
    assert (second["slice"], second["findings"]) == (20, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("predictions.json", "predictions_slices.csv", "predictions_volumes.csv"),
    ]


def test_a_volume_can_have_the_largest_probability_of_its_slices(tmp_path):
    predict(writer(tmp_path, merge="max"))
    row = rows(tmp_path / "predictions_volumes.csv")[0]
    assert [float(row[f"prob_{name}"]) for name in NAMES] == pytest.approx([0.8, 0.3, 0.4])
    assert [row[f"pred_{name}"] for name in NAMES] == ["1", "0", "0"]


def test_items_that_are_cases_have_one_file(tmp_path):
    predict(writer(tmp_path, cases=None, instances=None), [{"case": str(i), "index": i} for i in range(5)])
    found = rows(tmp_path / "predictions.csv")
    columns = [f"{part}_{name}" for part in ("prob", "pred") for name in NAMES]
    assert list(found[0]) == ["case", *columns, "seen_in_training"]
    assert [row["case"] for row in found] == list("01234")
    assert "parts" not in json.loads((tmp_path / "predictions.json").read_text())


@pytest.mark.parametrize("unknown", [{}, {"v2": [UNKNOWN] * 3, "v3": [UNKNOWN] * 3}], ids=["absent", "filled-up"])
def test_unknown_labels_are_empty(tmp_path, unknown):
    predict(writer(tmp_path), items({"v1": LABELS["v1"], **unknown}))
    found = rows(tmp_path / "predictions_volumes.csv")
    assert [row["label_Lung nodule"] for row in found] == ["1", "", ""]
    assert ["labels" in entry for entry in json.loads((tmp_path / "predictions.json").read_text())["predictions"]] == [
        *(True, False, False),
    ]
    predict(writer(tmp_path), items({}))
    assert "label_Lung nodule" not in rows(tmp_path / "predictions_slices.csv")[0]


def test_neither_order_nor_repetitions_change_a_byte(tmp_path):
    predict(writer(tmp_path / "a"))
    predict(writer(tmp_path / "b"), batches=((4, 2), (0, 0), (3, 1)))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_second_run_of_the_same_evaluator_begins_anew(tmp_path):
    one = writer(tmp_path)
    predict(one)
    predict(one, batches=((2,),))
    assert [row["case"] for row in rows(tmp_path / "predictions_volumes.csv")] == ["v2"]


def test_no_cases_leave_files_with_a_header(tmp_path):
    writer(tmp_path).predictions.files().write(tmp_path)
    assert (tmp_path / "predictions_volumes.csv").read_text() == "case\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": [0.5]}, "thresholds must be 3 numbers"),
        ({"thresholds": [0.5, 0.5, 1.5]}, "thresholds must be 3 numbers"),
        ({"merge": "median"}, "merge must be one of mean, max, got 'median'"),
        ({"instances": None}, "name both cases and instances"),
    ],
    ids=["count", "range", "merge", "level"],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        writer(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [([0.1, 0.2], "expected 3 probabilities"), ([0.1, float("nan"), 0.2], "are not finite")],
    ids=["count", "nan"],
)
def test_outputs_that_make_no_sense_name_their_case_and_write_nothing(tmp_path, probabilities, message):
    outputs = [p for *_, p in SLICES[:3]] + [probabilities] * 2
    with pytest.raises(DataError, match=f"v3.*{message}"):
        predict(writer(tmp_path), probabilities=outputs)
    assert list(tmp_path.iterdir()) == []


def test_an_item_without_its_number_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="each case needs 'index'"):
        predict(writer(tmp_path), [{"case": "v1", "slice": 1}] * 5)


def test_slices_of_a_volume_with_two_labels_write_nothing(tmp_path):
    data = [{**item, "label": np.ones(3)} if i == 1 else item for i, item in enumerate(items())]
    with pytest.raises(DataError, match="case 'v1' has parts labelled"):
        predict(writer(tmp_path), data)
    assert list(tmp_path.iterdir()) == []


def _rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    predict(writer(folder / "two"), batches=((0, 2, 4),) if rank == 0 else ((1, 3, 0),))
    dist.destroy_process_group()


@pytest.mark.slow
def test_several_processes_write_what_one_writes(tmp_path):
    predict(writer(tmp_path / "one"))
    run_two(_rank, tmp_path)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
