"""Volumes with several labels and their slices through everything that writes results."""

import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from scipy.special import expit

from monai_ext import runs
from monai_ext.errors import ConfigError
from monai_ext.handlers import RunRecords, StandardEvaluation, StandardTraining
from monai_ext.io import write_json
from monai_ext.metrics import choose_thresholds
from monai_ext.networks import read_checkpoint, saved_thresholds
from monai_ext.predictions import Classification, MultiLabel
from monai_ext.predictions.kind import NO_BEST
from monai_ext.reports import write_report

NAMES = ["Lung nodule", "Pleural effusion", "Hiatal hernia"]
# Six volumes of two slices each; no one has a hernia.
OF_VOLUME = {"v1": [1, 0, 0], "v2": [0, 1, 0], "v3": [1, 1, 0], "v4": [0, 0, 0], "v5": [1, 0, 0], "v6": [0, 0, 0]}
RNG = np.random.default_rng(3)
ITEMS = [
    {
        "case": case,
        "slice": 10 * number,
        "label": np.array(label, np.float32),
        "image": torch.tensor(RNG.normal(np.array(label) - 2.5, 1.0), dtype=torch.float64),
        "stamp": "s",
    }
    for case, label in OF_VOLUME.items()
    for number in range(2)
]


def make(cases="volumes", instances="slices", thresholds=None):
    return MultiLabel(
        NAMES,
        torch.nn.BCEWithLogitsLoss(),
        thresholds=thresholds,
        cases=cases,
        instances=instances,
        instance_columns=["slice"] if instances else (),
        merge="max",
    )


def evaluator(predictions, handlers=(), items=ITEMS, network=None):
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{**item, "index": i} for i, item in enumerate(items)]), batch_size=5),
        network=network or torch.nn.Identity(),
        key_val_metric={"best": predictions},
        val_handlers=list(handlers),
    )


def taken(cases="volumes", instances="slices", thresholds=None):
    predictions = make(cases, instances, thresholds)
    engine = evaluator(predictions)
    engine.run()
    predictions.take(engine)
    return predictions


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_level_has_its_file_with_three_columns_a_class(tmp_path):
    predictions = taken()
    predictions.write(tmp_path)
    volumes, slices = rows(tmp_path / "predictions_volumes.csv"), rows(tmp_path / "predictions_slices.csv")
    columns = [f"{part}_{name}" for part in ("prob", "pred", "label") for name in NAMES]
    assert list(volumes[0]) == ["case", *columns, "thresholds_chosen_on"]
    assert list(slices[0]) == ["case", "slice", *columns]
    assert [row["case"] for row in volumes] == list(OF_VOLUME)
    assert [row["slice"] for row in slices[:3]] == ["0", "10", "0"]
    largest = max(float(expit(item["image"][0])) for item in ITEMS[:2])
    assert float(volumes[0]["prob_Lung nodule"]) == pytest.approx(largest)
    assert [int(row["label_Pleural effusion"]) for row in volumes] == [label[1] for label in OF_VOLUME.values()]
    # volumes at the thresholds, slices at one half
    for table, cuts in ((volumes, predictions.best.thresholds), (slices, [0.5] * 3)):
        for row in table:
            predicted = [int(float(row[f"prob_{name}"]) >= cut) for name, cut in zip(NAMES, cuts, strict=True)]
            assert [int(row[f"pred_{name}"]) for name in NAMES] == predicted


