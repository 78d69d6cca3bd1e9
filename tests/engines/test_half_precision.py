"""fp16 on an emulated GPU: gradients that overflow under the scaler, and steps that it leaves out."""

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from monai_ext.engines import TrainingError, TrainingStep


class Fp16Step(TrainingStep):
    """A step with the scaler of fp16, on the CPU."""

    def prepare(self, engine):
        super().prepare(engine)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=self.scale)

    scale = 2.0**16


class Overflowing(nn.Module):
    """A loss that is finite and whose gradient is not once it is scaled by more than ``limit``."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, prediction, target):
        loss = nn.functional.cross_entropy(prediction, target)
        return _Limited.apply(loss, self.limit)


class _Limited(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss, limit):
        ctx.limit = limit
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.where(gradient > ctx.limit, torch.inf, gradient), None


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(net, step, loss, iterations=30, with_nan=False):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(4, 3, generator=generator)
    if with_nan:
        image[0, 0] = torch.nan
    batch = {"image": image, "label": torch.tensor([0, 1, 0, 1]), "case": ["a", "b", "c", "d"]}
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[batch] * iterations,
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=loss,
        iteration_update=step,
        decollate=False,
    )
    trainer.run()
    return trainer


def test_steps_that_find_the_scale_are_counted_and_training_goes_on():
    net, step = network(), Fp16Step()
    before = [p.detach().clone() for p in net.parameters()]
    train(net, step, Overflowing(limit=2.0**10))
    assert step.overflows == 6
    assert step.overflows_in_a_row == 0
    assert step.nonfinite == 0
    assert step.events == [
        "fp16: 6 optimizer steps left out because their gradients overflowed (a few are normal: they find the scale)"
    ]
    assert not any(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_the_result_is_that_of_the_steps_that_were_taken():
    scaled, plain = network(), network()
    train(scaled, Fp16Step(), Overflowing(limit=2.0**10), iterations=10)
    train(plain, TrainingStep(), nn.CrossEntropyLoss(), iterations=4)
    for one, other in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_that_never_fit_stop_the_training_below_scale_1():
    step = Fp16Step()
    with pytest.raises(TrainingError, match=r"the last 17 optimizer steps.*scale is down to 0\.5.*a, b, c, d.*bf16"):
        train(network(), step, Overflowing(limit=0.0))
    assert step.overflows == 17


def test_a_limit_in_a_row_stops_the_training_above_scale_1():
    step = Fp16Step(overflow_limit=3)
    with pytest.raises(TrainingError, match="the last 4 optimizer steps"):
        train(network(), step, Overflowing(limit=0.0))


def test_a_loss_that_is_never_finite_is_counted_under_a_scaler_too():
    step = Fp16Step()
    with pytest.raises(TrainingError, match="11 batches had a non-finite loss"):
        train(network(), step, nn.CrossEntropyLoss(), iterations=300, with_nan=True)
    assert step.scaler.get_scale() == 2.0**16  # says nothing about the gradients


def test_the_counts_survive_a_resume():
    step = Fp16Step()
    train(network(), step, Overflowing(limit=2.0**10))
    other = Fp16Step()
    other.load_state_dict(step.state_dict())
    assert (other.overflows, other.overflows_in_a_row, other.events) == (6, 0, step.events)


def test_the_state_of_a_step_from_before_overflows_were_counted_loads():
    step = TrainingStep()
    step.load_state_dict({"nonfinite": 2, "events": ["told"]})
    assert (step.nonfinite, step.overflows, step.events) == (2, 0, ["told"])
