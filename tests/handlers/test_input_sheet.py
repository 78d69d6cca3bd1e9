"""What a run shows of its inputs, and of its mistakes."""

import json
import logging

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from torch import nn

from monai_ext.data import PreparedDataset, SeededLoader
from monai_ext.engines import TrainingStep
from monai_ext.handlers import StandardTraining
from monai_ext.handlers.input_sheet import draw_inputs
from monai_ext.handlers.mistakes import draw_mistakes, heat_map, wrong_answers
from monai_ext.metrics import classification_metrics, multi_label_metrics
from monai_ext.predictions import Classification
from monai_ext.runs import RunFolder

NAMES = ["dark", "light"]


class Classifier(nn.Sequential):
    """Sees the mean; operations in place as in many networks."""

    def __init__(self, channels=1):
        super().__init__(
            nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(),
            nn.Linear(4 * 64, 2),
        )  # fmt: skip


def image(number, scale):
    return scale * np.random.default_rng(number).random((1, 8, 8), np.float32)


def loaders(scale=1.0):
    items = [{"case": f"case {number}", "image": image(number, scale), "label": number % 2} for number in range(16)]
    plain = [Lambdad("image", lambda array: torch.as_tensor(array))]
    noisy = Compose([*plain, RandGaussianNoised("image", prob=1.0, std=0.1)])
    train = SeededLoader(PreparedDataset(items[:12], noisy), batch_size=4, shuffle=True, device="cpu")
    return train, SeededLoader(PreparedDataset(items[12:], plain), batch_size=4, device="cpu")


def train(folder, scale=1.0, **given):
    train_loader, val_loader = loaders(scale)
    network = Classifier()
    predictions = Classification(NAMES, nn.CrossEntropyLoss())
    evaluator = SupervisedEvaluator("cpu", val_loader, network, key_val_metric={"auc": predictions})
    handler = StandardTraining(
        RunFolder(folder), evaluator=evaluator, predictions=predictions, class_names=NAMES, plot_every=0, **given
    )
    SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=train_loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.0),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=TrainingStep(amp=False),
        train_handlers=[ValidationHandler(1, evaluator), handler],
        decollate=False,
    ).run()
    (run,) = folder.glob("fold_1/run_*")
    return run


def test_a_training_draws_its_inputs_and_mistakes_and_reports_them(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "monai_ext"):
        run = train(tmp_path)
    page = (run / "report.html").read_text()
    for name, title in (("inputs", "Inputs"), ("mistakes", "Mistakes in pictures")):
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f'<h2 id="{title.lower().replace(" ", "-")}">{title}' in page
    assert page.count("data:image/png") == len(list((run / "plots").glob("*.png")))
    assert not [text for text in caplog.messages if "inputs" in text]


def test_a_training_on_inputs_without_contrast_warns_in_log_and_report(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "monai_ext"):
        run = train(tmp_path, scale=0.008)
    (warning,) = [text for text in caplog.messages if "of 12 inputs" in text]
    assert "hardly any contrast" in warning
    assert "11 more of 12 cases" in warning
    assert warning.removeprefix("of 12 ") in json.loads((run / "run.json").read_text())["warnings"]
    assert "hardly any contrast" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("monai_ext.handlers.standard_training.draw_inputs", "the picture of the inputs"),
        ("monai_ext.handlers.standard_training.draw_mistakes", "the picture of the mistakes"),
    ],
)
def test_a_picture_that_fails_does_not_fail_the_training(tmp_path, monkeypatch, caplog, broken, what):
    monkeypatch.setattr(broken, lambda *_: 1 / 0)
    run = train(tmp_path)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert f"{what} could not be made (ZeroDivisionError" in caplog.text


def test_drawing_inputs_does_not_change_what_is_trained(tmp_path):
    train_loader, plain_loader = loaders()
    before = [batch["image"] for batch in train_loader]
    draw_inputs(tmp_path / "inputs.png", train_loader, plain_loader)
    for one, other in zip(before, train_loader, strict=True):
        assert torch.equal(one, other["image"])


def result(probabilities, labels):
    cases = [f"case {number}" for number in range(len(labels))]
    return classification_metrics(np.array(probabilities), labels, NAMES, cases=cases)


def test_wrong_answers_come_with_the_most_certain_first():
    found = list(wrong_answers(result([[0.4, 0.6], [0.9, 0.1], [0.05, 0.95], [0.7, 0.3]], [0, 1, 0, 0])))
    assert [(one.case, one.answer) for one in found] == [("case 2", 1), ("case 1", 0), ("case 0", 1)]
    assert (found[0].truth, found[0].text) == ("is dark (0.05)", "predicted light (0.95)")


def test_of_several_labels_the_worst_of_a_case_is_shown():
    probabilities = np.array([[0.9, 0.2], [0.4, 0.1], [0.8, 0.7]])
    labels = np.array([[0, 0], [0, 1], [1, 1]])
    found = list(wrong_answers(multi_label_metrics(probabilities, labels, ["nodule", "effusion"], cases=list("abc"))))
    assert [(one.case, one.answer, one.truth, one.text) for one in found] == [
        ("a", 0, "false alarm", "nodule (0.90)"),
        ("b", 1, "missed", "effusion (0.10)"),
    ]


def test_nothing_is_drawn_without_a_mistake(tmp_path):
    predictions = Classification(NAMES)
    predictions.best = result([[0.9, 0.1], [0.1, 0.9]], [0, 1])
    assert not draw_mistakes(tmp_path / "mistakes.png", Classifier(), predictions, loaders()[1])
    assert not (tmp_path / "mistakes.png").exists()


def test_a_heat_map_is_hot_where_the_class_is_seen():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[3].weight.copy_(torch.tensor([[-1.0], [1.0]]))
    picture = torch.zeros(1, 1, 8, 8)
    picture[..., :4, :4] = 1
    heat = heat_map(network.eval(), picture, 1)
    assert heat.shape == (1, 8, 8)
    assert heat[0, :4, :4].min() == pytest.approx(1)
    assert heat[0, 5:, 5:].max() == 0
    assert heat_map(network, picture, 0).max() == 0


def test_frozen_networks_have_heat_maps_and_stay_as_they_are(tmp_path):
    network = Classifier().requires_grad_(False)
    predictions = Classification(NAMES)
    predictions.best = classification_metrics(
        np.array([[0.9, 0.1]] * 4), [1] * 4, NAMES, cases=[f"case {number}" for number in range(12, 16)]
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert draw_mistakes(tmp_path / "mistakes.png", network, predictions, loaders()[1])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network[2].inplace
    assert not network[0]._forward_hooks


@pytest.mark.parametrize("slices", [1, 5])
def test_slices_of_a_volume_have_a_map_each(slices):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.each = Classifier()
            self.each[2] = nn.ReLU()

        def forward(self, x):
            return self.each(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1)

    assert heat_map(Pooled().eval(), torch.rand(1, slices, 1, 8, 8), 0).shape == (slices, 1, 8, 8)
