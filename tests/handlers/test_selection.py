"""The epoch that is reported: with noise for labels only the rules that choose on other cases report chance."""

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import nn

from monai_ext.data import SeededLoader
from monai_ext.engines import TrainingStep
from monai_ext.errors import ConfigError
from monai_ext.handlers import StandardTraining
from monai_ext.handlers.selection import EpochSelection
from monai_ext.io import read_csv, read_json
from monai_ext.networks import read_checkpoint
from monai_ext.predictions import Classification, MultiLabel
from monai_ext.runs import RunFolder

CASES, EPOCHS, REPEATS = 200, 6, 30


class Items(Dataset):
    def __init__(self, data):
        super().__init__(data)
        self.transform = dict  # a Compose would get a random state for every sample

    def set_data(self, data):
        self.data = data


class Guess(nn.Module):
    """Scores that are new in every epoch and have nothing to do with the labels."""

    def __init__(self, seed):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("epoch", torch.tensor(0.0))
        self.seed = seed

    def forward(self, images):
        if self.training:
            self.epoch += 1
            return self.weight.expand(len(images), 2)
        keys = [[self.seed, int(self.epoch), int(image)] for image in images[:, 0]]
        return torch.tensor(np.array([np.random.default_rng(key).normal(size=2) for key in keys]), dtype=torch.float32)


def items(start, count=CASES):
    return [
        {"image": torch.tensor([float(start + n)]), "label": n % 2, "case": f"c{start + n}", "index": n}
        for n in range(count)
    ]


def trained(folder, selection, seed=0, predictions=None, monitors=("auc",), **arguments):
    """The run folder of a training, and its handler."""
    data = {"train": items(0, 2), "inner": items(1000), "val": items(2000)}
    network = Guess(seed)
    predictions = predictions or Classification(["a", "b"])
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=SeededLoader(Items(data["val"]), 256, device="cpu"),
        network=network,
        key_val_metric={"auc": predictions},
    )
    run = RunFolder(folder)
    handler = StandardTraining(
        run,
        evaluator=evaluator,
        predictions=predictions,
        monitors={"best": list(monitors)},
        data=data,
        selection=selection,
        plot_every=0,
        **arguments,
    )
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=EPOCHS,
        train_data_loader=SeededLoader(Items(data["train"]), 2, shuffle=True, device="cpu"),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=TrainingStep(amp=False),
        train_handlers=[ValidationHandler(1, evaluator), handler],
        decollate=False,
    )
    trainer.run()
    return run / "", handler


@pytest.mark.parametrize("selection", ["best", "last", "inner"])
def test_every_record_says_how_the_epoch_was_chosen(tmp_path, selection):
    run, _ = trained(tmp_path, selection, seed=0)
    content = read_json(run / "metrics" / "metrics.json")
    found, history = content["selection"], content["history"]
    by_epoch = [entry["auc"] for entry in history]
    best = int(np.argmax(by_epoch)) + 1
    assert found["rule"] == selection
    assert found["epoch"] == content["best_epoch"] == {"last": EPOCHS}.get(selection, best)
    assert read_checkpoint(run / "checkpoints" / "best.pt")["epoch"] == found["epoch"]
    assert found["optimistic"] == (selection == "best")
    assert found["sentence"] in (run / "report.html").read_text(encoding="utf-8").replace("&#x27;", "'")
    rows = read_csv(run / "predictions" / "val_predictions.csv", ["case", "prob_b"])
    assert {row["case"] for row in rows} == {item["case"] for item in items(2000)}
    if selection == "best":
        assert found["last_epoch"]["metrics"]["auc"] == by_epoch[-1] < content["metrics"]["auc"]
        assert found["epochs_compared"] == EPOCHS
    else:
        assert "last_epoch" not in found


def test_the_fold_is_evaluated_once_with_the_network_chosen_on_the_inner_part(tmp_path):
    run, handler = trained(tmp_path, "inner", seed=5)
    content = read_json(run / "metrics" / "metrics.json")
    assert handler.network.epoch == content["best_epoch"]
    reported, inner = content["metrics"]["auc"], [entry["auc"] for entry in content["history"]]
    again = Guess(5).eval()
    again.epoch += content["best_epoch"]
    logits = again(torch.stack([item["image"] for item in items(2000)]))
    rows = read_csv(run / "predictions" / "val_predictions.csv", ["prob_b"])
    np.testing.assert_allclose([float(row["prob_b"]) for row in rows], logits.softmax(1)[:, 1], rtol=1e-5)
    assert reported not in inner


def test_thresholds_for_the_fold_are_those_of_the_inner_part(tmp_path):
    class OneHot(MultiLabel):
        def label(self, given, name):
            return tuple(np.eye(2)[int(given)].tolist())

    predictions = OneHot(["a", "b"])
    run, _ = trained(tmp_path, "inner", 1, predictions, ["auroc"])
    content = read_json(run / "metrics" / "metrics.json")
    assert content["thresholds_chosen_here"] is False
    assert content["thresholds_chosen_on"] == "other cases"
    rows = read_csv(run / "predictions" / "val_predictions.csv", ["thresholds_chosen_on"])
    assert {row["thresholds_chosen_on"] for row in rows} == {"other cases"}
    assert content["thresholds"] == read_checkpoint(run / "checkpoints" / "best.pt")["thresholds"]


def test_the_last_epoch_is_not_stopped_early_and_its_schedule_does_not_see_the_fold(tmp_path):
    run, handler = trained(tmp_path, "last", patience=1, min_epochs=1)
    assert len(read_json(run / "metrics" / "metrics.json")["history"]) == EPOCHS
    assert handler.selection.schedule_metric == "-train_loss"


def test_an_unknown_rule_and_a_missing_inner_part_are_refused():
    with pytest.raises(ConfigError, match="--selection first: must be best, last or inner"):
        EpochSelection("first", ["auc"])
    with pytest.raises(ConfigError, match="the data have no section 'inner'"):
        EpochSelection("inner", ["auc"], data={"train": [], "val": []})


@pytest.mark.slow
def test_noise_is_reported_as_chance_unless_the_epoch_was_chosen_on_the_reported_cases(tmp_path, monkeypatch):
    # all that only writes or draws
    for name in ("open_log", "open", "epoch", "plot", "metrics"):
        monkeypatch.setattr(f"monai_ext.handlers.run_records.RunRecords.{name}", lambda *_, **__: None)
    monkeypatch.setattr(Classification, "write", lambda *_: None)
    for name in ("_save", "_say_selection", "_say_what_next", "_draw_mistakes"):
        monkeypatch.setattr(StandardTraining, name, lambda *_, **__: None)
    monkeypatch.setattr("monai_ext.handlers.run_records.RunRecords.finish", lambda *_: "")
    means = {}
    for selection in ("best", "last", "inner"):
        found = [
            trained(tmp_path / selection / str(seed), selection, seed)[1].best_metrics["auc"] for seed in range(REPEATS)
        ]
        means[selection] = float(np.mean(found))
    assert means["last"] == pytest.approx(0.5, abs=0.02)
    assert means["inner"] == pytest.approx(0.5, abs=0.02)
    assert means["best"] > 0.54
