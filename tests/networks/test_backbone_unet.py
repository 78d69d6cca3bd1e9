from __future__ import annotations

import pytest
import torch
from network_contract import NetworkContract

from monai_ext.errors import ConfigError
from monai_ext.networks import BackboneUNet, SliceClassifier, fine_tuning_stages, load_pretrained


class TestBackboneUNet(NetworkContract):
    scriptable = False  # MONAI's decoder can be traced only
    input_shape = (2, 1, 64, 32)
    output_shapes = ((2, 1, 64, 32),)

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        torch.manual_seed(0)
        return BackboneUNet().eval()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_takes_a_classifier_s_backbone_whole(backbone, tmp_path) -> None:
    torch.manual_seed(1)
    classifier = SliceClassifier(backbone, num_classes=4).eval()
    torch.save({"model": classifier.state_dict()}, tmp_path / "best.pt")
    network = BackboneUNet(backbone).eval()
    report = load_pretrained(network, tmp_path / "best.pt")
    assert all(key.startswith(("decoder.", "segmentation_head.")) for key in report.missing)
    assert report.unexpected == []
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.encoder(image)[-1], classifier.backbone(image))


def test_takes_torchvision_s_names_for_three_colours(tmp_path) -> None:
    reference = SliceClassifier("resnet18", in_channels=3).backbone.state_dict()
    torch.save({**reference, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "r18.pth")
    network = BackboneUNet()
    load_pretrained(network, tmp_path / "r18.pth")
    expected = reference["conv1.weight"].sum(1, keepdim=True) / 1
    assert torch.allclose(network.encoder.conv1.weight, expected)


def test_the_encoder_is_what_can_be_frozen() -> None:
    assert fine_tuning_stages(BackboneUNet()) == [("encoder",)]


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ConfigError, match="resnet18, resnet50, got 'vgg'"):
        BackboneUNet("vgg")
    with pytest.raises(ValueError, match=r"multiples of 32, got \[40, 64\]"):
        BackboneUNet().eval()(torch.zeros(1, 1, 40, 64))
