"""Faster inference of the same network: another engine, another precision, and a check that the predictions agree."""

from __future__ import annotations

import copy
import functools
import importlib.util
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type
from torch import nn
from torch.utils import _pytree as pytree

from monai_ext.errors import ConfigError
from monai_ext.inferers.accuracy import CheckedNetwork, accuracy_fault
from monai_ext.inferers.openvino_network import OpenVinoNetwork, gains_by_openvino

logger = logging.getLogger(__name__)

ENGINES = ("eager", "compiled", "torchscript", "openvino", "auto")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Compilation takes much longer on a CPU than freezing and gives no more, so "auto" doesn't try it there.
_AUTO_ENGINES = {"cpu": ("eager", "torchscript", "openvino"), "cuda": ("eager", "torchscript", "compiled")}


def prepare_for_inference(
    network: nn.Module,
    device: str | torch.device,
    engine: str = "eager",
    precision: str = "fp32",
    example: torch.Tensor | None = None,
    checkpoints: Sequence[str | Path] = (),
    fall_back: bool = True,
) -> nn.Module:
    """Make a network faster for inference.

    ``eager`` with ``fp32`` returns the network itself, anything else a copy. In half precision its convolutions and
    linear layers hold half-precision weights in channels-last layout, and the rest runs under autocast.

    Args:
        network: network that maps images (B, C, [Z,] Y, X) to a tensor, or a dict of them. An exported ``.ts`` is
            returned as it is.
        device: device to run on; the network is moved there and set to evaluation mode.
        engine: ``eager``, ``compiled`` (torch.compile), ``torchscript`` (frozen; traced with ``example``, else
            scripted), ``openvino`` (CPU), or ``auto``.
        precision: ``fp32``, ``bf16``, ``fp16`` (GPU only), or ``auto``.
        example: an image batch of the shape (and for ``auto`` the kind) to come.
        checkpoints: files that the weights come from; OpenVINO's conversion is kept beside the first.
        fall_back: whether a faster network that differs on the first image makes place for the exact one, with a
            warning. Otherwise float32 that differs is an error of the first call, and half precision isn't checked.

    ``auto`` times what is installed on ``example`` and selects the fastest that predicts the same classes there, in
    float32 with an error below 1e-4 of the largest output, in half precision with probabilities within 0.02; the choice
    is logged. Without a better one it stays with eager float32. On a CPU every engine is compared like that once more,
    on the first image that it gets.

    Returns:
        Module for the same call; its outputs are float32, and keep the meta data of a MetaTensor. It isn't meant for
        training or saving.

    Raises:
        ConfigError: for an unknown name, an engine that isn't installed or doesn't fit the network or the device, or
            when ``example`` is needed and not given.
    """
    device = torch.device(device)
    _check_names(engine, precision, device)
    network = network.to(device).eval()
    if isinstance(network, torch.jit.ScriptModule):
        if engine in ("eager", "torchscript", "auto") and precision in ("fp32", "auto"):
            return network
        raise ConfigError(f"an exported .ts runs as it is, not with {engine} {precision}; give the checkpoint (.pt)")
    if example is not None:
        example = _plain(example).to(device)
    fast = network
    if "auto" in (engine, precision):
        example = _needed(example, engine, precision)
        fast, engine, precision = _fastest(network, device, engine, precision, example, checkpoints)
    elif (engine, precision) != ("eager", "fp32"):
        fast = _prepare(network, device, engine, precision, example, checkpoints)
    elif device.type == "cpu" and gains_by_openvino(network):
        _say_what_is_faster()
    exact = precision == "fp32"
    if fast is network or device.type != "cpu" or not (exact or fall_back):
        return fast
    return CheckedNetwork(fast, network, f"{engine} {precision}", exact, fall_back)


