from __future__ import annotations

import logging

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.inferers import acceleration, prepare_for_inference
from monai_ext.inferers.accuracy import CheckedNetwork, accuracy_fault


class Tiny(nn.Module):
    """Every kind of layer whose precision or layout matters: convolution, both norms, transposed, linear, pooling."""

    def __init__(self, dimensions: int = 3, several: bool = False) -> None:
        super().__init__()
        conv, transposed, norm = (
            (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)
            if dimensions == 3
            else (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
        )
        self.several = several
        self.body = nn.Sequential(
            conv(1, 8, 3, padding=1, bias=False), norm(8), nn.ReLU(), transposed(8, 8, 2, 2), nn.GroupNorm(2, 8)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        features = self.body(x)
        logits = self.head(features.flatten(2).mean(2))
        return {"mask": features[:, :2], "classes": logits} if self.several else logits


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 1, 8, 9, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def test_the_default_is_the_network_itself_in_evaluation_mode(network) -> None:
    assert prepare_for_inference(network.train(), "cpu") is network
    assert not network.training


@pytest.mark.parametrize("with_example", [True, False], ids=["traced", "scripted"])
def test_torchscript_is_exact(x, with_example) -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    fast = prepare_for_inference(network, "cpu", "torchscript", example=x if with_example else None)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x), rtol=1e-4, atol=1e-5)
        other = x[:1, :, :6].contiguous()
        torch.testing.assert_close(fast(other), network(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", "torchscript"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("several", [False, True], ids=["tensor", "dict"])
def test_bf16_gives_float32_outputs_close_to_eager(x, engine, dimensions, several) -> None:
    torch.manual_seed(0)
    network = Tiny(dimensions, several)
    x = x if dimensions == 3 else x[..., 0]
    fast = prepare_for_inference(network, "cpu", engine, "bf16", example=x, fall_back=False)
    with torch.no_grad():
        outputs, expected = fast(x), network(x)
    if not several:
        outputs, expected = {"classes": outputs}, {"classes": expected}
    assert outputs.keys() == expected.keys()
    for name, output in outputs.items():
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, expected[name], rtol=0, atol=0.05 * float(expected[name].abs().max()))
        # It did run in another precision.
        assert not torch.equal(output, expected[name])


def test_the_network_itself_is_not_changed(network, x) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    prepare_for_inference(network, "cpu", "eager", "bf16")(x)
    after = network.state_dict()
    assert all(value.dtype == after[key].dtype and torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.slow
def test_compiled_is_exact(network, x) -> None:
    fast = prepare_for_inference(network, "cpu", "compiled")
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x), rtol=1e-4, atol=1e-5)


def test_meta_data_survive(x, network) -> None:
    image = MetaTensor(x, meta={"filename_or_obj": "case"})
    with torch.no_grad():
        output = prepare_for_inference(network, "cpu", "torchscript", example=image)(image)
    assert isinstance(output, MetaTensor)
    assert output.meta["filename_or_obj"] == "case"


def test_a_network_that_cannot_be_scripted_asks_for_an_example() -> None:
    class Unscriptable(nn.Module):
        def forward(self, *x):
            return x[0]

    with pytest.raises(ConfigError, match="Unscriptable can't be scripted; give an example to trace it"):
        prepare_for_inference(Unscriptable(), "cpu", "torchscript")


def test_an_export_is_given_back_as_it_is() -> None:
    exported = torch.jit.freeze(torch.jit.script(nn.Conv3d(1, 2, 3).eval()))
    assert prepare_for_inference(exported, "cpu", "auto", "auto") is exported
    with pytest.raises(ConfigError, match=r"runs as it is, not with eager bf16; give the checkpoint"):
        prepare_for_inference(exported, "cpu", "eager", "bf16")


class TestAuto:
    def test_takes_the_fastest_that_is_accurate_and_says_which(self, network, x, monkeypatch, caplog) -> None:
        seconds = iter([3.0, 1.0, 2.0])  # eager fp32, eager bf16, TorchScript fp32
        self.replace_timing(monkeypatch, seconds)
        monkeypatch.setitem(acceleration._AUTO_ENGINES, "cpu", ("eager", "torchscript"))
        with caplog.at_level(logging.INFO):
            fast = prepare_for_inference(network, "cpu", "eager", "auto", example=x)
        assert fast is not network
        assert "eager bf16 chosen, 3.00 times as fast as eager fp32" in caplog.text

    def test_refuses_what_is_fast_and_wrong(self, network, x, monkeypatch, caplog) -> None:
        self.replace_timing(monkeypatch, iter([3.0, 1.0]), distort=0.1)
        with caplog.at_level(logging.INFO):
            assert prepare_for_inference(network, "cpu", "torchscript", "auto", example=x) is network
        assert "torchscript fp32 takes 1.0000 s, refused: error" in caplog.text
        assert "eager fp32 chosen" in caplog.text

    def test_passes_over_what_fails(self, network, x, monkeypatch, caplog) -> None:
        def fail(*args):
            raise RuntimeError("unsupported operator")

        monkeypatch.setattr(acceleration, "_traced", fail)
        with caplog.at_level(logging.INFO):
            assert prepare_for_inference(network, "cpu", "torchscript", "auto", example=x) is network
        assert "torchscript bf16 left out (RuntimeError: unsupported operator)" in caplog.text

    def test_result_is_accurate_without_any_replacement(self, network, x) -> None:
        fast = prepare_for_inference(network, "cpu", "auto", "auto", example=x)
        with torch.no_grad():
            assert accuracy_fault(fast(x), network(x), exact=False) is None

    @staticmethod
    def replace_timing(monkeypatch, seconds, distort: float = 0.0) -> None:
        def timed(network, example):
            with torch.no_grad():
                output = network(example)
            scale = 1 + distort if isinstance(network, acceleration._Accelerated) else 1
            return output * scale, next(seconds)

        monkeypatch.setattr(acceleration, "_timed", timed)


