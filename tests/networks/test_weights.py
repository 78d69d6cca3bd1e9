from __future__ import annotations

import json
import logging
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from network_contract import GOLDEN
from torch import nn

from monai_ext.errors import WeightsError
from monai_ext.networks import MedicalNetResNet50, load_pretrained


class Small(nn.Module):
    """Backbone of three tensors, a head, and a dead part in its files."""

    head_prefixes = ("head.",)
    ignored_prefixes = ("dead.",)

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        self.head = nn.Linear(4, classes)


BACKBONE = ["conv.weight", "norm.weight", "norm.bias"]
HEAD = ["head.weight", "head.bias"]


def weights_of(network: nn.Module, value: float = 0.5) -> dict[str, torch.Tensor]:
    return {key: torch.full_like(tensor, value) for key, tensor in network.state_dict().items()}


@pytest.fixture
def network() -> Small:
    return Small()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights with a blank.pth"


def unchanged(network: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.module."])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state},
        lambda state: {"model": state},
        lambda state: {"model": {"state_dict": state}},
    ],
    ids=["bare", "state_dict", "model_state_dict", "model", "nested"],
)
def test_wrappers_and_prefixes_are_taken_off(network, path, wrap, prefix) -> None:
    torch.save(wrap({prefix + key: value for key, value in weights_of(network).items()}), path)
    report = load_pretrained(network, path)
    assert report.matched == BACKBONE + HEAD
    assert report.missing == report.unexpected == report.ignored == []
    assert all((parameter == 0.5).all() for parameter in network.parameters())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old-format"])
def test_both_file_formats_of_torch_load(network, path, zipped) -> None:
    torch.save(weights_of(network), path, _use_new_zipfile_serialization=zipped)
    assert load_pretrained(network, path).matched == BACKBONE + HEAD


def test_a_wrapped_network_is_looked_through(network, path) -> None:
    torch.save(weights_of(network), path)
    assert load_pretrained(nn.DataParallel(torch.compile(network)), path).matched == BACKBONE + HEAD
    assert (network.conv.weight == 0.5).all()


def test_head_may_be_missing_and_keeps_its_values(network, path) -> None:
    before = network.head.weight.clone()
    torch.save({key: value for key, value in weights_of(network).items() if key in BACKBONE}, path)
    report = load_pretrained(network, path)
    assert report.missing == HEAD
    assert torch.equal(network.head.weight, before)
    assert report.summary() == "3 of 5 tensors loaded; starting fresh: head.weight, head.bias"


def test_head_of_another_shape_counts_as_missing_and_is_mentioned(network, path) -> None:
    torch.save(weights_of(Small(classes=7)), path)
    report = load_pretrained(network, path)
    assert report.missing == HEAD
    assert report.reshaped == [
        "head.weight (file (7, 4), network (2, 4))",
        "head.bias (file (7,), network (2,))",
    ]
    assert "of another shape: head.weight (file (7, 4), network (2, 4))" in report.summary()


def test_dead_parts_are_ignored_and_others_unexpected(network, path, caplog) -> None:
    torch.save({**weights_of(network), "dead.0.weight": torch.ones(1), "extra.weight": torch.ones(1)}, path)
    with caplog.at_level(logging.INFO):
        report = load_pretrained(network, path)
    assert report.ignored == ["dead.0.weight"]
    assert report.unexpected == ["extra.weight"]
    assert "5 of 5 tensors loaded; unexpected in the file: extra.weight; 1 ignored" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_missing_backbone_fails_and_leaves_the_network_alone(network, path) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = weights_of(network)
    del state["norm.bias"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"does not fit Small: 1 of 3 backbone tensors are not matched: norm\.bias"):
        load_pretrained(network, path)
    assert unchanged(network, before)


def test_backbone_of_another_shape_fails_with_both_shapes(network, path) -> None:
    torch.save({**weights_of(network), "conv.weight": torch.ones(4, 2, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"conv\.weight \(file \(4, 2, 3, 3\), network \(4, 1, 3, 3\)\)"):
        load_pretrained(network, path)


def test_strict_backbone_can_be_switched_off_with_a_warning(network, path, caplog) -> None:
    torch.save({"conv.weight": torch.ones(4, 1, 3, 3)}, path)
    report = load_pretrained(network, path, strict_backbone=False)
    assert report.matched == ["conv.weight"]
    assert caplog.records[-1].levelno == logging.WARNING


@pytest.mark.parametrize("strict", [True, False])
def test_nothing_fits_is_always_an_error(network, path, strict) -> None:
    torch.save({"encoder.weight": torch.ones(3), **{key: torch.ones(1) for key in HEAD}}, path)
    with pytest.raises(WeightsError, match=r"nothing in it fits Small; it has encoder\.weight"):
        load_pretrained(network, path, strict_backbone=strict)


@pytest.mark.parametrize("ignore", ["norm.", ["norm."]], ids=["text", "list"])
def test_ignored_prefixes_are_neither_loaded_nor_required(network, path, ignore) -> None:
    torch.save(weights_of(network), path)
    report = load_pretrained(network, path, ignore=ignore)
    assert report.ignored == report.missing == ["norm.weight", "norm.bias"]
    assert (network.norm.weight == 1).all()


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def write_malicious(path: Path) -> None:
    torch.save({"state_dict": Malicious(path.with_name("executed"))}, path)


def write_malicious_old_format(path: Path) -> None:
    torch.save({"m": Malicious(path.with_name("executed"))}, path, _use_new_zipfile_serialization=False)


def write_malicious_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Malicious(path.with_name("executed")), protocol=2))


