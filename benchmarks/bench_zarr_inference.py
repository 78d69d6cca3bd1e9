"""P3, P4: prediction from Zarr to Zarr, against MONAI's sliding window in memory and its ``ZarrAvgMerger``.

Run ``python benchmarks/bench_zarr_inference.py [--quick] [--repeats 2] [--all]``. Networks of about 10 ms and 350 ms a
window (as many layers as take that long), volumes of 1, 4 and 16 times the size. One thread of torch each; for 10 ms
one a core: ours then computes so many batches at once. Every side runs in a process of its own, in turn, from reading
the input to the written output, imports not counted: whole time over the network's own (the calls' number times a
call's time, measured alone), and by how much the process grows. Ours, with its default blocks, is checked against
MONAI's first. With a box and with a mask the windows are counted. ``ZarrAvgMerger`` has no Gaussian weights, and
another grid at the ends; nnU-Net's predictor (where ``nnunetv2`` is installed) has windows at other places, too, and
adds in half precision. Memory is the peak of a whole process on volumes that are several blocks long along each axis,
so that a block in the middle, with windows on all sides, is among them at every size; it is measured with ``--memory``
(alone) and with ``--all``.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import zarr
from monai.inferers import PatchInferer, SlidingWindowInferer, SlidingWindowSplitter, ZarrAvgMerger
from table import row, timed
from torch import nn

from monai_ext.allocator import keep_freed_memory
from monai_ext.inferers import ZarrSlidingWindow
from monai_ext.inferers.streaming.geometry import window_axes

ROI, OVERLAP, CHUNK, BATCH = (32, 64, 64), 0.25, 64, 1
# For memory: 1, 4 and 16 times as many voxels, tiles of 128².
LARGE = {1: (256, 384, 384), 4: (512, 768, 384), 16: (1024, 768, 768)}
SIZES = {1: (64, 192, 192), 4: (128, 192, 384), 16: (256, 384, 384)}
TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}}


class Deep(nn.Module):
    """Convolutions of two channels, ``depth`` times the same one."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.depth = depth
        self.first, self.again, self.last = nn.Conv3d(1, 2, 3, 1, 1), nn.Conv3d(2, 2, 3, 1, 1), nn.Conv3d(2, 1, 1)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = self.first(x / 255)
        for _ in range(self.depth):
            x = torch.relu(self.again(x))
        return self.last(x)


def call_seconds(network: nn.Module) -> float:
    """Median of five calls, and of as many as half a second holds."""
    batch = torch.rand(BATCH, 1, *ROI)
    seconds: list[float] = []
    with torch.inference_mode():
        network(batch)
        while len(seconds) < 5 or sum(seconds) < 0.5:
            seconds.append(timed(lambda: network(batch)))
    return statistics.median(seconds)


def depth_for(milliseconds: float) -> int:
    depth = 8
    for _ in range(3):
        depth = max(1, round(depth * milliseconds / 1000 / call_seconds(Deep(depth))))
    return depth