@pytest.mark.parametrize(
    ("output", "exact", "fault"),
    [
        ([[2.0, 1.0]], True, None),
        ([[2.001, 1.0]], True, "error 5.0e-04"),
        ([[2.01, 1.0]], False, None),
        ([[2.5, 1.0]], False, "probabilities differ by 0.0"),
        ([[float("nan"), 1.0]], False, "not finite"),
    ],
    ids=["same", "inexact", "half", "half-too-far", "nan"],
)
def test_accuracy_gate(output, exact, fault) -> None:
    found = accuracy_fault(torch.tensor(output), torch.tensor([[2.0, 1.0]]), exact)
    assert found is None if fault is None else fault in found


def test_accuracy_gate_looks_at_classes_too() -> None:
    found = accuracy_fault(torch.tensor([[1.0, 1.001]]), torch.tensor([[1.0, 0.999]]), exact=False)
    assert found == "100.00% of the classes differ"


def test_accuracy_gate_looks_at_small_structures() -> None:
    logits = torch.full((1, 1, 100, 100), -0.001)
    logits[0, 0, 0, :20] = 0.001
    smaller = logits.clone()
    smaller[0, 0, 0, 0] = -0.001
    assert accuracy_fault(smaller, logits, exact=False) == "Dice of a class is 0.9744"
    assert accuracy_fault(logits, logits.clone(), exact=False) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "tensorrt"}, "engine must be one of eager, compiled, torchscript, openvino, auto, got 'tensorrt'"),
        ({"precision": "int8"}, "precision must be one of fp32, bf16, fp16, auto, got 'int8'"),
        ({"precision": "fp16"}, "precision 'fp16' needs a GPU"),
        ({"engine": "auto"}, "needs an example input"),
        ({"precision": "auto"}, "needs an example input"),
        ({"engine": "torchscript", "precision": "bf16"}, "needs an example input"),
    ],
    ids=["engine", "precision", "fp16-cpu", "auto-engine", "auto-precision", "traced-bf16"],
)
def test_bad_choices(network, arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_for_inference(network, "cpu", **arguments)


def test_missing_openvino_names_the_extra(network, x, monkeypatch) -> None:
    monkeypatch.setattr(acceleration, "_has_openvino", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'monai-ext\[openvino\]'"):
        prepare_for_inference(network, "cpu", "openvino", example=x)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class TestFirstImage:
    def test_an_engine_that_differs_there_makes_place_for_the_exact_one(self, x, caplog) -> None:
        network = CheckedNetwork(Doubled(), nn.Identity(), "openvino fp32", exact_numbers=True)
        assert torch.equal(network(x), x)
        assert "openvino fp32 isn't as eager fp32 on the first image (error 1.0e+00" in caplog.text
        assert network.chosen is network.exact

    def test_it_is_an_error_where_processes_must_agree(self, x) -> None:
        network = CheckedNetwork(Doubled(), nn.Identity(), "openvino fp32", exact_numbers=True, fall_back=False)
        with pytest.raises(ConfigError, match=r"'openvino fp32': not as eager .*; use engine 'eager'"):
            network(x)

    def test_an_engine_that_agrees_stays_and_is_compared_once(self, x) -> None:
        network = CheckedNetwork(Doubled(), Doubled(), "openvino fp32", exact_numbers=True)
        compared = []
        network.exact.register_forward_hook(lambda module, inputs, output: compared.append(len(inputs[0])))
        assert torch.equal(network(x), 2 * x)
        assert torch.equal(network(x + 1), 2 * (x + 1))
        assert network.chosen is network.fast
        assert compared == [1]

    @pytest.mark.parametrize(
        ("precision", "fall_back", "checked"), [("fp32", False, True), ("bf16", True, True), ("bf16", False, False)]
    )
    def test_every_engine_is_compared(self, network, x, precision, fall_back, checked) -> None:
        fast = prepare_for_inference(network, "cpu", "torchscript", precision, x, fall_back=fall_back)
        assert isinstance(fast, CheckedNetwork) is checked


@pytest.mark.parametrize(("installed", "how"), [(True, ""), (False, " (pip install 'monai-ext[openvino]')")])
def test_a_network_that_openvino_makes_faster_says_so_once(network, monkeypatch, caplog, installed, how) -> None:
    monkeypatch.setattr(acceleration, "_has_openvino", lambda: installed)
    acceleration._say_what_is_faster.cache_clear()
    with caplog.at_level(logging.INFO):
        prepare_for_inference(nn.Linear(1, 1), "cpu")
        assert not caplog.records, "without convolutions it wasn't seen"
        for _ in range(2):
            prepare_for_inference(network, "cpu")
    assert [record.message for record in caplog.records] == [
        f"inference: eager fp32; on this CPU --engine openvino{how} is 1.1 to 2.7 times as fast, with the same results"
    ]
