"""Self-test of the convolutions of a training in half precision on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from monai_ext.errors import ConfigError

_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
# bfloat16 rounds to 8 bits: right gradients differ by about 0.003, wrong ones by 0.8 and more.
_TOLERANCE = 0.1


class _Use(NamedTuple):
    """A convolution in words, the shape of one sample, and the memory layouts of input and weights."""

    module: str
    shape: tuple[int, ...]
    layout: torch.memory_format
    weights: torch.memory_format


class ConvolutionCheck:
    """Compares the weight gradient of each convolution shape in use with that of float32, once per shape.

    With torch 2.13 on a CPU with AVX-512 bf16 the weight gradient of a 3³ convolution is garbage, and often finite,
    where the feature map is 2 voxels deep. Which shapes are concerned depends on the CPU, torch and the memory layout,
    so each that a forward pass meets is tried with one sample of random numbers.

    Args:
        dtype: the half-precision type to be trained in.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._tried: set[_Use] = set()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Check the convolutions of the forward pass inside, at its end.

        Raises:
            ConfigError: for a convolution whose gradient is wrong.
        """
        new: dict[_Use, nn.Module] = {}

        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, _KINDS) and module.weight.requires_grad and torch.is_grad_enabled():
                use = _Use(str(module), (1, *inputs[0].shape[1:]), _layout(inputs[0]), _layout(module.weight))
                if use not in self._tried:
                    new[use] = module

        handle = register_module_forward_hook(note)
        try:
            yield
        finally:
            handle.remove()
        for use, module in new.items():
            self._try(use, module)

    def _try(self, use: _Use, module: nn.Module) -> None:
        error = _gradient_error(module, use, self.dtype)
        if not error < _TOLERANCE:  # NaN, too
            raise ConfigError(
                f"--amp True: on this CPU, torch {torch.__version__} computes a wrong weight gradient in "
                f"{str(self.dtype).removeprefix('torch.')} for {module} on a feature map of {list(use.shape[2:])} "
                f"(relative error {error:.2g}); train in float32 (--amp False), on a GPU, or on inputs of another size"
            )
        self._tried.add(use)


def _gradient_error(module: nn.Module, use: _Use, dtype: torch.dtype) -> float:
    """Relative error of the weight gradient; the random numbers of the training aren't touched."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        twin = _twin(module).to(memory_format=use.weights)
        image = torch.randn(use.shape, generator=generator).to(memory_format=use.layout)
        output = twin(image)
        upstream = torch.randn(output.shape, generator=generator)
        (expected,) = torch.autograd.grad(output, twin.weight, upstream)
        (found,) = torch.autograd.grad(twin.to(dtype)(image.to(dtype)), twin.weight, upstream.to(dtype))
    return float((found.float() - expected).norm() / expected.norm().clamp(min=1e-12))


def _twin(module: Any) -> Any:
    """A convolution like this one, with weights of its own: those of the training may be anywhere, or parametrised."""
    kind = next(kind for kind in _KINDS if isinstance(module, kind))
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    given = {name: getattr(module, name) for name in names}
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        given["output_padding"] = module.output_padding
    return kind(**given, bias=False, device="cpu", dtype=torch.float32)


def _layout(tensor: torch.Tensor) -> torch.memory_format:
    """Channels-last only where the tensor isn't contiguous as well."""
    layout = _LAYOUTS.get(tensor.ndim)
    if layout is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=layout):
        return torch.contiguous_format
    return layout
