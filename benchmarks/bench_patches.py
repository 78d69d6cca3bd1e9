"""P5: finding patches in a Zarr label, against looking at one candidate after the other with two processes.

Run ``python benchmarks/bench_patches.py [--size 512] [--chunk 128] [--patch 64] [--repeats 2] [--all]``. Positions are
checked for equality first, then both sides are timed in turns on the same store: a sparse label (sheets in an eighth of
the volume) and a dense one (sheets everywhere). The start of the processes is not counted. Memory, with ``--all``: the
peak of a process of its own that searches a label, and one eight times as large.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr
from table import machine, row, timed

from monai_ext.data import find_patches

BBOX, RATIO, WORKERS = 0.95, 0.07, 2
# Linux: writing 5 resets the peak (VmHWM), which importing torch would hide everything else behind.
PEAK = """
import re, sys
from pathlib import Path
from monai_ext.data import find_patches
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")
before = peak()
find_patches(sys.argv[1], (int(sys.argv[2]),) * 3, workers=2)
print((peak() - before) / 1024)
"""


def write_label(path: Path, size: int, chunk: int, share: float) -> None:
    """Wavy sheets, 7 of 16 voxels thick, in the first ``share`` of each axis; chunks without labels aren't stored."""
    array = zarr.create_array(path, shape=(size,) * 3, chunks=(chunk,) * 3, dtype="uint8", fill_value=0)
    end = int(size * share)
    y, x = np.mgrid[:size, :size]
    wave = 12 * np.sin(y / 41) + 9 * np.cos(x / 29)
    inside = (y < end) & (x < end)
    for z in range(0, end, chunk):
        depth = np.arange(z, min(z + chunk, end))[:, None, None]
        array[z : z + len(depth)] = (((depth + wave) % 16 < 7) & inside).astype(np.uint8) * 255


def accepted(task: tuple[str, list[tuple[int, int, int]], int]) -> list[tuple[int, int, int]]:
    path, candidates, size = task
    label = zarr.open_array(path, mode="r")
    found = []
    for z, y, x in candidates:
        patch = label[z : z + size, y : y + size, x : x + size]
        where = np.argwhere(patch > 0)
        if not len(where):
            continue
        box = np.prod(where.max(axis=0) - where.min(axis=0) + 1)
        if box / patch.size >= BBOX and np.count_nonzero(patch) / patch.size >= RATIO:
            found.append((z, y, x))
    return found


def one_by_one(pool: multiprocessing.pool.Pool, path: Path, size: int) -> list[tuple[int, int, int]]:
    """As the original: the box chunk by chunk in one process, then the candidates in several."""
    label = zarr.open_array(path, mode="r")
    low, high = np.array(label.shape), np.zeros(3, int)
    edge = label.chunks[0]
    for corner in np.ndindex(*label.cdata_shape):
        start = np.array(corner) * edge
        where = np.argwhere(label[tuple(slice(a, a + edge) for a in start)] > 0)
        if len(where):
            low, high = np.minimum(low, start + where.min(axis=0)), np.maximum(high, start + where.max(axis=0))
    axes = [range(a, b - size + 2, size // 2) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    candidates = [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]
    step = max(1, len(candidates) // (WORKERS * 2))
    tasks = [(str(path), candidates[i : i + step], size) for i in range(0, len(candidates), step)]
    return [start for part in pool.imap(accepted, tasks) for start in part]


def shown(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})"


def peak(path: Path, patch: int) -> float:
    """MiB by which a process grows."""
    done = subprocess.run([sys.executable, "-c", PEAK, path, str(patch)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="256 voxels an edge, chunks of 64, patches of 32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="memory and time for twice the edge, too")
    options = parser.parse_args()
    size, chunk, patch = (256, 64, 32) if options.quick else (options.size, options.chunk, options.patch)

    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(WORKERS) as pool,
    ):
        print(f"{size}^3, chunks of {chunk}^3, patches of {patch}^3, {WORKERS} workers on both sides")
        for name, share in (("sparse", 0.5), ("dense", 1.0)):
            path = Path(folder) / f"{name}.zarr"
            write_label(path, size, chunk, share)
            naive, ours = one_by_one(pool, path, patch), find_patches(path, (patch,) * 3, BBOX, RATIO, workers=WORKERS)
            if naive != ours or not ours:
                raise SystemExit(f"{name}: the positions differ, or there are none")
            times: dict[str, list[float]] = {"naive": [], "ours": []}
            for _ in range(options.repeats):
                times["naive"].append(timed(lambda path=path: one_by_one(pool, path, patch)))
                times["ours"].append(
                    timed(lambda path=path: find_patches(path, (patch,) * 3, BBOX, RATIO, workers=WORKERS))
                )
            ratios = [a / b for a, b in zip(*times.values(), strict=True)]
            limit = size**3 / machine().copy / 1e9
            what = f"patches of {patch}³ in a {name} label of {size}³, {WORKERS} workers"
            row("P5", what, times["ours"], {"one candidate after the other": times["naive"]}, limit)
            print(f"P5 {name}, {len(ours)} patches: one by one {shown(times['naive'])}, ours {shown(times['ours'])}: ")
            print(f"    {statistics.median(ratios):.1f} x ({min(ratios):.1f} to {max(ratios):.1f})")
        if not options.all:
            return
        larger = Path(folder) / "larger.zarr"
        write_label(larger, 2 * size, chunk, 1.0)
        growth = [peak(place, patch) for place in (Path(folder) / "dense.zarr", larger)]
        print(f"P5 memory: grows by {growth[0]:.1f} MiB on {size}^3, {growth[1]:.1f} MiB on {2 * size}^3")
        seconds = [timed(lambda p=p: find_patches(p, (patch,) * 3, workers=WORKERS)) for p in (path, larger)]
        print(f"P5 eight times the chunks: {seconds[1] / seconds[0]:.1f} times as long")


if __name__ == "__main__":
    main()
