"""Slices with one mask through everything that writes results."""

import csv
import json
import shutil

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.losses import DiceLoss

from monai_ext import runs
from monai_ext.engines import TrainingStep
from monai_ext.errors import ConfigError
from monai_ext.handlers import SlicePreviews, StandardEvaluation, StandardTraining
from monai_ext.networks import read_checkpoint
from monai_ext.predictions import Masks
from monai_ext.predictions.kind import NO_BEST
from monai_ext.reports import write_report
from monai_ext.reports.run_folder import read_run

TARGETS = {"lesion": {"channels": 1, "activation": "sigmoid"}}
LOSS = DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1)


def slices(count=8):
    """Bright squares are the lesions; every fourth slice has none. Three patients."""
    items = []
    for index in range(count):
        label = torch.zeros(1, 16, 16)
        if index % 4 != 3:
            label[:, 3 : 7 + index, 4:10] = 1
        noise = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(index))
        patient = f"p{index % 3}"
        item = {"image": 2 * label - 1 + 0.8 * noise, "label": label, "patient": patient}
        items.append({**item, "case": f"{patient}/{index}", "index": index})
    return items


def make_evaluator(network, handlers=(), predictions=None):
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(slices()), batch_size=3),
        network=network,
        key_val_metric={"dice": predictions or Masks(LOSS)},
        val_handlers=list(handlers),
    )


def make_network():
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 1, 3, padding=1)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def taken():
    """Outputs that hold the result of a validation."""
    predictions = Masks(LOSS)
    engine = make_evaluator(torch.nn.Identity(), predictions=predictions)
    engine.run()
    predictions.take(engine)
    return predictions


def test_metrics_are_plain_and_have_intervals_when_asked(taken):
    content = json.loads(json.dumps(taken.metrics(intervals=True), allow_nan=False))
    assert (content["task"], content["target"], content["cases"]) == ("segmentation", "lesion", "slices")
    assert content["metrics"]["empty_slices"] == 2
    assert content["metrics"]["val_loss"] == taken.best.metrics["loss"]
    assert content["intervals"] == {}
    assert content["interval_methods"]["dice"] == {
        **{"method": "bootstrap", "unit": "patients", "n": 3},
        "not_estimable": "patients with a mask: 3, fewer than 10",
    }
    assert "interval_methods" not in taken.metrics()


def test_files_have_a_row_a_slice_and_a_row_a_patient(taken, tmp_path):
    taken.write(tmp_path)
    found = rows(tmp_path / "val_slices.csv")
    columns = ["case", "patient", "dice", "iou", "loss", "true_pixels", "predicted_pixels", "overlap_pixels"]
    assert list(found[0]) == columns
    assert [row["case"] for row in found] == [item["case"] for item in slices()]
    of_patients = rows(tmp_path / "val_patients.csv")
    assert [row["patient"] for row in of_patients] == ["p0", "p1", "p2"]
    assert sum(int(row["true_pixels"]) for row in of_patients) == sum(int(row["true_pixels"]) for row in found)


def test_before_the_first_validation_there_is_nothing(tmp_path):
    predictions = Masks()
    predictions.restore(Masks().best_state())
    predictions.write(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert predictions.metrics()["skipped"] == [NO_BEST]
    assert predictions.best is predictions.report() is None
    assert predictions.drawn() == {}


def test_the_state_survives_a_checkpoint(taken, tmp_path):
    torch.save(taken.best_state(), tmp_path / "state.pt")
    again = Masks()
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.best == taken.best


def test_metadata_have_one_channel_of_the_size_of_the_run():
    formats = Masks(name="cord").formats({"pred": {"type": "image", "num_channels": 9}, "x": {}}, (1, 48, 64))
    expected = {"type": "image", "num_channels": 1, "spatial_shape": [48, 64], "channel_def": {"0": "cord"}}
    assert formats == {"pred": expected, "x": {}}


def train(folder, epochs):
    """A short training."""
    run = runs.RunFolder(folder)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    predictions = Masks(LOSS)
    validation = make_evaluator(network, predictions=predictions)
    step = TrainingStep(amp=False)
    training = StandardTraining(
        run,
        network,
        optimizer,
        step,
        evaluator=validation,
        predictions=predictions,
        previews=SlicePreviews(TARGETS, count=2),
        monitors={"best": ["dice", "-val_loss"]},
        keep_best=2,
        data={"train": slices(), "val": slices()},
        plot_every=0,
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(slices()), batch_size=4),
        network=network,
        optimizer=optimizer,
        loss_function=LOSS,
        iteration_update=step,
        train_handlers=[ValidationHandler(interval=1, validator=validation), training],
    )
    trainer.run()
    return run.path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"), epochs=4)


def test_a_training_keeps_the_epochs_with_the_best_dice(trained):
    content = json.loads((trained / "metrics" / "metrics.json").read_text())
    history = content["history"]
    ranked = sorted(history, key=lambda entry: (-entry["dice"], entry["val_loss"]))
    assert content["best_epoch"] == ranked[0]["epoch"]
    assert content["key_metric"] == "dice"
    assert content["metrics"]["dice"] == ranked[0]["dice"]
    kept = {path.name for path in (trained / "checkpoints").glob("best_epoch_*.pt")}
    assert kept == {f"best_epoch_{entry['epoch']:03d}.pt" for entry in ranked[:2]}
    assert read_checkpoint(trained / "checkpoints" / "best.pt")["epoch"] == content["best_epoch"]


