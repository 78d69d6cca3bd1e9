import gc
import math
import os
import signal
import time
import weakref

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.handlers import (
    DeferredReweighting,
    FreezeBackbone,
    FreezeLayers,
    GracefulSignals,
    Interrupted,
    IterationSeeding,
    MemoryMonitor,
    ProgressiveUnfreeze,
    ValidationDevice,
)
from monai_ext.handlers.signals import interrupted_by_sigterm
from monai_ext.losses import LDAMLoss
from monai_ext.networks import saved_epoch


def engine(update=lambda engine, batch: None):
    made = Engine(update)
    made.state.device = torch.device("cpu")
    return made


def test_class_weights_are_in_force_from_the_start_epoch_on():
    loss = LDAMLoss([75, 210])
    trainer = engine()
    DeferredReweighting(loss, [75, 210], start_epoch=3).attach(trainer)
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: seen.append(None if loss.weight is None else loss.weight.tolist())
    )
    trainer.run([0], max_epochs=4)
    assert seen[:2] == [None, None]
    assert seen[2] == seen[3] == pytest.approx([(210 / 75) ** 0.5, 1.0])


@pytest.mark.parametrize(("epoch", "weighted"), [(2, False), (3, True), (math.inf, True)])
def test_an_evaluation_weighs_as_the_checkpoint_s_epoch_did(epoch, weighted):
    loss = LDAMLoss([75, 210])
    evaluator = engine()
    DeferredReweighting(loss, [75, 210], start_epoch=3, epoch=epoch).attach(evaluator)
    evaluator.run([0], max_epochs=1)
    assert (loss.weight is not None) == weighted


def test_the_epoch_of_a_checkpoint_is_read_from_best_and_last_ones(tmp_path):
    for content, epoch in (({"epoch": 4}, 4), ({"trainer": {"epoch": 7}}, 7), ({}, math.inf)):
        torch.save({"model": {}, **content}, tmp_path / "x.pt")
        assert saved_epoch(tmp_path / "x.pt") == epoch
    assert saved_epoch(tmp_path / "none.pt") == math.inf


def test_reweighting_survives_a_resume_in_the_middle():
    loss = LDAMLoss([75, 210])
    trainer = engine()
    trainer.state.epoch = 5
    DeferredReweighting(loss, [75, 210], start_epoch=3).apply(trainer)
    assert loss.weight is not None


def test_a_loss_has_no_weights_before_the_start_epoch():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    trainer = engine()
    DeferredReweighting(loss, [1, 2], start_epoch=99).attach(trainer)
    trainer.run([0], max_epochs=2)
    assert loss.weight is None


@pytest.mark.parametrize("given", [True, False], ids=["given", "the-trainer-s"])
def test_without_reweighting_a_loss_needs_no_weight(given):
    trainer = engine()
    trainer.loss_function = nn.MSELoss()
    DeferredReweighting(trainer.loss_function if given else None, [1, 2], start_epoch=None).attach(trainer)
    trainer.run([0])
    assert not hasattr(trainer.loss_function, "weight")


def test_without_reweighting_a_loss_keeps_its_own_weight():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    trainer = engine()
    DeferredReweighting(loss, [1, 2], start_epoch=None).attach(trainer)
    trainer.run([0])
    assert loss.weight.tolist() == [1.0, 2.0]


def test_reweighting_needs_a_loss_with_weights():
    with pytest.raises(ConfigError, match="MSELoss has no weight"):
        DeferredReweighting(nn.MSELoss(), [1, 2])
    trainer = engine()
    trainer.loss_function = nn.MSELoss()
    DeferredReweighting(class_counts=[1, 2]).attach(trainer)
    with pytest.raises(ConfigError, match="MSELoss has no weight to set; give it one, or --drw_start_epoch None"):
        trainer.run([0])


def test_reweighting_takes_the_trainer_s_loss():
    trainer = engine()
    DeferredReweighting(class_counts=[75, 210], start_epoch=1).attach(trainer)
    trainer.loss_function = LDAMLoss([75, 210])  # MONAI's trainer has it only after its handlers are attached
    trainer.run([0])
    assert trainer.loss_function.weight.tolist() == pytest.approx([(210 / 75) ** 0.5, 1.0])


