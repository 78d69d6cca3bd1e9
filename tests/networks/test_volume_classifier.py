from __future__ import annotations

import pytest
import torch
from network_contract import NetworkContract

from monai_ext.networks import SliceClassifier, VolumeClassifier, load_pretrained

SHAPE = (2, 3, 1, 32, 32)


def made(pooling: str) -> VolumeClassifier:
    torch.manual_seed(0)
    return VolumeClassifier(SliceClassifier("efficientnet_b0", 4), pooling).eval()


@pytest.fixture(params=["mean", "max", "attention"])
def network(request) -> VolumeClassifier:
    return made(request.param)


@pytest.fixture
def slices() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


class TestAttention(NetworkContract):
    input_shape = SHAPE
    output_shapes = ((2, 4),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return made("attention")


class TestMax(NetworkContract):
    input_shape = SHAPE
    output_shapes = ((2, 4),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return made("max")


@torch.no_grad()
def test_the_order_of_the_slices_doesn_t_matter(network, slices) -> None:
    torch.testing.assert_close(network(slices.flip(1)), network(slices))


@torch.no_grad()
def test_padding_changes_nothing(network, slices) -> None:
    padded = torch.cat([slices, torch.full_like(slices[:, :2], torch.nan)], dim=1)
    mask = torch.tensor([[True] * 3 + [False] * 2] * 2)
    torch.testing.assert_close(network(padded, mask), network(slices))
    logits, weights = network.slice_answers(padded, mask)
    expected = network.slice_answers(slices)
    torch.testing.assert_close(logits[:, :3], expected[0])
    torch.testing.assert_close(weights[:, :3], expected[1])
    assert not weights[:, 3:].any()


@torch.no_grad()
def test_volumes_may_have_different_numbers_of_slices(network, slices) -> None:
    mask = torch.tensor([[True, True, True], [False, True, False]])
    answers = network(slices, mask)
    torch.testing.assert_close(answers[:1], network(slices[:1]))
    torch.testing.assert_close(answers[1:], network(slices[1:, 1:2]))


@torch.no_grad()
def test_a_volume_of_one_slice_has_the_slice_s_answer(network, slices) -> None:
    torch.testing.assert_close(network(slices[:, :1]), network.slice_network(slices[:, 0]))


@torch.no_grad()
def test_weights_sum_to_one(network, slices) -> None:
    logits, weights = network.slice_answers(slices)
    assert logits.shape == (2, 3, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    torch.testing.assert_close(logits[:, 1], network.slice_network(slices[:, 1]))


@torch.no_grad()
def test_attention_equals_the_paper_s_formula(slices) -> None:
    network = made("attention")
    features = network.slice_features(slices)
    gated = network.attention
    hidden = torch.tanh(features @ gated.value.weight.T + gated.value.bias)
    hidden = hidden * torch.sigmoid(features @ gated.gate.weight.T + gated.gate.bias)
    scores = hidden @ gated.score.weight[0] + gated.score.bias
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    pooled = torch.einsum("bs,bsf->bf", weights, features)
    torch.testing.assert_close(network(slices), network.slice_network.head(pooled))


def test_padding_doesn_t_reach_batch_norms_and_every_slice_gets_a_gradient(network, slices) -> None:
    network.train()
    inputs = slices.clone().requires_grad_()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    network(torch.where(mask[:, :, None, None, None], inputs, torch.nan), mask).sum().backward()
    assert all(torch.isfinite(buffer).all() for buffer in network.buffers())
    assert (inputs.grad.flatten(2).abs().sum(2) > 0).tolist() == mask.tolist()


def test_a_trained_slice_network_s_weights_load(tmp_path) -> None:
    trained = SliceClassifier("efficientnet_b0", 4)
    torch.save({"model": trained.state_dict()}, tmp_path / "slices.pt")
    network = made("attention")
    report = load_pretrained(network, tmp_path / "slices.pt")
    assert all(key.startswith("attention.") for key in report.missing)
    assert report.unexpected == []
    assert torch.equal(network.slice_network.head[4].weight, trained.head[4].weight)


def test_a_backbone_s_weights_load(tmp_path) -> None:
    backbone = SliceClassifier("efficientnet_b0").backbone
    theirs = {ours: there for there, ours in backbone._torchvision_modules()}
    keys = {key: key.rpartition(".") for key in backbone.state_dict()}
    state = {f"{theirs[keys[key][0]]}.{keys[key][2]}": value for key, value in backbone.state_dict().items()}
    torch.save(state, tmp_path / "imagenet.pth")
    network = made("max")
    report = load_pretrained(network, tmp_path / "imagenet.pth")
    assert {key.rsplit(".", 2)[0] for key in report.missing} == {"slice_network.head"}
    assert torch.equal(network.slice_network.backbone._conv_head.weight, backbone._conv_head.weight)


def test_stages_are_the_slice_network_s() -> None:
    network = made("mean")
    assert network.stages[0] == ["slice_network.backbone._conv_head", "slice_network.backbone._bn1"]
    assert all(network.get_submodule(name) for stage in network.stages for name in stage)


def test_wrong_input_is_refused(slices) -> None:
    network = made("mean")
    with pytest.raises(ValueError, match="pooling must be one of mean, max, attention, got 'sum'"):
        VolumeClassifier(network.slice_network, "sum")
    with pytest.raises(ValueError, match=r"expected slices \(B, S, C, Y, X\), got \[3, 1, 32, 32\]"):
        network(slices[0])
    with pytest.raises(ValueError, match=r"mask must be bool of shape \[2, 3\], got torch.float32 of shape \[2, 3\]"):
        network(slices, torch.ones(2, 3))
    with pytest.raises(ValueError, match="leaves a volume without any slice"):
        network(slices, torch.tensor([[True] * 3, [False] * 3]))
