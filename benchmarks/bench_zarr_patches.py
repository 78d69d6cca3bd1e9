"""P6: random patches of a Zarr volume, against zarr-python as it comes.

Run ``python benchmarks/bench_zarr_patches.py [--size 512] [--patches 8] [--repeats 5]``. The same CT-like volume lies
in chunks of 128³, and in shards of 256³ with chunks of 32³. Each side reads the same random patches in turn (median and
range of the time of one), after a check that they agree. The files are in the page cache, as in every epoch but the
first. "Ours" is the whole item of `ZarrPatchDataset`, with its checks and its tensor.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter
from table import machine, row, timed

from monai_ext.data import ZarrPatchDataset

PATCH = (64, 192, 192)
LAYOUTS = {
    "chunks of 128³": {"chunks": (128,) * 3},
    "shards of 256³, chunks of 32³": {"chunks": (32,) * 3, "shards": (256,) * 3},
}


def write_volumes(folder: Path, size: int) -> dict[str, Path]:
    """Smooth uint8 noise, which compresses about as well as tomography does; one volume in each layout."""
    rng = np.random.default_rng(0)
    block = gaussian_filter(rng.standard_normal((128,) * 3, dtype=np.float32), 2, mode="wrap")
    block = np.clip(128 + 30 * block / block.std() + rng.normal(0, 3, block.shape), 0, 255).astype(np.uint8)
    volume = np.tile(block, (-(-size // 128),) * 3)[:size, :size, :size]
    places = {}
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        places[name] = folder / f"{number}.zarr"
        zarr.create_array(places[name], shape=volume.shape, dtype=volume.dtype, **layout)[...] = volume
    return places


def shown(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 patches, 3 repeats")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--patches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    count, repeats = (4, 3) if options.quick else (options.patches, options.repeats)

    rng = np.random.default_rng(1)
    starts = [tuple(int(rng.integers(0, options.size - edge + 1)) for edge in PATCH) for _ in range(count)]
    boxes = [tuple(slice(first, first + edge) for first, edge in zip(start, PATCH, strict=True)) for start in starts]
    with tempfile.TemporaryDirectory() as folder:
        places = write_volumes(Path(folder), options.size)
        plain = {name: zarr.open_array(place, mode="r") for name, place in places.items()}
        ours = {name: ZarrPatchDataset([{"input": str(place)}], PATCH, starts) for name, place in places.items()}
        sides: dict[str, Callable[[int], object]] = {}
        for name in places:
            sides[f"zarr-python, {name}"] = lambda i, array=plain[name]: array[boxes[i]]
            sides[f"ours, {name}"] = lambda i, dataset=ours[name]: dataset[i]["image"].numpy()[0]
        reference = [sides[next(iter(sides))](i) for i in range(count)]
        for name, read in sides.items():
            for i in range(count):
                np.testing.assert_array_equal(read(i), reference[i], err_msg=name)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, read in sides.items():
                times[name].append(timed(lambda read=read: [read(i) for i in range(count)]) / count)

    print(f"{options.size}^3 uint8, {count} patches of {PATCH}, {repeats} repeats")
    for name, values in times.items():
        print(f"{name}: {shown([1e3 * value for value in values])} ms a patch")
    pairs = [(f"zarr-python, {name}", f"ours, {name}") for name in LAYOUTS]
    for first, second in [*pairs, (pairs[0][0], pairs[1][1])]:
        ratios = [one / other for one, other in zip(times[first], times[second], strict=True)]
        limit = 2 * np.prod(PATCH) / machine().copy / 1e9
        row("P6", f"patch of {PATCH} voxels, {second}", times[second], {first: times[first]}, float(limit))
        print(f"{second} against {first}: {shown(ratios, 2)} times as fast")


if __name__ == "__main__":
    main()
