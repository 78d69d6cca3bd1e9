"""How often a training iteration makes the host wait for the device: to read one scalar is to wait."""

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from monai_ext.engines import TrainingStep
from monai_ext.handlers.console import Console
from monai_ext.handlers.history import History

READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal)


class Reads(TorchDispatchMode):
    """Counts the operations that give values of a tensor to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in READS
        return func(*args, **(kwargs or {}))


class Lists(TorchFunctionMode):
    """Counts reads of whole tensors, which no operation stands for."""

    def __init__(self, reads):
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.reads.count += func is torch.Tensor.tolist
        return func(*args, **(kwargs or {}))


def reads_by_iteration(step, iterations=4, scaler=None):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    data = [{"image": torch.randn(4, 3), "label": torch.rand(4, 2)} for _ in range(iterations)]
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=data,
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=step,
        decollate=False,
    )
    step.prepare(trainer)
    if scaler is not None:
        step.scaler = scaler
    history = History()
    history.attach(trainer)
    Console().attach(trainer)
    counts = []
    counter = Reads()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: counts.append(counter.count))
    with counter, Lists(counter):
        trainer.run()
    return [after - before for before, after in zip([0, *counts], counts, strict=False)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, [1, 1, 1, 1]), ({"grad_clip": 1.0}, [1, 1, 1, 1]), ({"accumulate": 2}, [1, 2, 1, 2])],
    ids=["plain", "clipped", "accumulated"],
)
def test_an_iteration_reads_one_flag(monkeypatch, arguments, expected):
    monkeypatch.setattr("monai_ext.handlers.console._RecentLoss.seconds", 1e9)
    first, *others = reads_by_iteration(TrainingStep(decollate=True, **arguments))
    # The bar shows a loss a few times a second, for the first time in the first iteration.
    assert [first - 1, *others] == expected


def test_fp16_does_not_wait_once_more_for_the_scaler(monkeypatch):
    monkeypatch.setattr("monai_ext.handlers.console._RecentLoss.seconds", 1e9)
    plain = reads_by_iteration(TrainingStep(decollate=True))
    scaled = reads_by_iteration(TrainingStep(decollate=True), scaler=torch.amp.GradScaler("cpu"))
    assert scaled == plain
