from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from network_contract import GOLDEN, NetworkContract, filled, relative_error, tensors

from monai_ext.errors import ConfigError, WeightsError
from monai_ext.networks import SurfaceUNet, load_pretrained

SMALL = {"f_maps": (8, 16, 24)}
DEAD = ("decoders.", "final_conv.")


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((GOLDEN / "surface_unet.json").read_text())


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn((2, 1, 8, 12, 9), generator=torch.Generator().manual_seed(0))


def small(**arguments) -> SurfaceUNet:
    torch.manual_seed(0)
    return SurfaceUNet(**{**SMALL, **arguments})


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


class TestSurfaceUNet(NetworkContract):
    input_shape = (2, 1, 8, 12, 16)
    output_shapes = ((2, 1, 8, 12, 16), (2, 3, 8, 12, 16))

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return small().eval()


class TestOtherTargetsAndOddSizes(NetworkContract):
    input_shape = (1, 2, 9, 11, 7)
    output_shapes = ((1, 4, 9, 11, 7),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return small(in_channels=2, targets={"fibre": {"channels": 4}}, f_maps=(4, 8, 16)).eval()


class TestDeepSupervision(NetworkContract):
    input_shape = (1, 1, 16, 8, 8)
    output_shapes = ((1, 1, 16, 8, 8), (1, 1, 8, 4, 4), (1, 1, 4, 2, 2))

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return small(targets={"sheet": {"channels": 1}}, f_maps=(8, 8, 8, 8), deep_supervision=True).train()

    def test_onnx_equals_eager(self) -> None:
        pytest.skip("only a network in evaluation mode is exported")


@pytest.mark.slow
def test_equals_the_reference_in_float64(golden) -> None:
    network = filled(SurfaceUNet().double()).eval()
    x = torch.from_numpy(np.random.RandomState(2).standard_normal((1, 1, 32, 64, 64)))
    with torch.no_grad():
        outputs = network(x)
    assert list(outputs) == list(golden["outputs"])
    with np.load(GOLDEN / "surface_unet.npz") as sampled:
        for name, output in outputs.items():
            reference = golden["outputs"][name]
            assert list(output.shape) == reference["shape"]
            values = output.flatten()[reference["flat_idx"]]
            assert relative_error(values, torch.tensor(reference["flat_val"], dtype=torch.float64)) < 1e-6
            assert relative_error(output[:, :, ::3, ::7, ::7], torch.from_numpy(sampled[name])) < 1e-6
            assert float(output.square().sum().sqrt()) == pytest.approx(reference["l2"], rel=1e-6)


def test_keys_and_parameters_are_the_reference_s_without_its_dead_decoder(golden) -> None:
    with torch.device("meta"):
        network = SurfaceUNet()
    alive = {key: shape for key, shape in golden["keys"].items() if not key.startswith(DEAD)}
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == alive
    expected = golden["parameters"]
    assert count(network.encoders) == expected["encoder"] == 26_525_094
    for name, parameters in {"sheet": 18_549_254, "normals": 18_549_320}.items():
        assert count(network.task_decoders[name], network.task_final_convs[name]) == expected[name] == parameters
    assert count(network) == expected["total"] - expected["unused"]


def test_gradients_are_right_though_sums_reuse_memory() -> None:
    network = small(f_maps=(2, 4), targets={"sheet": {"channels": 1}}).double()
    x = torch.randn((1, 1, 2, 3, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: network(x)["sheet"], x.requires_grad_())


@pytest.fixture
def checkpoint(tmp_path):
    """A file as the reference writes it: compiled, and with the parent's decoder, of which nothing is used."""
    torch.manual_seed(1)
    network = SurfaceUNet(**SMALL)
    state = network.state_dict()
    dead = {f"decoders.{index}.basic_module.conv2.conv.weight": torch.zeros(1) for index in range(2)}
    path = tmp_path / "reference.pth"
    state = {**state, **dead, "final_conv.weight": torch.zeros(1)}
    torch.save({"model": {f"_orig_mod.{key}": value for key, value in state.items()}, "epoch": 7}, path)
    return path, network


def test_a_reference_file_loads_completely_without_its_dead_decoder(checkpoint) -> None:
    path, reference = checkpoint
    network = small()
    report = load_pretrained(network, path)
    assert report.missing == report.unexpected == []
    assert len(report.ignored) == 3
    assert all(torch.equal(value, reference.state_dict()[key]) for key, value in network.state_dict().items())


def test_a_target_that_the_file_lacks_starts_fresh_only_when_asked_for(checkpoint) -> None:
    path, _ = checkpoint
    network = small(targets={"sheet": {"channels": 1}, "ink": {"channels": 2}})
    with pytest.raises(WeightsError, match=r"not matched: task_decoders\.ink\.0\.upsampling"):
        load_pretrained(network, path)
    report = load_pretrained(network, path, ignore=network.target_prefixes("ink"))
    assert report.missing == [key for key in network.state_dict() if ".ink." in key]
    assert all(".normals." in key for key in report.unexpected)


def test_a_target_with_other_channels_is_an_error(checkpoint) -> None:
    path, _ = checkpoint
    with pytest.raises(WeightsError, match=r"task_final_convs\.sheet\.weight \(file \(1, 8, 1, 1, 1\)"):
        load_pretrained(small(targets={"sheet": {"channels": 2}}), path)


def test_heads_of_deep_supervision_may_start_fresh(checkpoint) -> None:
    path, _ = checkpoint
    report = load_pretrained(small(deep_supervision=True), path)
    assert report.missing == [
        f"task_deep_convs.{name}.0.{kind}" for name in ("sheet", "normals") for kind in ("weight", "bias")
    ]


def test_deep_supervision_gives_more_in_training_only(image) -> None:
    network = small(deep_supervision=True)
    assert {name: tuple(logits.shape[1:]) for name, logits in network(image).items()} == {
        "sheet": (1, 8, 12, 9),
        "sheet/1": (1, 4, 6, 4),
        "normals": (3, 8, 12, 9),
        "normals/1": (3, 4, 6, 4),
    }
    assert list(network.eval()(image)) == ["sheet", "normals"]
    assert list(small().train()(image)) == ["sheet", "normals"]


@pytest.mark.parametrize("deep_supervision", [False, True], ids=["plain", "deep"])
def test_checkpointing_changes_no_bit(image, deep_supervision) -> None:
    gradients = []
    for checkpointing in (False, True):
        network = small(checkpointing=checkpointing, deep_supervision=deep_supervision).train()
        outputs = tensors(network(image))
        sum(output.square().mean() for output in outputs).backward()
        gradients.append([*outputs, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))


def test_checkpointing_keeps_fewer_tensors_for_the_backward_pass(image) -> None:
    def kept(network: SurfaceUNet) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            network.train()(image)
        return sum(sizes)

    assert kept(small(checkpointing=True)) < 0.5 * kept(small())


def test_checkpointing_can_be_scripted_for_inference(image) -> None:
    network = small(checkpointing=True).eval()
    with torch.no_grad():
        expected = network(image)
        outputs = torch.jit.script(network)(image)
    assert all(relative_error(outputs[name], expected[name]) < 1e-5 for name in expected)


def test_one_network_takes_patches_of_any_size_from_the_least(image) -> None:
    network = small().eval()
    with torch.no_grad():
        assert network(image[..., :4, :4, :4])["normals"].shape == (2, 3, 4, 4, 4)
        with pytest.raises(
            ValueError, match=r"3 levels need at least 4 voxels along Z, Y and X, got \[8, 3, 9\]; take a larger patch"
        ):
            network(image[..., :3, :])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels must be an integer of at least 1, got 0"),
        ({"f_maps": (32,)}, r"f_maps needs two levels or more, .* got \[32\]"),
        ({"f_maps": (8, 20)}, r"each a multiple of 8 \(or below it\), got \[8, 20\]"),
        ({"targets": {}}, "targets is empty"),
        ({"targets": {"sheet": {}}}, "target 'sheet' needs channels, an integer of at least 1, got None"),
        ({"targets": {"sheet": {"channels": 1.5}}}, "got 1.5"),
        ({"targets": {"a.b": {"channels": 1}}}, "'a.b' can't be the name of a target"),
        ({"targets": {"a/1": {"channels": 1}}}, "'a/1' can't be the name of a target"),
        ({"targets": {"keys": {"channels": 1}}}, "'keys' can't be the name of a target"),
    ],
    ids=["channels", "one-level", "groups", "no-target", "no-channels", "fraction", "dot", "slash", "attribute"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ConfigError, match=f"SurfaceUNet: .*{message}"):
        SurfaceUNet(**arguments)
