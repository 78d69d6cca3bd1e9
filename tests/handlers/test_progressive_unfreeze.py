"""Which weights change when, what the optimizer holds, and that a resumed schedule is the undisturbed one."""

import logging

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.handlers import Checkpoints, FreezeLayers, ProgressiveUnfreeze
from monai_ext.networks import VGG3D, VGG3DAdapter


class Small(nn.Module):
    """Two blocks of linear layer and batch norm, and a head."""

    def __init__(self):
        super().__init__()
        blocks = [nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU()) for _ in range(2)]
        self.body = nn.Sequential(*blocks)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.body(x))


def small_network(seed=0):
    torch.manual_seed(seed)
    return Small()


def batches(count=4):
    generator = torch.Generator().manual_seed(1)
    return [
        {"image": torch.randn(8, 4, generator=generator), "label": torch.randint(2, (8,), generator=generator)}
        for _ in range(count)
    ]


def trainer_of(network, optimizer, epochs, *handlers):
    """MONAI's own trainer, which puts the whole network into training mode before every batch."""
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=batches(),
        network=network,
        optimizer=optimizer,
        loss_function=nn.CrossEntropyLoss(),
        train_handlers=list(handlers),
        decollate=False,
    )


class Recorder:
    """The network's state at the end of every epoch, and what the optimizer held."""

    def __init__(self, network, optimizer, scheduler=None):
        self.network, self.optimizer, self.scheduler = network, optimizer, scheduler
        self.states = [self.copy()]
        self.held, self.rates = [], []

    def copy(self):
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def attach(self, engine):
        from ignite.engine import Events

        engine.add_event_handler(Events.EPOCH_COMPLETED, self.record)

    def record(self, engine):
        self.states.append(self.copy())
        ids = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        self.held.append({name for name, p in self.network.named_parameters() if id(p) in ids})
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])
        if self.scheduler is not None:
            self.scheduler.step()

    def changed(self, epoch):
        before, after = self.states[epoch - 1], self.states[epoch]
        return {name for name in before if not torch.equal(before[name], after[name])}


def entries(prefix, network):
    return {name for name in network.state_dict() if name.startswith(prefix)}


def optimizer_of(network, everything=True):
    parameters = network.parameters() if everything else network.fc.parameters()
    return torch.optim.Adam(parameters, lr=0.01)


@pytest.mark.parametrize("given", [True, False], ids=["given", "of-the-trainer"])
@pytest.mark.parametrize("everything", [True, False], ids=["optimizer-over-all", "optimizer-over-the-head"])
def test_a_stage_changes_from_its_epoch_on_and_not_before(everything, given):
    network = small_network()
    optimizer = optimizer_of(network, everything)
    recorder = Recorder(network, optimizer)
    parts = (network, optimizer) if given else (None, None)
    unfreeze = ProgressiveUnfreeze(*parts, ["body.1", "body.0"], interval=3)
    trainer_of(network, optimizer, 8, unfreeze, recorder).run()

    head, last, first = (entries(prefix, network) for prefix in ("fc.", "body.1.", "body.0."))
    expected = [head] * 3 + [head | last] * 3 + [head | last | first] * 2
    assert [recorder.changed(epoch) for epoch in range(1, 9)] == expected
    parameters = {name for name, _ in network.named_parameters()}
    assert recorder.held == [names & parameters for names in expected]


def test_frozen_batch_norms_keep_their_statistics_to_the_bit():
    network = small_network()
    optimizer = optimizer_of(network)
    recorder = Recorder(network, optimizer)
    trainer_of(
        network, optimizer, 3, ProgressiveUnfreeze(network, optimizer, ["body.1", "body.0"], interval=3), recorder
    ).run()
    for name in recorder.states[0]:
        if "running" in name or "tracked" in name:
            assert torch.equal(recorder.states[0][name], recorder.states[-1][name]), name