def test_without_levels_there_is_the_usual_file(tmp_path):
    taken(None, None).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["val_predictions.csv"]
    MultiLabel(NAMES).write(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_metrics_tell_of_each_class_at_one_half_and_at_the_thresholds_chosen_on_the_volumes():
    predictions = taken()
    content = json.loads(json.dumps(predictions.metrics(intervals=True), allow_nan=False))
    assert content["thresholds"] == choose_thresholds(predictions.best.probabilities, predictions.best.labels)
    assert (content["thresholds_level"], content["thresholds_chosen_here"]) == ("volumes", True)
    assert content["thresholds_chosen_on"] == "these cases"
    (table,) = (rows for name, rows in predictions.best_files().tables.items() if "volumes" in name)
    assert {row["thresholds_chosen_on"] for row in table} == {"these cases"}
    of_class = content["per_class"]["Lung nodule"]
    assert of_class["support"] == 3
    assert of_class["threshold"] == content["thresholds"][0]
    assert of_class["f1_tuned"] >= of_class["f1"]
    assert content["per_class"]["Hiatal hernia"]["auroc"] is None
    assert content["skipped"][0].startswith("class Hiatal hernia: all 6 cases are negative")
    low, high = content["intervals"]["exact_match"]
    assert low <= content["metrics"]["exact_match"] <= high
    assert content["interval_methods"]["exact_match"] == {"method": "Wilson", "unit": "volumes", "n": 6}
    assert content["interval_methods"]["auroc"]["not_estimable"].startswith("volumes with")
    assert (content["task"], content["cases"], content["predictions"]) == (
        *("multi_label", "volumes", "predictions/predictions_volumes.csv"),
    )
    assert content["parts"].keys() == {"name", "metrics", "per_class", "skipped"}
    assert not any(name.endswith("_tuned") for name in content["parts"]["metrics"])


def test_thresholds_of_the_metric_are_kept_as_they_are():
    predictions = taken(thresholds=[0.25, 0.5, 0.75])
    assert predictions.metrics()["thresholds"] == [0.25, 0.5, 0.75]
    assert not predictions.metrics()["thresholds_chosen_here"]


def test_outputs_that_are_not_finite_get_no_thresholds():
    broken = [{**ITEMS[0], "image": torch.full((3,), torch.nan, dtype=torch.float64)}, *ITEMS[1:]]
    predictions = make()
    engine = evaluator(predictions, items=broken)
    engine.run()
    predictions.take(engine)
    assert predictions.for_checkpoint(engine) == {}
    assert predictions.metrics()["thresholds"] is None
    assert "not finite, first v1" in predictions.metrics()["skipped"][0]


@pytest.mark.parametrize(("cases", "instances"), [("volumes", "slices"), (None, None)], ids=["two-levels", "one"])
def test_the_state_comes_back_exactly_from_a_checkpoint(cases, instances, tmp_path):
    predictions = taken(cases, instances)
    torch.save(predictions.best_state(), tmp_path / "state.pt")
    restored = make(cases, instances)
    restored.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert restored.metrics(intervals=True) == predictions.metrics(intervals=True)
    for folder, made in (("before", predictions), ("after", restored)):
        made.write(tmp_path / folder)
    for path in (tmp_path / "before").iterdir():
        assert path.read_bytes() == (tmp_path / "after" / path.name).read_bytes()


def test_before_the_first_validation_there_is_nothing():
    predictions = make()
    predictions.restore(make().best_state())
    assert predictions.metrics()["skipped"] == [NO_BEST]
    assert predictions.best is predictions.report() is None
    assert predictions.drawn() == {}


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="MultiLabel: name both cases and instances"):
        MultiLabel(NAMES, cases="volumes")


def test_metadata_have_a_channel_a_class_as_a_classifier_has():
    formats = {"pred": {"type": "probabilities"}}
    assert MultiLabel(NAMES).formats(formats, (1, 8, 8)) == Classification(NAMES).formats(formats, (1,))


@pytest.fixture
def records(tmp_path):
    run = runs.RunFolder(tmp_path)
    run.open()
    yield RunRecords(run, "train", {"val": ITEMS, "test": []}, NAMES, taken())
    run.close(runs.FINISHED)


