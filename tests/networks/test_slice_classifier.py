from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from network_contract import GOLDEN, NetworkContract, fill, relative_error
from torch import nn

from monai_ext.errors import WeightsError
from monai_ext.networks import CBAM, SliceClassifier, load_pretrained

REFERENCE = json.loads((GOLDEN / "nets_2d.json").read_text())
FEATURES = {"resnet18": 512, "resnet50": 2048, "resnet101": 2048, "efficientnet_b0": 1280}


class TestResNet(NetworkContract):
    input_shape = (2, 1, 64, 48)
    output_shapes = ((2, 18),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return SliceClassifier(attention="cbam", multiscale=True).eval()


class TestEfficientNet(NetworkContract):
    input_shape = (2, 3, 65, 96)
    output_shapes = ((2, 5),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return SliceClassifier("efficientnet_b0", 5, in_channels=3, attention="se").eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, tuple]:
    """Weights as torchvision names them, in float64, and their file, for each backbone."""
    made = {}
    for name, reference in REFERENCE.items():
        state = fill({key: torch.empty(shape) for key, shape in reference["keys"].items()})
        path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
        torch.save(state, path)
        made[name] = (state, path)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE)
def test_features_and_logits_equal_torchvision_s(files, name) -> None:
    reference, (state, path) = REFERENCE[name], files[name]
    network = SliceClassifier(name, in_channels=3).double().eval()
    report = load_pretrained(network.backbone, path)
    assert (report.missing, report.unexpected) == ([], [])
    assert len(report.ignored) == 2
    with torch.no_grad():
        maps = network.backbone(torch.from_numpy(np.random.RandomState(4).standard_normal((1, 3, 96, 96))))
    assert list(maps.shape) == reference["feature_shape"]
    pooled = maps.mean((2, 3))[0]
    scale = reference["pooled_absmax"]
    assert float(pooled.abs().max()) == pytest.approx(scale, rel=1e-6)
    assert pooled[:8].tolist() == pytest.approx(reference["pooled_first8"], rel=0, abs=1e-6 * scale)
    assert float(pooled.norm()) == pytest.approx(reference["pooled_l2"], rel=1e-6)
    weight, bias = (state[f"{next(k for k in report.ignored).rpartition('.')[0]}.{t}"] for t in ("weight", "bias"))
    logits = nn.functional.linear(pooled, weight, bias)
    assert float(logits.norm()) == pytest.approx(reference["logits_l2"], rel=1e-6)
    assert logits[:8].tolist() == pytest.approx(
        reference["logits_first8"], rel=0, abs=1e-6 * reference["logits_absmax"]
    )


