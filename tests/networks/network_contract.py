"""What every network of this package must do; a network's test class inherits `NetworkContract`."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from monai_ext.networks.build import channels_last_of

GOLDEN = Path(__file__).parents[1] / "golden"


def fill(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in float64 that follow from the key names alone, as the golden values were computed with."""
    filled = {}
    for key in sorted(state):
        shape = tuple(state[key].shape)
        random = np.random.RandomState(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            array = np.zeros(shape, np.int64)
        elif key.endswith("running_var"):
            array = random.uniform(0.5, 1.5, shape)
        elif key.endswith("running_mean"):
            array = 0.1 * random.standard_normal(shape)
        elif key.endswith("bias"):
            array = 0.05 * random.standard_normal(shape)
        elif len(shape) == 1:
            array = 1 + 0.1 * random.standard_normal(shape)
        else:
            array = random.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        filled[key] = torch.from_numpy(np.asarray(array))
    return filled


def filled(network: nn.Module) -> nn.Module:
    network.load_state_dict(fill(network.state_dict()))
    return network


def tensors(output: torch.Tensor | dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return list(output.values()) if isinstance(output, dict) else [output]


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    assert actual.shape == expected.shape
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())


class NetworkContract:
    """Forward, backward, script, trace, channels-last, float64 and ONNX.

    A subclass gives the fixture ``network`` (class scope, in evaluation mode; tests leave it as it was),
    ``input_shape`` and ``output_shapes``; ``scriptable = False`` for networks that can only be traced.
    """

    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    scriptable = True

    @pytest.fixture(scope="class")
    @classmethod
    def x(cls) -> torch.Tensor:
        return torch.randn(cls.input_shape, generator=torch.Generator().manual_seed(0))

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            return tensors(network(x))

    def test_output_shapes_and_finite(self, expected: list[torch.Tensor]) -> None:
        assert tuple(tuple(output.shape) for output in expected) == self.output_shapes
        assert all(torch.isfinite(output).all() for output in expected)

    def test_every_parameter_gets_a_gradient(self, network: nn.Module, x: torch.Tensor) -> None:
        sum(output.square().mean() for output in tensors(network(x))).backward()
        without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        finite = all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
        network.zero_grad(set_to_none=True)
        assert not without
        assert finite

    def test_script_equals_eager_also_after_saving(self, network, x, expected) -> None:
        if not self.scriptable:
            pytest.skip("this network can only be traced")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(network), buffer)
        buffer.seek(0)
        with torch.no_grad():
            outputs = tensors(torch.jit.load(buffer)(x))
        assert all(relative_error(a, e) < 1e-5 for a, e in zip(outputs, expected, strict=True))

    def test_trace_equals_eager(self, network, x, expected) -> None:
        with torch.no_grad():
            outputs = tensors(torch.jit.trace(network, x, strict=False, check_trace=False)(x))
        assert all(relative_error(a, e) < 1e-5 for a, e in zip(outputs, expected, strict=True))

    def test_channels_last_equals_eager(self, network, x, expected) -> None:
        layout = channels_last_of(network)
        if x.ndim == (5 if layout == torch.channels_last_3d else 4):
            x = x.to(memory_format=layout)
        try:
            with torch.no_grad():
                outputs = tensors(network.to(memory_format=layout)(x))
        finally:
            network.to(memory_format=torch.contiguous_format)
        assert all(relative_error(a, e) < 1e-4 for a, e in zip(outputs, expected, strict=True))

    def test_float64_agrees_with_float32(self, network, x, expected) -> None:
        try:
            with torch.no_grad():
                outputs = tensors(network.double()(x.double()))
        finally:
            network.float()
        assert all(output.dtype == torch.float64 for output in outputs)
        assert all(relative_error(e, a) < 1e-4 for a, e in zip(outputs, expected, strict=True))

    def test_onnx_equals_eager(self, network, x, expected, tmp_path) -> None:
        runtime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
        path = tmp_path / "network.onnx"
        torch.onnx.export(network, (x,), str(path), input_names=["image"], dynamo=False)
        outputs = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, {"image": x.numpy()}
        )
        assert all(relative_error(torch.from_numpy(a), e) < 1e-4 for a, e in zip(outputs, expected, strict=True))
