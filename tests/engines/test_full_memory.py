"""Memory that runs out anywhere in an iteration, on a device whose memory is emulated."""

import copy

import pytest
import torch
from device_tensor import DeviceTensor, on_device
from memory_budget import Budget, Layer
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from monai_ext.engines import Autocast, EvaluationStep, ImageAndTargets, TrainingError, TrainingStep, is_out_of_memory
from monai_ext.errors import UserError


def network(budget=None):
    torch.manual_seed(0)
    first = nn.Linear(3, 4)
    return nn.Sequential(first, Layer(budget) if budget else nn.Identity(), nn.ReLU(), nn.Linear(4, 2))


def batches(count=2, size=4):
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "image": torch.randn(size, 3, generator=generator),
            "label": torch.randint(0, 2, (size,), generator=generator),
            "case": [f"case{number}-{i}" for i in range(size)],
        }
        for number in range(count)
    ]


def train(net, data, step, optimizer=None, **kwargs):
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=data,
        network=net,
        optimizer=optimizer or torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=step,
        decollate=False,
        **kwargs,
    )
    trainer.run()
    return trainer


def assert_same(a, b):
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("extra", [0, 1], ids=["forward", "backward"])
@pytest.mark.parametrize("capacity", [2, 4, 6])
def test_a_retry_finds_the_memory_of_the_failed_graph_free(capacity, extra):
    budget = Budget(capacity, extra)
    ours, plain = network(budget), network()
    step = TrainingStep()
    train(ours, batches(), step)
    train(plain, batches(), TrainingStep())
    assert_same(ours, plain)
    assert (budget.refused > 0) == (capacity < 4 * (1 + extra))
    assert len(step.events) == budget.refused
    assert budget.held == 0


def test_in_backward_one_sample_that_does_not_fit_ends_the_run():
    with pytest.raises(TrainingError, match=r"one sample does not fit"):
        train(network(Budget(1, extra=1)), batches(1), TrainingStep())


def test_a_batch_that_cannot_be_moved_is_moved_in_parts(monkeypatch):
    moves = []
    monkeypatch.setattr("monai_ext.engines.training_step.moved", lambda part, device: moves.append(len(part)) or part)
    ours, plain = network(), network()
    step = TrainingStep()

    train(ours, batches(1), step, prepare_batch=_refusing_once())
    monkeypatch.undo()
    train(plain, batches(1), TrainingStep())
    assert_same(ours, plain)
    assert moves == [2, 2, 2, 2]  # images and labels of two halves
    assert "retried in halves" in step.events[0]


def _refusing_once():
    calls = []

    def prepare(batch, device=None, non_blocking=False, **kwargs):
        calls.append(device)
        if len(calls) == 1:
            raise RuntimeError("CUDA error: out of memory")
        return batch["image"], batch["label"]

    return prepare


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_what_cannot_be_moved_follows_the_policy(policy):
    step = TrainingStep(on_oom=policy)
    if policy == "stop":
        with pytest.raises(TrainingError, match="try --batch_size 2"):
            train(network(), batches(1), step, prepare_batch=_refusing_once())
    else:
        trainer = train(network(), batches(1), step, prepare_batch=_refusing_once())
        assert len(trainer.state.output) == 4
        assert "pred" not in trainer.state.output[0]


class Adam(torch.optim.Adam):
    """Runs out of memory in the middle of so many first steps, with one group of parameters already moved."""

    failures = 1

    def __init__(self, params, **kwargs):
        super().__init__(params, foreach=False, **kwargs)
        self.tries = 0

    def _init_group(self, group, *args):
        result = super()._init_group(group, *args)
        self.tries += group is self.param_groups[-1]
        if group is self.param_groups[-1] and self.tries <= self.failures:
            for parameter in group["params"][:1]:
                del self.state[parameter]["exp_avg_sq"]  # the state is half made
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result


def groups(net):
    return [{"params": list(part.parameters())} for part in (net[0], net[3])]


def test_the_optimizers_first_step_is_retried_from_where_it_began():
    ours, plain = network(), network()
    step = TrainingStep()
    train(ours, batches(3), step, Adam(groups(ours), lr=0.1))
    train(plain, batches(3), TrainingStep(), torch.optim.Adam(groups(plain), lr=0.1, foreach=False))
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "optimizer's first step" in step.events[0]