@pytest.mark.parametrize("name", REFERENCE)
def test_parameters_equal_torchvision_s(name) -> None:
    with torch.device("meta"):
        backbone = SliceClassifier(name, in_channels=3).backbone
    classifier = 1000 * (FEATURES[name] + 1)
    assert sum(parameter.numel() for parameter in backbone.parameters()) + classifier == REFERENCE[name]["params"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101"])
def test_resnet_keys_are_torchvision_s(name) -> None:
    with torch.device("meta"):
        own = SliceClassifier(name, in_channels=3).backbone.state_dict()
    theirs = {key: shape for key, shape in REFERENCE[name]["keys"].items() if not key.startswith("fc.")}
    assert {key: list(value.shape) for key, value in own.items()} == theirs


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0"])
def test_one_channel_answers_as_three_equal_colours(files, name) -> None:
    path = files[name][1]
    grey = SliceClassifier(name, pretrained_path=path).double().eval()
    colour = SliceClassifier(name, in_channels=3, pretrained_path=path).double().eval()
    x = torch.randn(1, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert relative_error(grey.backbone(x), colour.backbone(x.repeat(1, 3, 1, 1))) < 1e-5  # loaded in float32


@pytest.mark.parametrize(("attention", "fresh"), [("none", {"head"}), ("cbam", {"head", "attention"})])
def test_pretrained_weights_leave_head_and_attention_fresh(files, attention, fresh) -> None:
    network = SliceClassifier("efficientnet_b0", attention=attention, multiscale=True)
    report = load_pretrained(network, files["efficientnet_b0"][1])
    assert {key.partition(".")[0] for key in report.missing} == fresh
    assert report.unexpected == []
    assert sorted(report.ignored) == ["classifier.1.bias", "classifier.1.weight"]


def test_a_checkpoint_of_the_network_itself_loads_completely(tmp_path) -> None:
    network = SliceClassifier("efficientnet_b0", 4)
    torch.save({"model": network.state_dict()}, tmp_path / "model.pt")
    report = load_pretrained(SliceClassifier("efficientnet_b0", 4), tmp_path / "model.pt")
    assert (report.missing, report.unexpected, report.ignored) == ([], [], [])
    other = load_pretrained(SliceClassifier("efficientnet_b0", 3), tmp_path / "model.pt")
    assert other.missing == ["head.4.weight", "head.4.bias"]


def test_keys_that_nobody_knows_are_reported_as_the_file_has_them(files, tmp_path) -> None:
    state = files["efficientnet_b0"][0]
    torch.save({**state, "avgpool.scale": torch.ones(1)}, tmp_path / "more.pth")
    assert load_pretrained(SliceClassifier("efficientnet_b0"), tmp_path / "more.pth").unexpected == ["avgpool.scale"]


def test_weights_of_another_backbone_are_refused(files) -> None:
    with pytest.raises(WeightsError, match=r"nothing in it fits SliceClassifier; it has features\.0\.0"):
        SliceClassifier("resnet50", pretrained_path=files["efficientnet_b0"][1])
    with pytest.raises(WeightsError, match=r"backbone tensors are not matched: backbone\.layer3\.6"):
        SliceClassifier("resnet101", pretrained_path=files["resnet50"][1])


@pytest.mark.parametrize(
    ("backbone", "joined"),
    [
        ("resnet18", 128 + 256 + 512),
        ("resnet50", 512 + 1024 + 2048),
        ("efficientnet_b0", 40 + 112 + 1280),
    ],
)
def test_multiscale_joins_three_depths(backbone, joined) -> None:
    network = SliceClassifier(backbone, multiscale=True).eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        features = network.forward_features(x)
        scales = network.backbone.forward_scales(x)
    assert features.shape == (1, joined)
    assert [scale.shape[-1] for scale in scales] == [8, 4, 2]
    assert torch.equal(features[:, : scales[0].shape[1]], scales[0].mean((2, 3)))


@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_b0"])
def test_stages_are_the_whole_backbone_once(backbone) -> None:
    network = SliceClassifier(backbone, attention="se")
    listed = [p for stage in network.stages for name in stage for p in network.get_submodule(name).parameters()]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(network.backbone.parameters())


def test_the_head_is_as_specified() -> None:
    head = SliceClassifier("efficientnet_b0", 18, dropout=0.3).head
    assert [type(layer) for layer in head] == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert (head[0].p, head[3].p) == (0.3, 0.15)
    assert (head[1].out_features, head[4].out_features) == (512, 18)


def test_cbam_equals_the_paper_s_formula() -> None:
    torch.manual_seed(0)
    module, x = CBAM(32, 16), torch.randn(2, 32, 5, 6)
    vectors = [x.reshape(2, 32, -1).mean(-1), x.reshape(2, 32, -1).max(-1).values]
    hidden = [torch.relu(v @ module.mlp[0].weight.T + module.mlp[0].bias) for v in vectors]
    summed = sum(h @ module.mlp[2].weight.T + module.mlp[2].bias for h in hidden)
    weighed = x * torch.sigmoid(summed).reshape(2, 32, 1, 1)
    planes = torch.stack([weighed.mean(1), weighed.max(1).values], dim=1)
    gate = torch.sigmoid(nn.functional.conv2d(planes, module.spatial.weight, padding=3))
    torch.testing.assert_close(module(x), weighed * gate)
    assert module.spatial.weight.shape == (1, 2, 7, 7)
    assert module.mlp[0].out_features == 2


def test_attention_depends_on_the_place() -> None:
    """On a map, not on a pooled vector: moving a bright spot changes what is kept of it."""
    torch.manual_seed(0)
    module, x = CBAM(16, 4), torch.rand(1, 16, 9, 9)
    gates = (module(x) / x)[0, 0]
    assert gates.max() - gates.min() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vgg16"}, "backbone must be one of resnet18, resnet50, resnet101, efficientnet_b0, got 'vgg16'"),
        ({"attention": "eca"}, "attention must be one of none, se, cbam, got 'eca'"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
        ({"in_channels": 1.0}, "in_channels must be an integer of at least 1, got 1.0"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\), got 1"),
    ],
    ids=["backbone", "attention", "classes", "channels", "dropout"],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=f"SliceClassifier: {message}"):
        SliceClassifier(**arguments)


def test_cbam_refuses_an_empty_hidden_layer() -> None:
    with pytest.raises(ValueError, match="reduction must be from 1 to the 8 channels, got 16"):
        CBAM(8)