@pytest.mark.parametrize("device", [None, "meta"])
def test_reweighting_works_in_a_plain_ignite_engine(device):
    def step(engine, batch):
        return loss(torch.zeros(2, 2, device=device), torch.tensor([0, 1], device=device))

    loss = nn.CrossEntropyLoss()
    trainer = Engine(step)
    DeferredReweighting(loss, [75, 210], start_epoch=1, device=device).attach(trainer)
    trainer.run([0])
    assert loss.weight.device.type == (device or idist.device().type)


@pytest.mark.parametrize(
    ("handler", "part"),
    [
        (DeferredReweighting(class_counts=[1, 2]), "DeferredReweighting: the Engine has no loss_function"),
        (FreezeBackbone(head="fc", epochs=1), "FreezeBackbone: the Engine has no network"),
        (FreezeLayers(module="fc", layers=[1]), "FreezeLayers: the Engine has no network"),
        (ProgressiveUnfreeze(stages=["fc"]), "ProgressiveUnfreeze: the Engine has no network"),
        (ProgressiveUnfreeze(nn.Sequential(nn.Linear(1, 1)), stages=["0"]), "the Engine has no optimizer"),
        (ValidationDevice(), "ValidationDevice: the Engine has no network"),
    ],
)
def test_an_engine_without_what_a_handler_needs_is_refused(handler, part):
    plain = engine()
    handler.attach(plain)
    with pytest.raises(ConfigError, match=f"{part}; give it to the handler"):
        plain.run([0])


@pytest.mark.parametrize("given", [True, False], ids=["given", "of-the-trainer"])
def test_a_frozen_backbone_neither_learns_nor_drifts_and_then_does(given):
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("body", nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4)))
    network.add_module("fc", nn.Linear(4, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def update(trainer, batch):
        if not network.training:
            network.train()
        optimizer.zero_grad()
        network(batch).pow(2).mean().backward()
        optimizer.step()

    trainer = engine(update)
    FreezeBackbone(**({"network": network} if given else {}), head="fc", epochs=2).attach(trainer)
    trainer.network = network
    states = [{name: value.clone() for name, value in network.state_dict().items()}]
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: (states.append({n: v.clone() for n, v in network.state_dict().items()}), network.eval()),
    )
    trainer.run([torch.randn(8, 3) for _ in range(2)], max_epochs=3)

    def changed(epoch):
        return {name for name in states[0] if not torch.equal(states[epoch - 1][name], states[epoch][name])}

    assert changed(1) == changed(2) == {"fc.weight", "fc.bias"}
    assert changed(3) == set(states[0])


def test_freezing_an_unknown_head_is_an_error():
    with pytest.raises(ConfigError, match="no sub-module 'head'"):
        FreezeBackbone(nn.Linear(1, 1), "head", 1)
    trainer = engine()
    trainer.network = nn.Linear(1, 1)
    FreezeBackbone(head="head", epochs=1).attach(trainer)
    with pytest.raises(ConfigError, match="no sub-module 'head'"):
        trainer.run([0])


def test_random_numbers_are_a_function_of_seed_and_iteration():
    def draws(start, seed=1):
        seen = []
        trainer = engine(lambda engine, batch: seen.append(torch.rand(1).item()))
        IterationSeeding(seed).attach(trainer)
        trainer.state.max_epochs, trainer.state.epoch_length = 1, 4
        trainer.state.iteration, trainer.state.epoch = start, 0
        trainer.run([0, 1, 2, 3][start:], max_epochs=1)
        return seen

    torch.manual_seed(99)
    whole = draws(0)
    assert draws(2)[:2] == whole[2:]
    assert draws(0, seed=2) != whole


def test_memory_is_sampled_at_the_interval_and_peaks_are_kept():
    monitor = MemoryMonitor(interval=0.02)
    trainer = engine(lambda engine, batch: time.sleep(0.1))
    monitor.attach(trainer)
    trainer.run([0], max_epochs=1)
    assert monitor.peaks["process"] > 50
    assert monitor.peaks["process"] >= monitor.latest["process"]
    assert monitor._thread is None


@pytest.fixture
def gpu_memory(monkeypatch):
    """A machine whose GPUs hold as many MiB as their number says, and which of them were reset."""
    reset = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: torch.device(device or 0).index * 2**20)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    return reset