def write_truncated(path: Path) -> None:
    torch.save(weights_of(Small()), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_truncated_old_format(path: Path) -> None:
    torch.save(weights_of(Small()), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "checkpoint not found"),
        (lambda path: path.mkdir(), "is a folder; give the path of a checkpoint file"),
        (lambda path: path.write_bytes(b""), "is damaged, not a checkpoint"),
        (lambda path: path.write_text("weights"), "is damaged, not a checkpoint"),
        (lambda path: path.write_bytes(b"\x80\x02}q\x00."), "is damaged, not a checkpoint"),
        (write_truncated, "is damaged, not a checkpoint"),
        (write_truncated_old_format, "is damaged, not a checkpoint"),
        (write_malicious, "nothing in it was executed"),
        (write_malicious_old_format, "nothing in it was executed"),
        (write_malicious_pickle, "nothing in it was executed"),
        (lambda path: torch.save([1, 2], path), "expected a dict of tensors, got list"),
        (lambda path: torch.save({"epoch": 3}, path), "no network weights found .* has epoch"),
        (lambda path: torch.save({}, path), "no network weights found .* has nothing"),
        (lambda path: torch.jit.save(torch.jit.script(nn.Linear(1, 1)), path), "is an exported TorchScript program"),
    ],
    ids=[
        "missing",
        "folder",
        "empty",
        "text",
        "plain-pickle",
        "truncated",
        "truncated-old-format",
        "malicious",
        "malicious-old-format",
        "malicious-pickle",
        "list",
        "no-tensors",
        "empty-dict",
        "torchscript",
    ],
)
def test_unusable_files_give_one_clear_error_and_run_nothing(network, path, write, message) -> None:
    write(path)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as error:
        load_pretrained(network, path)
    assert str(error.value).startswith(f"{path}: ")
    assert "weights_only" not in str(error.value)
    assert not path.with_name("executed").exists()
    assert unchanged(network, before)


class TestMedicalNetFile:
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls) -> dict[str, torch.Tensor]:
        """Backbone with values of its own, and MedicalNet's segmentation head."""
        golden = json.loads((GOLDEN / "medicalnet.json").read_text())
        backbone = MedicalNetResNet50(dilated=True).state_dict()
        backbone = {key: value for key, value in backbone.items() if not key.startswith("fc.")}
        return {**backbone, **{key: torch.zeros(shape) for key, shape in golden["conv_seg"].items()}}

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls, source, tmp_path_factory) -> Path:
        path = tmp_path_factory.mktemp("medicalnet") / "resnet_50_23dataset.pth"
        torch.save({"state_dict": {f"module.{key}": value for key, value in source.items()}}, path)
        return path

    def test_backbone_is_matched_and_the_segmentation_head_ignored(self, source, file) -> None:
        network = MedicalNetResNet50(dilated=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = load_pretrained(network, file)
        assert len(report.matched) == 318
        assert report.missing == ["fc.1.weight", "fc.1.bias"]
        assert report.unexpected == []
        assert len(report.ignored) == 14
        assert all(torch.equal(network.state_dict()[key], source[key]) for key in report.matched)

    def test_stem_is_spread_over_four_channels(self, source, file) -> None:
        network = MedicalNetResNet50(in_channels=4, dilated=True)
        load_pretrained(network, file)
        expected = source["conv1.weight"].expand(-1, 4, -1, -1, -1) / 4
        torch.testing.assert_close(network.conv1.weight.detach(), expected, rtol=0, atol=0)

    def test_an_undilated_network_is_warned_about(self, file) -> None:
        with pytest.warns(UserWarning, match=r"cosine 0\.979.*Set dilated=True"):
            load_pretrained(MedicalNetResNet50(dilated=False), file)

    def test_our_own_weights_are_not_warned_about(self, path) -> None:
        network = MedicalNetResNet50(dilated=False)
        torch.save({"model": network.state_dict()}, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_pretrained(network, path).missing == []

    def test_a_random_start_is_never_silent(self, source, path) -> None:
        torch.save({f"encoder.{key}": value for key, value in source.items()}, path)
        with pytest.raises(WeightsError, match="nothing in it fits MedicalNetResNet50"):
            load_pretrained(MedicalNetResNet50(), path)