def test_a_training_leaves_predictions_of_its_best_epoch(trained):
    content = json.loads((trained / "metrics" / "metrics.json").read_text())
    found = rows(trained / content["predictions"])
    of_masks = [float(row["dice"]) for row in found if float(row["true_pixels"])]
    assert sum(of_masks) / len(of_masks) == pytest.approx(content["metrics"]["dice"])
    assert set(content["interval_methods"]) >= {"dice", "iou"}


def test_an_evaluation_reports_the_same_as_the_training(trained, tmp_path):
    network = make_network()
    network.load_state_dict(read_checkpoint(trained / "checkpoints" / "best.pt")["model"])
    run = runs.RunFolder(tmp_path)
    predictions = Masks(LOSS)
    make_evaluator(network, [StandardEvaluation(run, predictions, {"val": slices()})], predictions).run()
    found, expected = (json.loads((folder / "metrics" / "metrics.json").read_text()) for folder in (run.path, trained))
    for name in ("dice", "iou", "precision", "recall", "patient_dice", "val_loss"):
        assert found["metrics"][name] == pytest.approx(expected["metrics"][name])
    assert found["interval_methods"] == expected["interval_methods"]


def test_a_training_draws_previews_of_each_epoch(trained):
    assert [path.name for path in sorted((trained / "previews").iterdir())] == [
        f"epoch_000{n}.png" for n in range(1, 5)
    ]


def test_previews_are_of_slices_with_a_mask_where_a_batch_has_one():
    previews = SlicePreviews(TARGETS)
    evaluator = make_evaluator(torch.nn.Identity())
    evaluator.data_loader = DataLoader(Dataset(slices()[3:] + slices()[3:4]), batch_size=2)
    previews.attach(evaluator)
    evaluator.run()
    assert [sample["case"] for sample in previews.samples] == ["p1/4", "p2/5", "p1/7"]
    sample = previews.samples[0]
    assert sample["image"].shape == sample["label"]["lesion"].shape == sample["pred"]["lesion"].shape == (1, 16, 16)
    assert 0 < sample["pred"]["lesion"].min() < sample["pred"]["lesion"].max() < 1


def test_one_tensor_for_several_targets_is_an_error():
    evaluator = make_evaluator(torch.nn.Identity())
    SlicePreviews({**TARGETS, "cord": {"channels": 1}}).attach(evaluator)
    with pytest.raises(ConfigError, match="one tensor for the targets lesion, cord"):
        evaluator.run()


@pytest.fixture(scope="module")
def page(trained):
    return (trained / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [
        "Validation dice",
        "mean over the slices with a mask",
        "not estimable: patients with a mask: 3, fewer than 10",
        "2 of 8 slices have no mask",
        "Dice of each slice over the size of its mask",
        "p2/5",
        "Previews",
    ],
)
def test_the_report_of_a_training_tells_of_its_masks(page, words):
    assert words in page


def test_the_report_reads_the_predictions_back(page, trained):
    assert "val_slices.csv:" not in page
    result = read_run(trained).result
    content = json.loads((trained / "metrics" / "metrics.json").read_text())
    for name in ("dice", "iou", "patient_dice", "empty_slices"):
        assert result.metrics[name] == pytest.approx(content["metrics"][name])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,patient\ns1,a\n", "'true_pixels' is missing"),
        ("case,patient,true_pixels,overlap_pixels\ns1,a,9,many\n", "case 's1', column 'overlap_pixels': 'many'"),
        ("case,patient,true_pixels\n", "has no rows"),
        (None, "not there"),
    ],
    ids=["column", "number", "empty", "missing"],
)
def test_damaged_predictions_become_a_sentence(trained, tmp_path, text, told):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    path = folder / "predictions" / "val_slices.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    run = read_run(folder)
    assert run.result is None
    assert [line for line in run.problems if line.startswith("val_slices.csv: ") and told in line]
    assert "There are no scores of single slices." in write_report(folder).read_text(encoding="utf-8")


def test_slices_without_loss_are_read_back(tmp_path):
    predictions = Masks()
    predictions.update(([{**item, "pred": item["image"]} for item in slices(3)], [{}] * 3))
    predictions.files().write(tmp_path)
    again = Masks.read(tmp_path / "val_slices.csv", {})
    assert again.rows() == predictions.compute().result.rows()


def test_a_file_of_an_older_version_may_hold_slices_without_finite_output(tmp_path):
    path = tmp_path / "val_slices.csv"
    path.write_text("case,patient,true_pixels,predicted_pixels,overlap_pixels\ns1,a,9,8,7\ns2,a,9,,\n")
    result = Masks.read(path, {})
    assert result.skipped == ["all metrics: the network's output isn't finite on 1 slices, such as s2"]
