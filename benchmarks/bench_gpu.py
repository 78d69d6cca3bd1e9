"""Training step and inference of each bundle's default network on a GPU, side by side (row P14).

Run ``python benchmarks/bench_gpu.py [--quick] [--only BUNDLE] [--compiled]``; without a GPU it says so and ends.
Shapes, batches and networks are the defaults of ``train.json``; images are random numbers on the GPU, so data loading
is left out, and the loss is the mean square of all outputs. The first row of each network is what the original
pipelines do: fp16 by autocast with a gradient scaler, plain layout, Adam without fusing. ``default`` is what the
bundle does. Each time is the median of 10 after 3 to warm up, measured with the device's own events. ``--quick`` takes
a batch of one and 3 repeats.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_ext.engines import autocast_dtype

BUNDLES = Path(__file__).parents[1] / "bundles"
# Shape of an image, by its bundle's default settings.
IMAGES = {
    "brats_resnet50": (1, 128, 128, 128),
    "nuclei_vgg3d": (1, 80, 80, 80),
    "ct_rate_multilabel": (12, 1, 224, 224),
    "surface_unet": (1, 64, 192, 192),
    "spinal_cord_cascade": (1, 320, 320),
}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
PLAIN: dict[str, Any] = {"dtype": None, "tf32": True, "last": False, "fused": False, "tuned": True, "compiled": False}
HALF = {**PLAIN, "dtype": torch.float16}
BF16 = {**PLAIN, "dtype": torch.bfloat16}
WAYS = {
    "fp16, as the originals": HALF,
    "fp32": {**PLAIN, "tf32": False},
    "tf32": PLAIN,
    "bf16": BF16,
    "bf16, channels-last": {**BF16, "last": True},
    "bf16, fused optimizer": {**BF16, "fused": True},
    "fp16, channels-last": {**HALF, "last": True},
}
COMPILED = {
    "bf16, compiled": {**BF16, "compiled": True},
    "bf16, channels-last, compiled": {**BF16, "last": True, "compiled": True},
}


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    options.add_argument("--compiled", action="store_true", help="compiled networks, too (minutes)")
    options.add_argument("--only", choices=IMAGES)
    given = options.parse_args()
    if not torch.cuda.is_available():
        print("torch finds no GPU here")
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    print("| network, batch | what | way | ms | of the originals' fp16 | peak MiB |\n|---|---|---|---|---|---|")
    for name in [given.only] if given.only else IMAGES:
        parser = _config(name)
        batch = 1 if given.quick else int(parser.get_parsed_content("batch_size"))
        channels_last = bool(parser.get_parsed_content("channels_last"))
        dtype = autocast_dtype(torch.device("cuda"), "auto", "auto")
        ways = {**WAYS, "default": {**PLAIN, "dtype": dtype, "last": channels_last}}
        for what in ("training", "inference"):
            baseline = None
            for way, flags in {**ways, **(COMPILED if given.compiled else {})}.items():
                if what == "inference" and flags["fused"]:
                    continue
                milliseconds, peak = _measured(parser, what, (batch, *IMAGES[name]), flags, 3 if given.quick else 10)
                if milliseconds is None:
                    print(f"| {name}, {batch} | {what} | {way} | {peak} | | |", flush=True)
                    continue
                baseline = baseline or milliseconds
                shown = f"{milliseconds:.1f} | {baseline / milliseconds:.2f} x | {peak}"
                print(f"| {name}, {batch} | {what} | {way} | {shown} |", flush=True)
        print(f"| {name}, 1 | inference | bf16, CUDA graph | {_graph(parser, IMAGES[name])} | | |", flush=True)
    return 0


def _config(name: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / name / "configs" / "train.json"))
    parser["bundle_root"] = str(BUNDLES / name)
    if name == "nuclei_vgg3d":  # of the data
        parser["input_size"] = [80, 80, 80]
        parser["class_names"] = ["a", "b", "c", "d"]
    if name == "spinal_cord_cascade":
        parser["class_names"] = ["lesion"]
    return parser


def _measured(
    parser: ConfigParser, what: str, shape: tuple[int, ...], flags: dict[str, Any], repeats: int
) -> tuple[float | None, str]:
    """Milliseconds of a step, or ``None``; peak memory in MiB, or why there is none."""
    torch.backends.cudnn.benchmark = flags["tuned"]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = flags["tf32"]
    torch.cuda.reset_peak_memory_stats()
    try:
        step = (_training if what == "training" else _inference)(parser, shape, flags)
        milliseconds = _median(step, repeats)
        return milliseconds, f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"
    except Exception as error:  # a way that this network can't go is a row, too
        return None, f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    finally:
        step = None
        gc.collect()
        torch.cuda.empty_cache()


def _network(parser: ConfigParser, flags: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def", lazy=False).cuda()
    if flags["last"]:
        for parameter in network.parameters():
            if parameter.ndim in LAYOUTS:
                parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[parameter.ndim])
    return network


def _images(shape: tuple[int, ...], flags: dict[str, Any]) -> torch.Tensor:
    image = torch.randn(shape, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    return image.contiguous(memory_format=LAYOUTS[image.ndim]) if flags["last"] and image.ndim in LAYOUTS else image


def _outputs(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for each in (output.values() if isinstance(output, dict) else output) for tensor in _outputs(each)]


def _training(parser: ConfigParser, shape: tuple[int, ...], flags: dict[str, Any]) -> Callable[[], None]:
    network, image = _network(parser, flags).train(), _images(shape, flags)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=flags["fused"])
    scaler = torch.amp.GradScaler("cuda", enabled=flags["dtype"] == torch.float16)
    called = torch.compile(network) if flags["compiled"] else network

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=flags["dtype"], enabled=flags["dtype"] is not None):
            loss = torch.stack([output.float().square().mean() for output in _outputs(called(image))]).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _inference(parser: ConfigParser, shape: tuple[int, ...], flags: dict[str, Any]) -> Callable[[], None]:
    network, image = _network(parser, flags).eval(), _images(shape, flags)
    called = torch.compile(network) if flags["compiled"] else network

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cuda", dtype=flags["dtype"], enabled=flags["dtype"] is not None):
            called(image)

    return step


def _graph(parser: ConfigParser, shape: tuple[int, ...]) -> str:
    """What a CUDA graph of one image in bf16 saves of the launches."""
    torch.backends.cudnn.benchmark = True
    try:
        step = _inference(parser, (1, *shape), {**BF16, "last": False})
        eager = _median(step, 20)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return f"{eager:.2f} eager, {_median(graph.replay, 20):.2f} as a graph"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    finally:
        torch.cuda.empty_cache()


def _median(step: Callable[[], Any], repeats: int) -> float:
    for _ in range(3):
        step()
    found = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end))
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
