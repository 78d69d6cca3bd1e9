import errno

import pytest
import torch
from torch import nn

from monai_ext.errors import WeightsError, WriteError
from monai_ext.handlers import Checkpoints


@pytest.fixture
def made(tmp_path):
    def make(settings=None):
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
        return network, optimizer, Checkpoints(tmp_path, network, {"optimizer": optimizer}, settings)

    return make


def advance(network, optimizer):
    optimizer.zero_grad()
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()


def save(checkpoints, epoch):
    trainer = {"epoch": epoch, "iteration": 5 * epoch, "epoch_length": 5}
    checkpoints.save_last(trainer, {"best": 0.5}, [{"epoch": epoch, "auc": float("nan")}])


def test_last_restores_network_and_optimizer_and_loads_safely(made, tmp_path):
    network, optimizer, checkpoints = made()
    advance(network, optimizer)
    save(checkpoints, 1)
    advance(network, optimizer)
    expected = {name: value.clone() for name, value in network.state_dict().items()}

    other, other_optimizer, restored = made()
    content = restored.load_last()
    assert content["trainer"] == {"epoch": 1, "iteration": 5, "epoch_length": 5}
    advance(other, other_optimizer)
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    raw = torch.load(tmp_path / "last.pt", weights_only=True)
    assert {"model", "optimizer", "trainer", "handlers", "history", "rng", "settings"} <= raw.keys()


def test_without_a_checkpoint_there_is_nothing_to_load(made):
    assert made()[2].load_last() is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file"], ids=["empty", "truncated"])
def test_a_damaged_last_falls_back_to_the_one_before(made, tmp_path, caplog, damage):
    checkpoints = made()[2]
    save(checkpoints, 1)
    save(checkpoints, 2)
    (tmp_path / "last.pt").write_bytes(damage)
    assert made()[2].load_last()["trainer"]["epoch"] == 1
    assert "falling back" in caplog.text


def test_two_damaged_ones_are_an_error(made, tmp_path):
    checkpoints = made()[2]
    save(checkpoints, 1)
    save(checkpoints, 2)
    for name in ("last.pt", "last_previous.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError, match="none of its checkpoints can be read"):
        made()[2].load_last()


def test_other_settings_are_refused(made):
    save(made({"dilated": False, "modality": "flair"})[2], 1)
    with pytest.raises(WeightsError, match=r"dilated: checkpoint False, configured True"):
        made({"dilated": True, "modality": "flair"})[2].load_last()


def test_a_full_disk_while_saving_keeps_the_old_checkpoint(made, tmp_path, monkeypatch):
    checkpoints = made()[2]
    save(checkpoints, 1)

    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WriteError, match=r"could not write .*last\.pt: No space left"):
        save(checkpoints, 2)
    monkeypatch.undo()
    assert made()[2].load_last()["trainer"]["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt"]


def test_best_holds_weights_metrics_and_settings_but_no_optimizer(made, tmp_path):
    made({"dilated": False})[2].save_best("best", {"auc": 0.9, "name": "x"}, 3)
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    assert content.keys() == {"model", "metrics", "epoch", "settings", "provenance"}
    assert (content["metrics"], content["epoch"], content["settings"]) == ({"auc": 0.9}, 3, {"dilated": False})


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU; as such it can't be read by ``weights_only``."""

    device = torch.device("cuda:0")


def test_what_handlers_and_optimizer_keep_on_a_gpu_is_saved_for_the_cpu(made, tmp_path):
    network, optimizer, checkpoints = made()
    advance(network, optimizer)
    optimizer.state[network.weight]["exp_avg"] = torch.ones(2, 3).as_subclass(OnGpu)
    network.register_buffer("seen", torch.tensor(7).as_subclass(OnGpu))
    checkpoints.save_last({"epoch": 1}, {"sums": torch.ones(1).as_subclass(OnGpu)}, [])
    checkpoints.save_best("best", {}, 1, {"thresholds": torch.ones(1).as_subclass(OnGpu)})
    last, best = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("last", "best"))
    tensors = (
        last["optimizer"]["state"][0]["exp_avg"],
        last["handlers"]["sums"],
        best["thresholds"],
        best["model"]["seen"],
    )
    assert {type(tensor) for tensor in tensors} == {torch.Tensor}


@pytest.mark.parametrize(("before", "now"), [(False, True), (True, False), (True, True)])
def test_a_run_goes_on_with_or_without_a_scaler(tmp_path, before, now):
    def checkpoints(enabled):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0 if enabled is before else 4.0, enabled=enabled)
        return scaler, Checkpoints(tmp_path, nn.Linear(3, 2), {"scaler": scaler})

    save(checkpoints(before)[1], 1)
    scaler, restored = checkpoints(now)
    assert restored.load_last() is not None
    assert scaler.get_scale() == (8.0 if before and now else 4.0 if now else 1.0)