def test_gpu_memory_is_that_of_the_engine_s_device(gpu_memory):
    monitor = MemoryMonitor()
    trainer = engine()
    trainer.state.device = torch.device("cuda:3")
    monitor.attach(trainer)
    trainer.run([0], max_epochs=1)
    assert monitor.peaks["gpu"] == 3
    assert gpu_memory == [torch.device("cuda:3")]


def test_a_run_on_the_cpu_has_no_gpu_memory(gpu_memory):
    monitor = MemoryMonitor()
    trainer = engine()
    monitor.attach(trainer)
    trainer.run([0], max_epochs=1)
    assert monitor.peaks.keys() == {"process", "system_used"}
    assert gpu_memory == []


def test_a_memory_interval_of_zero_is_refused():
    with pytest.raises(ConfigError, match="interval must be > 0"):
        MemoryMonitor(0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_the_running_batch(number, code, capfd):
    done = []

    def update(trainer, batch):
        if batch == 1:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        done.append(batch)

    before = signal.getsignal(number)
    trainer = engine(update)
    handler = GracefulSignals()
    handler.attach(trainer)
    try:
        with pytest.raises(Interrupted) as caught:
            trainer.run([0, 1, 2], max_epochs=1)
    finally:
        handler.remove()
    assert caught.value.code == code
    assert done == [0, 1]
    assert "ending after this batch" in capfd.readouterr().err
    assert signal.getsignal(number) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("another", [True, False], ids=["by-the-next-training", "at-the-end"])
def test_a_signal_between_trainings_that_python_drops_is_heard_later(another):
    done = []
    trainer = engine(lambda trainer, batch: done.append(batch))
    handler = GracefulSignals()
    handler.attach(trainer)

    @interrupted_by_sigterm()
    def several():
        collected = engine()
        reference = weakref.ref(collected, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del collected
        gc.collect()
        assert reference() is None
        if another:
            trainer.run([0, 1, 2], max_epochs=1)

    try:
        with pytest.raises(Interrupted) as caught:
            several()
    finally:
        handler.remove()
    assert caught.value.code == 143
    assert done == ([0] if another else [])


def test_a_second_signal_acts_at_once():
    def update(trainer, batch):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    trainer = engine(update)
    handler = GracefulSignals()
    handler.attach(trainer)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores SIGINT
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.run([0], max_epochs=1)
    finally:
        handler.remove()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("given", [True, False], ids=["given", "of-the-evaluator"])
def test_an_evaluator_on_another_device_works_on_an_up_to_date_copy(given):
    network = nn.Linear(2, 1)
    evaluator = engine()
    evaluator.network = network
    evaluator.state.device = torch.device("cpu", 0)  # to torch another device than "cpu"
    ValidationDevice(network if given else None).attach(evaluator)
    for _ in range(2):
        with torch.no_grad():
            network.weight.add_(1)
        evaluator.run([0])
        assert evaluator.network is not network
        assert torch.equal(evaluator.network.weight, network.weight)
        assert not evaluator.network.training
    assert network.training


def test_an_evaluator_on_the_same_device_is_left_alone():
    network = nn.Linear(2, 1)
    evaluator = engine()
    evaluator.network = network
    ValidationDevice(network).attach(evaluator)
    evaluator.run([0])
    assert evaluator.network is network


def test_the_copy_is_made_on_the_evaluator_s_device(monkeypatch):
    def refuse(self, memo):
        raise AssertionError("copied where the network is")

    monkeypatch.setattr(nn.Parameter, "__deepcopy__", refuse)
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", refuse)
    first = nn.Linear(2, 2)
    network = nn.Sequential(first, nn.BatchNorm1d(2), first)
    first.bias.requires_grad_(False)
    evaluator = engine()
    evaluator.network = network
    evaluator.state.device = torch.device("cpu", 0)
    ValidationDevice(network).attach(evaluator)
    evaluator.run([0])
    copied = evaluator.network
    assert copied[0] is copied[2]
    assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in network.parameters()]
    for ours, theirs in zip(copied.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