def test_the_record_counts_positives_and_lists_the_labels_of_each_volume_once(records):
    records.open(seed=0, first_epoch=None)
    data = records.run.record["data"]
    assert data["counts"]["val"] == {"Lung nodule": 6, "Pleural effusion": 4, "Hiatal hernia": 0}
    assert data["cases"]["val"] == {"Lung nodule": 3, "Pleural effusion": 2, "Hiatal hernia": 0}
    found = rows(records.run / "splits" / "fold_1_val.csv")
    assert {row.pop("case"): [int(value) for value in row.values()] for row in found} == OF_VOLUME
    assert (records.run / "splits" / "fold_1_test.csv").read_text() == "case,class\n"


class Step:
    """Stands for the training step: nothing to learn, nothing to prepare."""

    accumulate, events, scaler = 1, (), torch.amp.GradScaler(enabled=False)

    def prepare(self, engine):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Shift(torch.nn.Module):
    """Adds the same number to all logits."""

    def __init__(self):
        super().__init__()
        self.by = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        return x + self.by


def train(folder, epochs=3):
    """A training in which each epoch adds 1 to all logits: the AUROC stays, the loss has its best later on."""
    network = Shift()
    predictions = make()
    validation = evaluator(predictions, network=network)
    run = runs.RunFolder(folder)

    def step(engine, batch):
        engine.state.batch = {"image": torch.zeros(1, 1, 4, 4)}
        return {"loss": torch.tensor(1.0), "image": torch.zeros(1, 1)}

    trainer = Engine(step)
    trainer.optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        with torch.no_grad():
            network.by.fill_(engine.state.epoch - 3.0)
        validation.run()

    StandardTraining(
        run,
        network,
        trainer.optimizer,
        Step(),
        evaluator=validation,
        predictions=predictions,
        monitors={"best": ["auroc"], "best_loss": ["-val_loss"]},
        data={"val": ITEMS},
        class_names=NAMES,
        plot_every=0,
    ).attach(trainer)
    # no bundle here, from which a run's metadata are made
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=1), lambda: write_json(run / "config" / "metadata.json", {"version": "1"})
    )
    trainer.run([0], max_epochs=epochs)
    return run.path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"))


def test_every_best_checkpoint_holds_the_thresholds_of_its_own_epoch(trained):
    best, by_loss = (read_checkpoint(trained / "checkpoints" / name) for name in ("best.pt", "best_loss.pt"))
    assert (best["epoch"], best["thresholds_level"]) == (1, "volumes")
    metrics = json.loads((trained / "metrics" / "metrics.json").read_text())
    assert best["thresholds"] == metrics["thresholds"]
    assert by_loss["epoch"] != 1
    assert by_loss["thresholds"] != best["thresholds"]
    # the same cases with higher logits
    before, after = (choice["thresholds"][0] for choice in (best, by_loss))
    assert before < after


def test_exports_and_evaluation_get_them_from_there(trained):
    best = read_checkpoint(trained / "checkpoints" / "best.pt")
    metadata = json.loads((trained / "config" / "metadata.json").read_text())
    assert "optimistic" in metadata.pop("selection")
    assert metadata == {"version": "1", "thresholds": best["thresholds"], "thresholds_level": "volumes"}
    assert saved_thresholds(trained / "checkpoints" / "best.pt", "volumes") == best["thresholds"]


def test_the_run_has_its_report(trained):
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Metrics of volumes" in page
    assert "Metrics of slices" in page


def test_an_evaluation_reports_at_the_given_thresholds(tmp_path):
    run = runs.RunFolder(tmp_path)
    predictions = make(thresholds=[0.1, 0.2, 0.3])
    handler = StandardEvaluation(run, predictions, {"val": ITEMS}, NAMES)
    evaluator(predictions, [handler]).run()
    content = json.loads((run / "metrics" / "metrics.json").read_text())
    assert content["thresholds"] == [0.1, 0.2, 0.3]
    assert content["metrics"]["f1_tuned"] == predictions.best.metrics["f1_tuned"]
    assert not any(name.startswith("slices") for name in content["metrics"])
    assert "Lung nodule" in write_report(run.path).read_text(encoding="utf-8")