class _Accelerated(nn.Module):
    """Layout and precision around an engine, float32 outside."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.device_type = device.type
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> Any:
        # Engines know plain tensors only.
        image = _laid_out(_plain(x), self.dtype)
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32):
            output = self.network(image)
        return pytree.tree_map_only(torch.Tensor, lambda tensor: _like(tensor.float(), x), output)


def _prepare(
    network: nn.Module,
    device: torch.device,
    engine: str,
    precision: str,
    example: torch.Tensor | None,
    checkpoints: Sequence[str | Path],
) -> nn.Module:
    dtype = _DTYPES[precision]
    if engine == "openvino":
        converted = OpenVinoNetwork(network, precision, _needed(example, engine, precision), checkpoints)
        return _Accelerated(converted, device, torch.float32)
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            module.to(dtype)
    for parameter in network.parameters():
        parameter.data = _laid_out(parameter.data, dtype)
    if engine == "compiled":
        network = cast(nn.Module, torch.compile(network))
    elif engine == "torchscript" and (precision != "fp32" or example is not None):
        network = _traced(network, device, dtype, _needed(example, engine, precision))
    elif engine == "torchscript":
        network = _scripted(network, device)
    return _Accelerated(network, device, dtype)


def _scripted(network: nn.Module, device: torch.device) -> nn.Module:
    try:
        return _frozen(torch.jit.script(network), device, torch.float32)
    except Exception as error:  # the compiler of TorchScript fails with whatever it meets
        raise ConfigError(
            f"engine 'torchscript': {type(network).__name__} can't be scripted; give an example to trace it"
        ) from error


def _traced(network: nn.Module, device: torch.device, dtype: torch.dtype, example: torch.Tensor) -> nn.Module:
    # Without the cache: autocast keeps converted weights in it, which a trace takes for inputs of another call.
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
        traced = torch.jit.trace(network, _laid_out(example, dtype), strict=False, check_trace=False)
    return _frozen(traced, device, dtype)


def _frozen(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    frozen = torch.jit.freeze(network)
    # Prepacked oneDNN weights: faster on a CPU; in bf16 the layout has that already.
    return torch.jit.optimize_for_inference(frozen) if (device.type, dtype) == ("cpu", torch.float32) else frozen


def _fastest(
    network: nn.Module,
    device: torch.device,
    engine: str,
    precision: str,
    example: torch.Tensor,
    checkpoints: Sequence[str | Path],
) -> tuple[nn.Module, str, str]:
    engines = _AUTO_ENGINES.get(device.type, ("eager",)) if engine == "auto" else (engine,)
    precisions: tuple[str, ...] = (precision,)
    if precision == "auto":
        precisions = ("fp32", "bf16") if device.type == "cpu" else ("fp32", "bf16", "fp16")
    reference, base = _timed(network, example)
    best, best_time, chosen = network, base, ("eager", "fp32")
    for candidate in engines:
        if candidate == "openvino" and not _has_openvino():
            continue
        for kind in precisions:
            name = f"{candidate} {kind}"
            if name == "eager fp32":
                continue
            try:
                prepared = _prepare(network, device, candidate, kind, example, checkpoints)
                output, seconds = _timed(prepared, example)
            except Exception as error:  # an engine that can't take this network is no reason to stop
                logger.info("inference: %s left out (%s: %s)", name, type(error).__name__, str(error)[:200])
                continue
            fault = accuracy_fault(output, reference, exact=kind == "fp32")
            logger.info("inference: %s takes %.4f s%s", name, seconds, f", refused: {fault}" if fault else "")
            if fault is None and seconds < best_time:
                best, best_time, chosen = prepared, seconds, (candidate, kind)
    logger.info("inference: %s %s chosen, %.2f times as fast as eager fp32", *chosen, base / best_time)
    return best, *chosen


def _timed(network: nn.Module, example: torch.Tensor, repeats: int = 3) -> tuple[Any, float]:
    seconds = []
    with torch.no_grad():
        # TorchScript compiles in its first two calls.
        for _ in range(2):
            output = network(example)
        for _ in range(repeats):
            _wait(example.device)
            start = time.perf_counter()
            network(example)
            _wait(example.device)
            seconds.append(time.perf_counter() - start)
    return output, statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _plain(x: torch.Tensor) -> torch.Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def _like(tensor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return convert_to_dst_type(tensor, x, dtype=tensor.dtype)[0] if isinstance(x, MetaTensor) else tensor


def _laid_out(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # Channels-last wins in half precision; in float32 on a CPU it lost (0.8 of the speed).
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=layouts[x.ndim]) if dtype != torch.float32 and x.ndim in layouts else x


@functools.cache
def _say_what_is_faster() -> None:
    how = "" if _has_openvino() else " (pip install 'monai-ext[openvino]')"
    logger.info(
        "inference: eager fp32; on this CPU --engine openvino%s is 1.1 to 2.7 times as fast, with the same results", how
    )


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def _needed(example: torch.Tensor | None, engine: str, precision: str) -> torch.Tensor:
    if example is None:
        raise ConfigError(f"engine {engine!r} with precision {precision!r} needs an example input; give one")
    return example


def _check_names(engine: str, precision: str, device: torch.device) -> None:
    for setting, value, choices in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in choices:
            raise ConfigError(f"{setting} must be one of {', '.join(choices)}, got {value!r}")
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision 'fp16' needs a GPU, got device 'cpu'; use 'bf16' or 'fp32'")
    if engine == "openvino":
        if not _has_openvino():
            raise ConfigError("engine 'openvino' isn't installed: pip install 'monai-ext[openvino]', or use another")
        if device.type != "cpu" or precision == "fp16":
            raise ConfigError(f"engine 'openvino' runs fp32 or bf16 on the CPU, got {precision} on {device}")