@pytest.mark.parametrize(
    ("interval", "trained"),
    [(None, [0, 0, 0, 0, 0]), (0, [2, 2, 2, 2, 2]), (1, [0, 1, 2, 2, 2]), (2, [0, 0, 1, 1, 2])],
    ids=["never", "at-once", "every-epoch", "every-other"],
)
def test_the_interval_says_when(interval, trained):
    network = small_network()
    unfreeze = ProgressiveUnfreeze(network, optimizer_of(network), ["body.1", "body.0"], interval)
    assert [unfreeze.stages_at(epoch) for epoch in range(1, 6)] == trained


def test_vgg3d_s_blocks_come_in_epochs_4_7_10_13():
    network = VGG3D((16, 16, 16), fmaps=2)
    unfreeze = ProgressiveUnfreeze(network, torch.optim.Adam(network.parameters()), network.stages)
    counts = [unfreeze.stages_at(epoch) for epoch in range(1, 21)]
    assert [counts.index(number) + 1 for number in (1, 2, 3, 4)] == [4, 7, 10, 13]
    assert counts[-1] == 4
    covered = [parameter for stage in unfreeze.stages for parameter in stage.parameters]
    assert {id(p) for p in covered} == {id(p) for p in network.features.parameters()}


def test_stages_follow_from_a_given_epoch_on():
    network = small_network()
    stages = ["body.1", "body.0"]
    handler = ProgressiveUnfreeze(network, torch.optim.SGD(network.parameters(), 0.1), stages, 2, start_epoch=3)
    assert [handler.stages_at(epoch) for epoch in range(1, 7)] == [0, 0, 1, 1, 2, 2]
    handler.interval = 0
    assert [handler.stages_at(epoch) for epoch in range(1, 5)] == [0, 0, 2, 2]
    with pytest.raises(ConfigError, match="start_epoch"):
        ProgressiveUnfreeze(network, handler.optimizer, stages, start_epoch=0)


def test_the_scheduler_keeps_its_course():
    def rates(with_unfreezing, lr=None):
        network = small_network()
        optimizer = optimizer_of(network)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6, eta_min=1e-6)
        recorder = Recorder(network, optimizer, scheduler)
        handlers = [ProgressiveUnfreeze(network, optimizer, ["body.1", "body.0"], 2, lr)] if with_unfreezing else []
        trainer_of(network, optimizer, 6, *handlers, recorder).run()
        return recorder.rates

    plain = rates(False)
    assert rates(True) == plain
    own = rates(True, lr=0.001)
    assert [len(groups) for groups in own] == [1, 1, 2, 2, 2, 2]
    assert [groups[0] for groups in own] == [groups[0] for groups in plain]
    for groups in own[2:]:
        assert groups[1] == pytest.approx(groups[0] / 10, rel=1e-3, abs=1e-6)


def test_stages_return_to_the_group_they_came_from():
    network = small_network()
    groups = [{"params": network.body.parameters(), "lr": 1e-4}, {"params": network.fc.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    recorder = Recorder(network, optimizer)
    trainer_of(network, optimizer, 3, ProgressiveUnfreeze(network, optimizer, ["body"], 1), recorder).run()
    assert [len(group["params"]) for group in optimizer.param_groups] == [6, 2]
    assert recorder.rates == [[1e-4, 1e-2]] * 3


def test_a_trainer_that_goes_on_keeps_the_groups():
    network = small_network()
    groups = [{"params": network.fc.parameters(), "lr": 1e-2}, {"params": network.body.parameters(), "lr": 1e-4}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    trainer = trainer_of(network, optimizer, 2, ProgressiveUnfreeze(stages=["body.1", "body.0"], interval=1))
    trainer.run()
    trainer.state.max_epochs = 3
    trainer.run()
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 6]


@pytest.mark.parametrize("lr", [None, 0.003], ids=["common-rate", "own-rate"])
@pytest.mark.parametrize("interrupted_after", [1, 2, 3, 4])
def test_a_resumed_schedule_is_bit_identical(tmp_path, interrupted_after, lr):
    def made(folder):
        network = small_network()
        optimizer = optimizer_of(network)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6, eta_min=1e-6)
        unfreeze = ProgressiveUnfreeze(network, optimizer, ["body.1", "body.0"], 2, lr)
        trainer = trainer_of(network, optimizer, 6, unfreeze, Recorder(network, optimizer, scheduler))
        parts = {"optimizer": optimizer, "scheduler": scheduler}
        return network, optimizer, trainer, Checkpoints(folder, network, parts)

    undisturbed, its_optimizer, trainer, _ = made(tmp_path / "a")
    trainer.run()

    _, _, trainer, checkpoints = made(tmp_path / "b")
    from ignite.engine import Events

    def stop(engine):
        checkpoints.save_last({"epoch": engine.state.epoch}, {}, [])
        engine.terminate()

    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=interrupted_after), stop)
    trainer.run()

    network, optimizer, trainer, checkpoints = made(tmp_path / "b")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)  # nothing of the new network may survive
    trainer.state.epoch = checkpoints.load_last()["trainer"]["epoch"]
    trainer.state.iteration = trainer.state.epoch * trainer.state.epoch_length
    trainer.run()

    for name, value in undisturbed.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    mine, theirs = optimizer.state_dict(), its_optimizer.state_dict()
    assert mine["param_groups"] == theirs["param_groups"]
    for number, entry in theirs["state"].items():
        for key, value in entry.items():
            assert torch.equal(mine["state"][number][key], value)


