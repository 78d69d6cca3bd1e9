import copy
import math

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn

from monai_ext.engines import (
    Autocast,
    EvaluationStep,
    ImageAndTargets,
    TrainingError,
    TrainingStep,
    autocast_dtype,
    is_out_of_memory,
)
from monai_ext.errors import ConfigError
from monai_ext.losses import MultiTargetLoss


class Memory(nn.Module):
    """A layer that has room for so many samples at once."""

    def __init__(self, samples=None):
        super().__init__()
        self.samples = samples

    def forward(self, x):
        if self.samples is not None and len(x) > self.samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x


def network(norm=True, room=None, seed=0):
    torch.manual_seed(seed)
    layers = [Memory(room), nn.Linear(3, 4), nn.BatchNorm1d(4) if norm else nn.Identity(), nn.ReLU(), nn.Linear(4, 2)]
    return nn.Sequential(*layers)


def batches(count=4, size=4, bad=(), seed=1):
    generator = torch.Generator().manual_seed(seed)
    data = []
    for number in range(count):
        image = torch.randn(size, 3, generator=generator)
        if number in bad:
            image[1, 0] = float("nan")
        label = torch.randint(0, 2, (size,), generator=generator)
        data.append({"image": image, "label": label, "case": [f"case{number}-{i}" for i in range(size)]})
    return data


def train(net, data, step, epochs=1, lr=0.1, loss=None):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=data,
        network=net,
        optimizer=optimizer,
        loss_function=loss or nn.CrossEntropyLoss(),
        iteration_update=step,
        decollate=False,
    )
    trainer.run()
    return trainer


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_without_trouble_it_trains_as_monai_does():
    ours, theirs = network(), network()
    train(ours, batches(), TrainingStep())
    train(theirs, batches(), None)
    assert equal(ours, theirs)


def test_a_non_finite_batch_leaves_no_trace_batch_norm_included():
    data = batches(bad=[1])
    clean = [data[0], data[2], data[3]]
    skipping, reference = network(), network()
    step = TrainingStep()
    trainer = train(skipping, data, step)
    train(reference, clean, TrainingStep())
    assert equal(skipping, reference)
    assert step.nonfinite == 1
    assert "case1-0, case1-1, case1-2, case1-3" in step.events[0]
    assert trainer.state.iteration == 4


class Exploding(nn.Module):
    """A loss that is finite and whose gradient is not."""

    def forward(self, prediction, target):
        return (prediction - prediction.detach()).abs().sqrt().sum()


def test_a_non_finite_gradient_touches_no_parameter():
    net = network()
    before = copy.deepcopy(net)
    step = TrainingStep()
    train(net, batches(2), step, loss=Exploding())
    assert equal(net, before)
    assert step.nonfinite == 2
    assert "non-finite gradient" in step.events[0]


def test_too_many_non_finite_batches_stop_the_run_naming_the_cases():
    with pytest.raises(TrainingError, match=r"3 batches .* case2-0.*lower --lr"):
        train(network(), batches(bad=[0, 1, 2]), TrainingStep(nonfinite_limit=2))


