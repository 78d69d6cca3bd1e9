"""Zarr inference with the default surface U-Net on a GPU (P14): how busy the GPU is, beside MONAI in memory.

Run ``python benchmarks/bench_gpu_zarr.py [--shape Z Y X] [--precision fp16]``; without a GPU it says so and ends. The
volume is random bytes, the network untrained, windows and batch are those of ``inference.json``. The GPU is busy where
any kernel or copy runs: the union of their times by PyTorch's profiler, over the whole call from opening the input to
the last byte of the pyramid. A host's wait is a call of ``cudaStreamSynchronize`` and its like that the profiler saw.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer

from monai_ext.inferers import ZarrSlidingWindow

BUNDLE = Path(__file__).parents[1] / "bundles" / "surface_unet"
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--shape", type=int, nargs=3, default=(256, 1024, 1024))
    options.add_argument("--quick", action="store_true", help="a quarter of the volume")
    options.add_argument("--precision", default="fp16", choices=("fp32", "bf16", "fp16"))
    options.add_argument("--channels-last", action="store_true")
    given = options.parse_args()
    if given.quick:
        given.shape = (given.shape[0] // 4, *given.shape[1:])
    if not torch.cuda.is_available():
        print("torch finds no GPU here")
        return 0
    torch.backends.cudnn.benchmark = True
    config = ConfigParser()
    config.read_config(str(BUNDLE / "configs" / "inference.json"))
    config["bundle_root"] = str(BUNDLE)
    torch.manual_seed(0)
    network = config.get_parsed_content("network_def").cuda().eval()
    if given.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "volume.zarr"
        values = np.random.default_rng(0).integers(1, 255, given.shape).astype(np.uint8)
        zarr.create_array(source, data=values, chunks=(128,) * 3)
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {given.precision}, volume {given.shape}\n")
        print("| way | seconds | GPU busy | windows' network alone | waits of the host |\n|---|---|---|---|---|")
        calls = _calls(config, network, given)
        for name, predict in {
            "ours": lambda out: _ours(config, network, given, source, out),
            "MONAI in memory": lambda out: _in_memory(config, network, given, source, out),
        }.items():
            predict(Path(folder) / f"{name} first")
            _told(name, predict, Path(folder) / name, calls)
    return 0


def _calls(config: ConfigParser, network: torch.nn.Module, given: argparse.Namespace) -> float:
    """Seconds of one batch of windows, measured alone."""
    batch = torch.randn(config["batch_size"], 1, *config["patch_size"], device="cuda")
    with torch.inference_mode(), _autocast(given.precision):
        for _ in range(3):
            network(batch)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(5):
            network(batch)
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / 5


def _autocast(precision: str) -> Any:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast("cuda", dtype=dtype, enabled=dtype is not None)


def _told(name: str, predict: Callable[[Path], int], output: Path, call_seconds: float) -> None:
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    start = time.perf_counter()
    predict(output.with_name(f"{output.name} plain"))
    seconds = time.perf_counter() - start
    with torch.profiler.profile(activities=activities[:1]) as profile:
        start = time.perf_counter()
        batches = predict(output)
        profiled = time.perf_counter() - start
    events = profile.profiler.kineto_results.events()
    spans = sorted(
        (event.start_ns(), event.end_ns()) for event in events if event.device_type() == torch.autograd.DeviceType.CUDA
    )
    waits = sum(event.name() in WAITS for event in events)
    busy = _union(spans) / 1e9
    print(
        f"| {name} | {seconds:.2f} ({profiled:.2f} profiled) | {busy / profiled:.1%} | "
        f"{batches * call_seconds / seconds:.1%} ({batches} batches) | {waits} |",
        flush=True,
    )


def _union(spans: list[tuple[int, int]]) -> int:
    total, reached = 0, 0
    for begin, end in spans:
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _counted(network: torch.nn.Module, found: list[int]) -> Any:
    return network.register_forward_hook(lambda *_: found.append(1))


def _ours(config: ConfigParser, network: torch.nn.Module, given: argparse.Namespace, source: Path, output: Path) -> int:
    found: list[int] = []
    handle = _counted(network, found)
    predict = ZarrSlidingWindow(
        network,
        config["patch_size"],
        config["overlap"],
        config["mode"],
        config["batch_size"],
        targets=config.get_parsed_content("predicted_targets"),
        normalize=config.get_parsed_content("normalize"),
        precision=given.precision,
        device="cuda",
        progress=False,
    )
    predict(source, output)
    handle.remove()
    return len(found)


def _in_memory(
    config: ConfigParser, network: torch.nn.Module, given: argparse.Namespace, source: Path, output: Path
) -> int:
    found: list[int] = []
    handle = _counted(network, found)
    image = torch.from_numpy(zarr.open_array(source, mode="r")[:].astype(np.float32))[None, None]
    image = ((image - image.mean()) / image.std()).cuda()
    inferer = SlidingWindowInferer(config["patch_size"], config["batch_size"], config["overlap"], config["mode"])
    with torch.inference_mode(), _autocast(given.precision):
        logits = inferer(image, network)
        sheet = (torch.sigmoid(logits["sheet"][0, 0].float()) * 255).round().to(torch.uint8).cpu().numpy()
        normals = ((logits["normals"][0].float() + 1) * 32767).clamp(0, 65535).cpu().numpy().astype(np.uint16)
    zarr.create_array(output / "sheet", data=sheet, chunks=(128,) * 3)
    zarr.create_array(output / "normals", data=normals, chunks=(3, 128, 128, 128))
    handle.remove()
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