def test_the_log_says_what_is_trained_from_when(caplog):
    network = small_network()
    optimizer = optimizer_of(network)
    with caplog.at_level(logging.INFO, "monai_ext"):
        trainer_of(network, optimizer, 3, ProgressiveUnfreeze(network, optimizer, ["body.1", "body.0"], 2)).run()
    assert [r.message for r in caplog.records if "trained from now on" in r.message] == [
        "epoch 3: body.1 (24 parameters) is trained from now on"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": ["body.2"]}, "no sub-module 'body.2'; it consists of body, fc"),
        ({"stages": ["body.1", ["body"]]}, "stage body overlaps one before it"),
        ({"stages": ["body"], "interval": -1}, "interval must be 0 or more epochs, or None, got -1"),
        ({"stages": ["body"], "interval": 1.5}, "interval must be 0 or more epochs, or None, got 1.5"),
        ({"stages": ["body"], "lr": 0.0}, "lr must be > 0, got 0.0"),
    ],
    ids=["unknown", "overlap", "negative", "fraction", "rate"],
)
def test_bad_arguments(arguments, message):
    network = small_network()
    with pytest.raises(ConfigError, match=message):
        ProgressiveUnfreeze(network, optimizer_of(network), **arguments)


def test_an_optimizer_without_anything_else_to_train_is_refused():
    network = small_network()
    unfreeze = ProgressiveUnfreeze(network, torch.optim.SGD(network.body.parameters(), lr=1.0), ["body"])
    with pytest.raises(ConfigError, match="nothing to train before the first stage"):
        trainer_of(network, unfreeze.optimizer, 1, unfreeze)


@pytest.mark.parametrize("given", [True, False], ids=["given", "of-the-trainer"])
def test_chosen_layers_of_the_classifier_stay_as_loaded(given):
    network = VGG3DAdapter(VGG3D((16, 16, 16), fmaps=2), (16, 16, 16), 3, classifier_size=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    images = [{"image": torch.randn(2, 1, 16, 16, 16), "label": torch.tensor([0, 2])}]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=images,
        network=network,
        optimizer=optimizer,
        loss_function=nn.CrossEntropyLoss(),
        train_handlers=[FreezeLayers(network if given else None, "classifier", [1, 3])],
        decollate=False,
    )
    trainer.run()
    unchanged = {n for n, v in network.state_dict().items() if torch.equal(v, before[n]) and n.startswith("classifier")}
    assert unchanged == {"classifier.0.weight", "classifier.0.bias", "classifier.6.weight", "classifier.6.bias"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [([4], "classifier has the layers 1 to 3, not 4"), ([1, 2, 3], "all 3 layers of classifier would be frozen")],
    ids=["unknown", "all"],
)
def test_layers_that_do_not_exist_or_leave_nothing(layers, message):
    with pytest.raises(ConfigError, match=message):
        FreezeLayers(VGG3D((16, 16, 16), fmaps=2), "classifier", layers)
