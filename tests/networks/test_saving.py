"""Checkpoints of a GPU run open where there is no GPU."""

import pytest
import torch

from monai_ext.networks import save_checkpoint


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU, and in a file wants to be there again."""

    device = torch.device("cuda:1")


def on_gpu(tensor):
    return tensor.as_subclass(OnGpu)


def saved(content, path):
    save_checkpoint(content, path)
    return torch.load(path, weights_only=True)


def test_all_tensors_are_saved_on_the_cpu_however_deep(tmp_path):
    values = torch.arange(6.0).reshape(2, 3)
    content = {
        "model": {"weight": on_gpu(values)},
        "optimizer": {"state": {0: {"step": on_gpu(torch.tensor(3)), "exp_avg": on_gpu(values.half())}}, "groups": [1]},
        "handlers": {"sums": [on_gpu(values), (on_gpu(values.t()), "name")], "best": 0.5, "none": None},
    }
    loaded = saved(content, tmp_path / "last.pt")
    found = [
        loaded["model"]["weight"],
        *loaded["optimizer"]["state"][0].values(),
        loaded["handlers"]["sums"][0],
        loaded["handlers"]["sums"][1][0],
    ]
    for tensor, expected in zip(found, [values, torch.tensor(3), values.half(), values, values.t()], strict=True):
        assert type(tensor) is torch.Tensor
        assert tensor.device.type == "cpu"
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)
    assert loaded["handlers"]["sums"][1][1] == "name"
    assert (loaded["handlers"]["best"], loaded["handlers"]["none"], loaded["optimizer"]["groups"]) == (0.5, None, [1])


def test_a_storage_tagged_with_a_gpu_is_retagged(tmp_path, monkeypatch):
    tagged = torch.ones(3)
    tag = torch.serialization.location_tag
    address = tagged.untyped_storage().data_ptr()
    monkeypatch.setattr(torch.serialization, "location_tag", lambda s: "cuda:1" if s.data_ptr() == address else tag(s))
    with monkeypatch.context() as patched:
        patched.setattr(torch.UntypedStorage, "cpu", torch.UntypedStorage.clone)  # as from a GPU: other memory
        save_checkpoint({"model": {"weight": on_gpu(tagged)}}, tmp_path / "best.pt")
    torch.save({"weight": tagged}, tmp_path / "plain.pt")
    with pytest.raises(RuntimeError, match="CUDA device"):
        torch.load(tmp_path / "plain.pt")
    assert torch.load(tmp_path / "best.pt")["model"]["weight"].tolist() == [1, 1, 1]


def test_tensors_that_share_memory_are_written_once(tmp_path):
    table = torch.randn(1000, 100)
    loaded = saved({"encoder": on_gpu(table), "decoder": on_gpu(table), "row": on_gpu(table)[1]}, tmp_path / "tied.pt")
    assert (tmp_path / "tied.pt").stat().st_size < 1.5 * table.nbytes
    loaded["encoder"][1] = 0
    assert loaded["decoder"][1].eq(0).all()
    assert loaded["row"].eq(0).all()


def test_tensors_of_the_cpu_and_the_given_content_stay_as_they_are(tmp_path):
    state = torch.nn.Linear(2, 2).state_dict()
    content = {"model": state, "on_gpu": [on_gpu(torch.ones(1))]}
    loaded = saved(content, tmp_path / "model.pt")
    assert loaded["model"]._metadata == state._metadata
    assert content["model"] is state
    assert isinstance(content["on_gpu"][0], OnGpu)