@pytest.mark.parametrize("room", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_retried_in_parts_with_the_same_result(room):
    full, halved = network(norm=False), network(norm=False, room=room)
    step = TrainingStep()
    train(full, batches(), TrainingStep())
    trainer = train(halved, batches(), step)
    for a, b in zip(full.parameters(), halved.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert "retried in halves" in step.events[0]
    assert trainer.state.output["pred"].shape == (4, 2)


def test_a_batch_that_does_not_fit_can_be_skipped():
    net = network(room=2)
    before = copy.deepcopy(net)
    step = TrainingStep(on_oom="skip")
    train(net, batches(2), step)
    assert equal(net, before)
    assert step.nonfinite == 0
    assert "out of memory" in step.events[0]


def test_stopping_at_full_memory_says_which_batch_size_to_try():
    with pytest.raises(TrainingError, match=r"out of memory with 4 samples at once; try --batch_size 2"):
        train(network(room=2), batches(), TrainingStep(on_oom="stop"))


def test_one_sample_that_does_not_fit_ends_the_run():
    with pytest.raises(TrainingError, match="one sample does not fit"):
        train(network(room=0), batches(1), TrainingStep())


def test_other_runtime_errors_are_not_taken_for_full_memory():
    broken = [{"image": torch.zeros(2, 7), "label": torch.zeros(2).long()}]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(network(), broken, TrainingStep())
    assert is_out_of_memory(RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"))


def test_accumulation_equals_one_large_batch_and_flushes_the_rest():
    small = batches(5, size=2)
    joined = [
        {"image": torch.cat([b["image"] for b in part]), "label": torch.cat([b["label"] for b in part])}
        for part in (small[:2], small[2:4], small[4:])
    ]
    accumulated, reference = network(norm=False), network(norm=False)
    train(accumulated, small, TrainingStep(accumulate=2))
    train(reference, joined, TrainingStep())
    for a, b in zip(accumulated.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_skipped_batch_at_the_end_of_an_accumulation_keeps_the_others():
    data = batches(2, bad=[1])
    net, reference = network(norm=False), network(norm=False)
    train(net, data, TrainingStep(accumulate=2))
    train(reference, data[:1], TrainingStep(), lr=0.05)  # half the weight of its window
    for a, b in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_clipped():
    net = network(norm=False)
    before = copy.deepcopy(net)
    train(net, batches(1), TrainingStep(grad_clip=1e-3), lr=1.0)
    moved = torch.cat([(a - b).flatten() for a, b in zip(net.parameters(), before.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("arguments", [{"amp": True}, {"autocast": Autocast(True)}], ids=["amp", "autocast"])
def test_amp_on_a_cpu_is_bf16(arguments):
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.dtype)
            return x.float()

    net = nn.Sequential(nn.Linear(3, 2), Spy())
    train(net, batches(1), TrainingStep(**arguments))
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("cpu",), None),
        (("cpu", True), torch.bfloat16),
        (("cuda",), torch.float16),
        (("cuda", False), None),
        (("cuda", "auto", "bf16"), torch.bfloat16),
        (("cuda", True, "fp32"), None),
    ],
)
def test_number_format_by_device_and_knobs(arguments, expected):
    assert autocast_dtype(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("cpu", "yes"), "--amp yes"), (("cpu", True, "fp8"), "--precision fp8"), (("cpu", True, "fp16"), "not on a CPU")],
)
def test_wrong_precision_knobs_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        autocast_dtype(*arguments)


@pytest.mark.parametrize("arguments", [{"accumulate": 0}, {"on_oom": "pray"}], ids=["accumulate", "on_oom"])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        TrainingStep(**arguments)


def test_the_count_of_skipped_batches_survives_a_resume():
    step = TrainingStep()
    train(network(), batches(bad=[0]), step)
    other = TrainingStep()
    other.load_state_dict(step.state_dict())
    assert (other.nonfinite, other.events) == (1, step.events)


TARGETS = {"sheet": {"channels": 1}, "normals": {"channels": 3}}


class TwoHeads(nn.Module):
    def __init__(self, room=None):
        super().__init__()
        torch.manual_seed(0)
        self.memory = Memory(room)
        self.heads = nn.ModuleDict({name: nn.Conv3d(1, d["channels"], 1) for name, d in TARGETS.items()})

    def forward(self, x):
        return {name: head(self.memory(x)) for name, head in self.heads.items()}


def patches():
    generator = torch.Generator().manual_seed(0)
    sheet = (torch.rand(4, 1, 3, 3, 3, generator=generator) > 0.5).float()
    normals = torch.randn(4, 3, 3, 3, 3, generator=generator) * sheet
    return {"image": torch.randn(4, 1, 3, 3, 3, generator=generator), "sheet": sheet, "normals": normals}


def train_targets(net, step, data, decollate=True):
    outputs = []
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[data],
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=MultiTargetLoss({"sheet": {"channels": 1, "loss": MeanSquared()}, "normals": {"channels": 3}}),
        prepare_batch=ImageAndTargets(TARGETS),
        iteration_update=step,
        decollate=decollate,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    trainer.run()
    return outputs[0]


class MeanSquared(nn.Module):
    """Unlike Dice the mean over a batch is the mean over its halves."""

    def forward(self, pred, target, mask=None):
        return (pred - target).square().mean()


def test_several_targets_have_their_terms_in_the_output():
    output = train_targets(TwoHeads(), TrainingStep(), patches())
    assert len(output) == 4
    assert output[0]["loss_sheet"] + output[0]["loss_normals"] == pytest.approx(output[0]["loss"], rel=1e-6)
    assert output[0]["pred"]["normals"].shape == (3, 3, 3, 3)
    assert not output[0]["pred"]["normals"].requires_grad


def test_several_targets_are_retried_in_parts_too():
    data = patches()
    # Every patch has as many labelled voxels, so that the mean over voxels is the mean over patches.
    data["normals"] = torch.randn(4, 3, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    whole, halved = TwoHeads(), TwoHeads(room=1)
    step = TrainingStep()
    first = train_targets(whole, TrainingStep(), data, decollate=False)
    second = train_targets(halved, step, data, decollate=False)
    assert len(step.events) == 2
    for name in ("loss", "loss_sheet", "loss_normals"):
        assert float(second[name]) == pytest.approx(float(first[name]), rel=1e-5)
    assert second["pred"]["normals"].shape == (4, 3, 3, 3, 3)
    torch.testing.assert_close(second["pred"], first["pred"])
    for ours, theirs in zip(halved.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_non_finite_term_skips_the_batch():
    data = patches()
    data["image"][0, 0, 0, 0, 0] = float("nan")
    net, step = TwoHeads(), TrainingStep()
    output = train_targets(net, step, data)
    assert step.nonfinite == 1
    assert output[0]["loss"] != output[0]["loss"]
    assert equal(net, TwoHeads())


def test_the_loss_follows_to_the_device_of_the_engine():
    class Engine:
        network = network()
        loss_function = nn.BCEWithLogitsLoss(pos_weight=torch.ones(2))
        state = type("State", (), {"device": torch.device("meta")})

    TrainingStep(amp=False).prepare(Engine)
    assert Engine.loss_function.pos_weight.device.type == "meta"


@pytest.mark.parametrize("step", [TrainingStep, EvaluationStep])
@pytest.mark.parametrize("given", [{"amp": False}, {"precision": "bf16"}])
def test_two_number_formats_are_refused(step, given):
    with pytest.raises(ConfigError, match="belong to autocast; set --autocast#amp"):
        step(autocast=Autocast(), **given)


class Ignoring(nn.Module):
    """Cross-entropy of the samples with a label, which is below 2; says whether there was one."""

    def forward(self, logits, label):
        mask = label < 2
        self.counted = mask.any()
        losses = nn.functional.cross_entropy(logits, label * mask, reduction="none") * mask
        return (losses.sum() / mask.sum().clamp(min=1)).masked_fill(~self.counted, math.nan)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_in_which_nothing_counts_is_no_error_and_no_loss(accumulate):
    data = batches(count=4)
    for number in (0, 2, 3):
        data[number]["label"][:] = 2
    step, net, other = TrainingStep(nonfinite_limit=0, accumulate=accumulate), network(), network()
    trainer = train(net, data, step, loss=Ignoring())
    assert math.isnan(trainer.state.output["loss"])
    assert step.events == []
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert not equal(net, other)
