"""What two processes do together, in one start of them: each case's findings go to a file a rank."""

import copy
import json
from collections import OrderedDict

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from monai_ext.engines import TrainingStep, distribute
from monai_ext.engines.ranks import average_gradients
from monai_ext.handlers import FreezeBackbone, FreezeLayers, ProgressiveUnfreeze
from monai_ext.handlers.replicas import ReplicasDifferError, check_replicas
from monai_ext.handlers.signals import GracefulSignals, Interrupted

ITERATIONS = 6
# (rank, iteration) whose images hold a NaN.
BAD = {
    "none": [],
    "first": [(1, 0)],
    "middle": [(0, 3)],
    "last": [(1, 5)],
    "last of a window": [(1, 1)],
    "both of a window": [(0, 2), (1, 3)],
}
ACCUMULATE = (1, 2, 4)
FREEZING = (
    *("nothing", "backbone", "backbone found", "layers", "layers found", "stages", "stages found", "all stages found"),
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(OrderedDict(first=nn.Linear(3, 8), second=nn.Linear(8, 8)))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.relu(self.body.second(torch.relu(self.body.first(x)))))


def batches(rank, bad):
    data = []
    for number in range(ITERATIONS):
        generator = torch.Generator().manual_seed(10 * number + rank)
        image = torch.randn(2, 3, generator=generator)
        if (rank, number) in bad:
            image[0, 0] = torch.nan
        data.append({"image": image, "label": torch.randint(0, 2, (2,), generator=generator), "case": ["a", "b"]})
    return data


def freezing(kind, network, optimizer):
    """Handlers with the network given, or with the one that they find in the trainer, in its multi-process wrapper."""
    stages = ["body.second", "body.first"]
    made = {
        "nothing": lambda: [],
        "backbone": lambda: [FreezeBackbone(network, "head", epochs=1)],
        "backbone found": lambda: [FreezeBackbone(head="head", epochs=1)],
        "layers": lambda: [FreezeLayers(network, "body", [1])],
        "layers found": lambda: [FreezeLayers(module="body", layers=[1])],
        "stages": lambda: [ProgressiveUnfreeze(network, optimizer, stages, interval=1)],
        "stages found": lambda: [ProgressiveUnfreeze(stages=stages, interval=1)],
        "all stages found": lambda: [ProgressiveUnfreeze(stages=stages, interval=None)],
    }
    return made[kind]()


def train(network, wrapped, data, accumulate, kind, epochs=3):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    step = TrainingStep(accumulate=accumulate, nonfinite_limit=99)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=data,
        network=wrapped,
        optimizer=optimizer,
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=step,
        train_handlers=freezing(kind, network, optimizer),
        decollate=False,
    )
    trainer.run()
    return step


def combinations():
    return [
        (accumulate, bad, kind)
        for accumulate in ACCUMULATE
        for bad in BAD
        for kind in FREEZING
        if kind == "nothing" or bad in ("none", "last", "last of a window")
    ]


def name_of(accumulate, bad, kind):
    return f"accumulate {accumulate}, bad {bad}, frozen {kind}"


def trained_together(rank, accumulate, bad, kind):
    network = Net()
    step = train(network, distribute(network, "cpu"), batches(rank, BAD[bad]), accumulate, kind)
    check_replicas(network, 3)
    return {"parameters": [p.flatten().tolist() for p in network.parameters()], "skipped": step.nonfinite}


def trained_alone(accumulate, bad, kind):
    """The reference: one process whose batches are those of both."""
    network = Net()
    parts = [batches(rank, BAD[bad]) for rank in range(2)]
    data = [
        {key: torch.cat([one[key], other[key]]) for key in ("image", "label")}
        for one, other in zip(*parts, strict=True)
    ]
    train(network, network, data, accumulate, kind)
    return [p.flatten().tolist() for p in network.parameters()]


def exploding(rank):
    """A gradient that isn't finite on one process alone, and a loss that is."""

    class Loss(nn.Module):
        def forward(self, prediction, target):
            plain = nn.functional.cross_entropy(prediction, target)
            return plain + (prediction - prediction.detach()).abs().sqrt().sum() if rank == 1 else plain

    network = Net()
    before = copy.deepcopy(network)
    step = TrainingStep()
    SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches(rank, [])[:2],
        network=distribute(network, "cpu"),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=Loss(),
        iteration_update=step,
        decollate=False,
    ).run()
    same = all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))
    return {"untouched": same, "skipped": step.nonfinite}


def signalled(rank, accumulate):
    """A signal that one process alone gets, in its third iteration."""
    network = Net()
    signals, step = GracefulSignals(), TrainingStep(accumulate=accumulate)
    step.pending_signal = signals.pending
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=batches(rank, []),
        network=distribute(network, "cpu"),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=step,
        decollate=False,
    )
    signals.attach(trainer)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=3), lambda: _receive(signals, rank))
    return _ended(trainer)


def signalled_in_validation(rank):
    signals = GracefulSignals()
    data = batches(rank, [])[: 3 + rank]  # the parts of a validation differ in length
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=data, network=Net(), decollate=False)
    signals.attach(SupervisedEvaluator(device="cpu", val_data_loader=[], network=Net()), evaluator)
    evaluator.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: _receive(signals, rank))
    return _ended(evaluator)


def _receive(signals, rank):
    if rank == 1:
        signals.received = 15


def _ended(engine):
    try:
        engine.run()
    except Interrupted as error:
        return {"code": error.code, "iteration": engine.state.iteration}
    return {"code": 0}


def averaged(rank):
    """Gradients that only one rank has, both have, none has."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    if rank == 1:
        parameters[0].grad = torch.full((2,), 4.0)
    parameters[1].grad = torch.full((2,), 1.0 + rank)
    average_gradients(parameters)
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


def drifted(rank):
    network = Net()
    check_replicas(network, 1)
    with torch.no_grad():
        network.body.second.bias[3] += 1e-7 * rank
    try:
        check_replicas(network, 4)
    except ReplicasDifferError as error:
        return {"message": str(error)}
    return {"message": ""}


def rank_main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {name_of(*each): trained_together(rank, *each) for each in combinations()}
    found |= {f"signal, accumulate {n}": signalled(rank, n) for n in ACCUMULATE}
    found |= {"exploding": exploding(rank), "validation": signalled_in_validation(rank), "drifted": drifted(rank)}
    found["averaged"] = averaged(rank)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