def peak() -> float:
    """MiB; Linux."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def ours(
    network: nn.Module,
    source: Path,
    output: Path,
    block_size: tuple[int, int, int] | None = None,
    input_cache_gib: float = 1.0,
) -> None:
    predict = ZarrSlidingWindow(
        network,
        ROI,
        OVERLAP,
        batch_size=BATCH,
        targets=TARGETS,
        chunk_size=CHUNK,
        block_size=block_size,
        input_cache_gib=input_cache_gib,
        network_threads=torch.get_num_threads(),
        progress=False,
    )
    predict(source, output)


def ours_in_small_tiles(network: nn.Module, source: Path, output: Path) -> None:
    # as many columns as the volume needs, memory that of one and of the chunks kept for later ones
    ours(network, source, output, (CHUNK, 128, 128))


def ours_without_chunk_cache(network: nn.Module, source: Path, output: Path) -> None:
    ours(network, source, output, (CHUNK, 128, 128), input_cache_gib=0)


def in_memory(network: nn.Module, source: Path, output: Path) -> None:
    image = torch.from_numpy(zarr.open_array(source, mode="r")[:].astype(np.float32))[None, None]
    with torch.inference_mode():
        scores = torch.sigmoid(SlidingWindowInferer(ROI, BATCH, OVERLAP, "gaussian")(image, network))[0, 0]
    write(scores, output)


def write(scores: torch.Tensor, output: Path) -> None:
    stored = (scores * 255).round().to(torch.uint8).numpy()
    zarr.create_array(output / "sheet.zarr" / "0", data=stored, chunks=(CHUNK,) * 3)


def merger(network: nn.Module, source: Path, output: Path) -> None:
    image = torch.from_numpy(zarr.open_array(source, mode="r")[:].astype(np.float32))[None, None]
    output.mkdir(parents=True)
    stores = {name: str(output / f"{name}.zarr") for name in ("store", "value_store", "count_store")}
    inferer = PatchInferer(
        SlidingWindowSplitter(ROI, OVERLAP), ZarrAvgMerger, batch_size=BATCH, **stores, chunks=(1, 1, *ROI)
    )
    with torch.inference_mode():
        inferer(image, network)


def nnunet(network: nn.Module, source: Path, output: Path) -> None:
    predictor = importlib.import_module(NNUNET).nnUNetPredictor(
        1 - OVERLAP, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=ROI)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)
    image = torch.from_numpy(zarr.open_array(source, mode="r")[:].astype(np.float32))[None]
    write(torch.sigmoid(predictor.predict_sliding_window_return_logits(image))[0], output)


SIDES = {"ours": ours, "MONAI in memory": in_memory, "MONAI ZarrAvgMerger": merger}
NNUNET = "nnunetv2.inference.predict_from_raw_data"
if importlib.util.find_spec("nnunetv2"):
    SIDES["nnU-Net in memory"] = nnunet
MEMORY_SIDES = {
    "ours": ours_in_small_tiles,
    "ours, --input_cache_gib 0": ours_without_chunk_cache,
    "MONAI in memory": in_memory,
}


def measured(side: str, depth: int, source: Path, output: Path) -> dict[str, float]:
    """Seconds, seconds of the network alone, calls, and MiB of growth, in this process."""
    if side.startswith("nnU-Net"):
        importlib.import_module(NNUNET)
    if side.startswith("ours"):
        keep_freed_memory()  # as every run does
    network = Deep(max(depth, 0)).eval()
    network(torch.rand(BATCH, 1, *ROI))
    network.calls = 0
    Path("/proc/self/clear_refs").write_text("5")
    before, start = peak(), time.perf_counter()
    (SIDES if depth >= 0 else MEMORY_SIDES)[side](network, source, output)
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "calls": network.calls, "growth": peak() - before, "peak": peak()}
    return {**found, "network": found["calls"] * call_seconds(network)}


def in_a_process(
    side: str, depth: int, source: Path, output: Path, threads: int = 1, method: str = "forkserver"
) -> dict[str, float] | str:
    """Of a server that has imported all, so that no side waits for it; memory is that of a process with its own."""
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["monai.inferers", "monai_ext.inferers", NNUNET])
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,)) as process:
        try:
            return process.submit(measured, side, depth, source, output).result()
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def compare(milliseconds: int, size: int, repeats: int, folder: Path, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    source, depth = folder / f"{size}.zarr", depth_for(milliseconds)
    if not source.exists():
        values = np.random.default_rng(0).integers(1, 255, SIZES[size]).astype(np.uint8)
        zarr.create_array(source, data=values, chunks=(CHUNK,) * 3)
    # its time for one volume says all of it
    sides = [side for side in SIDES if "Merger" not in side or (milliseconds, size) == (10, 4)]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side in sides:
            output = folder / f"{milliseconds} {size} {threads} {repeat} {side}"
            result = in_a_process(side, depth, source, output, threads)
            if isinstance(result, str):
                print(f"    {side} fails: {result[:150]}")
            else:
                found[side].append(result)
    first, second = (
        zarr.open_array(folder / f"{milliseconds} {size} {threads} 0 {side}" / "sheet.zarr" / "0", mode="r")
        for side in ("ours", "MONAI in memory")
    )
    if np.abs(first[:].astype(int) - second[:].astype(int)).max() > 1:
        raise SystemExit("the outputs differ")
    counted = {side: [result["seconds"] for result in results] for side, results in found.items()}
    ours_alone = statistics.median(result["network"] for result in found["ours"])
    what = f"{milliseconds} ms a window, {size} times the volume, {threads} threads; limit: the network alone"
    own = counted.pop("ours")
    row("P3", what, own, {side: seconds for side, seconds in counted.items() if len(seconds) == len(own)}, ours_alone)
    print(f"P3 {milliseconds} ms a window, {size} times the volume {SIZES[size]}, {threads} threads of torch:")
    for side, results in found.items():
        if results:
            seconds, over = (
                sorted(r["seconds"] / (r["network"] if part else 1) for r in results) for part in (False, True)
            )
            print(
                f"    {side}: {statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), "
                f"{statistics.median(over):.3f} of {results[0]['calls']:.0f} calls of the network alone; "
                f"grows by {max(r['growth'] for r in results):.0f} MiB"
            )


def compare_memory(folder: Path) -> None:
    for size, shape in LARGE.items():
        source = folder / f"large {size}.zarr"
        array = zarr.create_array(source, shape=shape, chunks=(CHUNK,) * 3, dtype="uint8")
        for z in range(0, shape[0], CHUNK):
            array[z : z + CHUNK] = np.random.default_rng(z).integers(1, 255, (CHUNK, *shape[1:])).astype(np.uint8)
        for side in MEMORY_SIDES if size < max(LARGE) else list(MEMORY_SIDES)[:-1]:  # MONAI would need 10 GiB
            result = in_a_process(side, -1, source, folder / f"large {size} {side}", method="spawn")
            told = result[:150] if isinstance(result, str) else f"{result['peak']:.0f} MiB, {result['seconds']:.1f} s"
            print(f"P4 {size:2} times the volume {shape}: {side} {told}", flush=True)


def compare_kept(folder: Path, shape: tuple[int, int, int]) -> None:
    """Windows that are computed within a box and a mask, against those that touch a kept voxel."""
    source = folder / "kept.zarr"
    zarr.create_array(
        source, data=np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8), chunks=(CHUNK,) * 3
    )
    z, y, x = np.ogrid[tuple(map(slice, shape))]
    ball = sum(((axis - size / 2) / (size / 5)) ** 2 for axis, size in zip((z, y, x), shape, strict=True)) < 1
    zarr.create_array(folder / "ball.zarr", data=ball.astype(np.uint8), chunks=(CHUNK,) * 3)
    bbox = tuple((size // 3, size // 3 + 12) for size in shape)
    inside = np.zeros(shape, bool)
    inside[tuple(slice(*part) for part in bbox)] = True
    axes = window_axes(shape, ROI, (OVERLAP,) * 3)
    extents = list(product(*([slice(max(a, 0), a + axis.length) for a in axis.starts] for axis in axes)))
    for name, kept, call in (
        ("whole volume", np.ones(shape, bool), {}),
        ("box", inside, {"bbox": bbox}),
        ("mask", ball, {"mask": folder / "ball.zarr"}),
    ):
        network = Deep(0).eval()
        predict = ZarrSlidingWindow(
            network, ROI, OVERLAP, batch_size=BATCH, targets=TARGETS, chunk_size=CHUNK, progress=False
        )
        start = time.perf_counter()
        predict(source, folder / f"kept {name}", **call)
        seconds, touching = time.perf_counter() - start, sum(bool(kept[extent].any()) for extent in extents)
        print(
            f"P3 {name}: {network.calls} windows computed, {touching} touch one of the {int(kept.sum())} kept voxels, "
            f"of {len(extents)}; {seconds:.2f} s",
            flush=True,
        )
        if network.calls != touching:
            raise SystemExit("windows were computed that touch no kept voxel, or left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 ms at 4 times the volume, once")
    parser.add_argument("--memory", action="store_true", help="P4 alone")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="P4, and 10 ms on one thread, too")
    options = parser.parse_args()
    keep_freed_memory()
    cores = len(os.sched_getaffinity(0))
    cases = [(10, 4, 1)] if options.quick or options.all else []
    if not options.quick:
        cases += [(10, 4, cores), (10, 16, cores), (350, 1, 1)]
    with tempfile.TemporaryDirectory() as folder:
        if options.memory or options.all:
            compare_memory(Path(folder))
        if not options.memory:
            compare_kept(Path(folder), SIZES[4])
        for milliseconds, size, threads in cases if not options.memory else []:
            repeats = 1 if options.quick or milliseconds * size > 100 else options.repeats
            compare(milliseconds, size, repeats, Path(folder), threads)


if __name__ == "__main__":
    main()