def test_a_state_that_never_fits_ends_with_a_sentence():
    class Never(Adam):
        failures = 99

    net = network()
    with pytest.raises(TrainingError, match=r"its state does not fit beside the network.*--optimizer sgd"):
        train(net, batches(1), TrainingStep(), Never(groups(net)))


def test_a_later_step_without_memory_is_not_repeated():
    net, step = network(), TrainingStep()
    optimizer = Adam(groups(net))
    optimizer.failures = 0
    trainer = train(net, batches(1), step, optimizer)
    optimizer.failures = 99
    trainer.state.max_epochs = 2
    before = copy.deepcopy(net[0].weight)
    with pytest.raises(TrainingError, match=r"in the optimizer's step; try a smaller --batch_size"):
        trainer.run()
    assert not torch.equal(before, net[0].weight)  # half of it had happened; hence no second try


def evaluate(net, data, prepare=None):
    outputs = []
    arguments = {} if prepare is None else {"prepare_batch": prepare}
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=data,
        network=net,
        iteration_update=EvaluationStep(),
        decollate=False,
        **arguments,
    )
    evaluator.add_event_handler("ITERATION_COMPLETED", lambda engine: outputs.append(engine.state.output["pred"]))
    evaluator.run()
    return torch.cat(outputs)


@pytest.mark.parametrize("room", [1, 2, 3, 4])
def test_validation_computes_in_halves_what_does_not_fit(room):
    budget = Budget(room)
    torch.testing.assert_close(evaluate(network(budget), batches()), evaluate(network(), batches()))
    assert (budget.refused > 0) == (room < 4)


def test_validation_moves_in_halves_what_does_not_fit():
    torch.testing.assert_close(evaluate(network(), batches(1), _refusing_once()), evaluate(network(), batches(1)))


@pytest.mark.parametrize("refused", [False, True], ids=["on the device", "on the host"])
def test_predictions_of_a_validation_are_where_its_labels_are(refused):
    class OnDevice(nn.Module):
        def forward(self, x):
            return on_device(x)

    def fitting(batch, device=None, non_blocking=False, **kwargs):
        return on_device((batch["image"], batch["label"]))

    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=batches(1),
        network=OnDevice(),
        prepare_batch=_refusing_once() if refused else fitting,
        iteration_update=EvaluationStep(),
        decollate=False,
    )
    evaluator.run()
    kinds = [type(evaluator.state.output[key]) for key in ("label", "pred")]
    assert kinds == [torch.Tensor if refused else DeviceTensor] * 2


def test_one_sample_too_many_ends_validation_with_a_sentence():
    with pytest.raises(UserError, match=r"one sample.*--val_device cpu"):
        evaluate(network(Budget(0)), batches())


def test_validation_of_several_targets_is_joined():
    class Heads(nn.Module):
        def __init__(self, budget):
            super().__init__()
            self.layer = Layer(budget)

        def forward(self, x):
            return {"sheet": self.layer(x), "normals": self.layer(x) * 2}

    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=[
            {"image": torch.arange(12.0).reshape(4, 3), "sheet": torch.zeros(4), "normals": torch.ones(4)}
        ],
        network=Heads(Budget(1)),
        prepare_batch=ImageAndTargets(["sheet", "normals"]),
        iteration_update=EvaluationStep(),
        decollate=False,
    )
    evaluator.run()
    assert torch.equal(evaluator.state.output["pred"]["normals"], 2 * torch.arange(12.0).reshape(4, 3))


@pytest.mark.parametrize("arguments", [{"amp": True}, {"autocast": Autocast(True)}], ids=["amp", "autocast"])
def test_validation_uses_the_number_format_of_the_training_on_a_cpu_too(arguments):
    net = network()
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=batches(1),
        network=net,
        iteration_update=EvaluationStep(**arguments),
        decollate=False,
    )
    evaluator.run()
    assert evaluator.state.output["pred"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
    ids=["torch", "driver", "cublas", "cudnn 8", "cudnn 9", "cpu", "numpy"],
)
def test_full_memory_is_recognised_whoever_reports_it(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory"), RuntimeError("shape")],
    ids=["assert", "not a runtime error", "shape"],
)
def test_other_errors_are_not_taken_for_full_memory(error):
    assert not is_out_of_memory(error)
