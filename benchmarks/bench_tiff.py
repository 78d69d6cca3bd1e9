"""P7: a crop of 80³ voxels from a stack of TIFF slices, against reading whole slices.

Run ``python benchmarks/bench_tiff.py [--sizes 512 1024 2048] [--slices 120] [--repeats 3] [--all]``. Each side reads
the same random crops in turn (median and range), after a check that they agree. The files are in the page cache, as in
every epoch but the first; the bytes that a disk has to deliver in the first are told beside it.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import tifffile
from scipy.ndimage import gaussian_filter
from table import machine, row, timed

from monai_ext.data import SliceCache, TiffStack

CROP = (80, 80, 80)
COMPRESSIONS = {"uncompressed": None, "LZW": "lzw", "deflate": "zlib"}


def write_stack(folder: Path, size: int, slices: int, compression: str | None) -> TiffStack:
    """Slices of uint8 that compress about as well as tissue does."""
    rng = np.random.default_rng(0)
    tissue = gaussian_filter(rng.standard_normal((size, size)), 3)
    image = np.clip(128 + 30 * tissue / tissue.std() + rng.normal(0, 3, (size, size)), 0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    for number in range(slices):
        tifffile.imwrite(folder / f"slice_{number:04d}.tif", np.roll(image, 7 * number, 0), compression=compression)
    return TiffStack.scan(folder)


def whole_slices(stack: TiffStack, start: Sequence[int], slices: Sequence[int]) -> np.ndarray:
    """The crop by way of whole slices, as most programs read it."""
    volume = tifffile.imread([stack.path(index) for index in slices])
    first = start[0] - slices[0]
    _, y, x = start
    return volume[first : first + CROP[0], y : y + CROP[1], x : x + CROP[2]]


def from_disk(stack: TiffStack, start: Sequence[int]) -> int:
    """Bytes that the disk delivers for a crop when nothing is in the page cache (readahead included)."""
    for index in range(stack.shape[0]):
        with open(stack.path(index), "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = psutil.Process().io_counters().read_bytes
    stack.read(start, CROP)
    return psutil.Process().io_counters().read_bytes - before


def starts(stack: TiffStack, count: int) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(1)
    spans = [length - edge + 1 for length, edge in zip(stack.shape, CROP, strict=True)]
    return [(int(z), int(y), int(x)) for z, y, x in rng.integers(0, spans, (count, 3))]


def show(times: dict[str, list[float]]) -> None:
    ours = statistics.median(next(iter(times.values())))
    for side, values in times.items():
        shown = [1000 * value for value in (statistics.median(values), min(values), max(values))]
        ratio = statistics.median(values) / ours
        print(f"    {side}: {shown[0]:.2f} ms ({shown[1]:.2f} to {shown[2]:.2f}), {ratio:.1f} x ours")


def compare(name: str, stack: TiffStack, repeats: int) -> None:
    files = [stack.path(index).stat().st_size for index in range(stack.shape[0])]
    cache = SliceCache(max_bytes=1 << 32)
    everything = range(stack.shape[0])
    names = ["ours"] if stack.offsets is not None else ["ours, slices in memory", "ours, slices decoded"]
    times: dict[str, list[float]] = {side: [] for side in [*names, "80 whole slices", "all slices"]}
    if stack.offsets is None:
        for index in everything:  # so that every crop finds its slices
            stack.read((index, 0, 0), (1, 1, 1), cache)
    crops = starts(stack, repeats)
    for start in crops:
        needed = range(start[0], start[0] + CROP[0])
        sides = [
            functools.partial(stack.read, start, CROP),
            functools.partial(whole_slices, stack, start, needed),
            functools.partial(whole_slices, stack, start, everything),
        ]
        if stack.offsets is None:
            sides.insert(0, functools.partial(stack.read, start, CROP, cache))
        results = [side() for side in sides]
        if not all(np.array_equal(result, results[0]) for result in results):
            raise SystemExit("the sides disagree")
        for values, side in zip(times.values(), sides, strict=True):
            values.append(timed(side))
    print(f"{name}, {stack.shape[0]} slices of {stack.shape[1]}²: {sum(files) / 1e6:.0f} MB")
    show(times)
    voxels = int(np.prod(CROP))
    ours, *others = times
    row(
        "P7",
        f"80³ of slices of {stack.shape[1]}², {name.removeprefix('P7 ')}"
        f"{', decoded slices in memory' if stack.offsets is None else ''}",
        times[ours],
        {side: times[side] for side in others},
        2 * voxels / machine().copy / 1e9,
    )
    if stack.offsets is not None:
        rows = CROP[0] * CROP[1] * stack.shape[2] / voxels
        disk = statistics.median(from_disk(stack, start) for start in crops[:5]) / voxels
        print(f"    bytes read {rows:.1f} x needed, from a disk {disk:.1f} x; ", end="")
    else:
        print(f"    bytes read, first crop: {np.mean(files) * CROP[0] / voxels:.1f} x needed; ", end="")
    print(f"80 whole slices {np.mean(files) * CROP[0] / voxels:.1f} x, all slices {sum(files) / voxels:.1f} x")


def memory(folder: Path, stack: TiffStack, counts: Sequence[int]) -> None:
    """Resident memory after a crop of each of many samples (links to one stack, which the cache can't know)."""
    cache = SliceCache(max_stacks=10)
    stacks = []
    for number in range(max(counts)):
        (folder / f"{number}").symlink_to(stack.folder)
        stacks.append(TiffStack.scan(folder / f"{number}"))
    shown = []
    for number, sample in enumerate(stacks, start=1):
        sample.read((0, 0, 0), CROP, cache)
        if number in counts:
            shown.append(f"{number} samples {psutil.Process().memory_info().rss / 2**20:.0f} MiB")
    print(f"    {', '.join(shown)}; {len(cache)} stacks of {cache.nbytes / 2**20:.0f} MiB in the cache")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="memory, deflate, and large compressed slices, too: minutes")
    options = parser.parse_args()
    sizes = [512, 1024] if options.quick else options.sizes

    compressions = {name: how for name, how in COMPRESSIONS.items() if name != "deflate" or options.all}
    # first, while nothing else has made this process large
    for name, compression in compressions.items() if options.all else []:
        with tempfile.TemporaryDirectory() as folder:
            print(f"P7 resident memory, {name}")
            memory(Path(folder), write_stack(Path(folder) / "raw", 256, 80, compression), (20, 80, 320))
    for name, compression in compressions.items():
        for size in sizes if options.all or compression is None else [size for size in sizes if size <= 1024]:
            with tempfile.TemporaryDirectory() as folder:
                compare(
                    f"P7 {name}", write_stack(Path(folder) / "raw", size, options.slices, compression), options.repeats
                )


if __name__ == "__main__":
    main()
