"""P8: reading volumes, and the cache of prepared volumes.

Run ``python benchmarks/bench_preparation.py [--cases 2] [--repeats 5]``. Sides are checked for equal
results first, then timed in turns (median and range), on made-up volumes of real BraTS size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from isal import isal_zlib
from monai.transforms import CropForegroundd, LoadImage, NormalizeIntensityd, Orientationd, Resized
from table import row, timed

from monai_ext.brats.demo import make_demo
from monai_ext.brats.subjects import find_subjects
from monai_ext.data import PreparedDataset
from monai_ext.data.volumes import read_volume
from monai_ext.transforms import CheckFinited, LoadVolumed, is_nonzero

RAS = (("L", "R"), ("P", "A"), ("I", "S"))


def steps() -> list[Callable]:
    return [
        LoadVolumed("image"),
        CheckFinited("image"),
        Orientationd("image", "RAS", labels=RAS),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        CropForegroundd("image", "image", select_fn=is_nonzero, margin=10),
        Resized("image", (128, 128, 128), mode="trilinear"),
    ]


def compare(name: str, sides: dict[str, Callable[[], object]], repeats: int, least: Callable[[], object]) -> None:
    times: dict[str, list[float]] = {side: [] for side in sides}
    limit = statistics.median(timed(least) for _ in range(repeats))
    for _ in range(repeats):
        for side, work in sides.items():
            times[side].append(timed(work))
    (base, base_times), *others = times.items()
    for side, values in others:
        row(name.split()[0], f"{name.split(maxsplit=1)[1]}, {side}", values, {base: base_times}, limit)
    shown = {side: f"{statistics.median(t):.3f} s ({min(t):.3f} to {max(t):.3f})" for side, t in times.items()}
    print(f"{name}: {base} {shown[base]}")
    for side, values in others:
        print(f"    {side} {shown[side]}: {statistics.median(base_times) / statistics.median(values):.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same: it takes little time")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        items = find_subjects(make_demo(Path(folder) / "data", size="full", counts=(0, 1)))
        path = items[0]["image"]

        plain = LoadImage(image_only=True, ensure_channel_first=True, reader="NibabelReader")
        if not torch.equal(plain(path).as_tensor(), read_volume(path).as_tensor()):
            raise SystemExit("the two readers disagree")
        content, what = Path(path).read_bytes(), "P8 one .nii.gz (limit: inflating)"
        sides = {"MONAI": lambda: plain(path), "ours": lambda: read_volume(path)}
        compare(what, sides, options.repeats, lambda: isal_zlib.decompress(content, 31))

        fresh = PreparedDataset(items, steps(), None)
        cached = PreparedDataset(items, steps(), Path(folder) / "one")
        if not torch.equal(fresh[0]["image"], cached[0]["image"]):
            raise SystemExit("the cached item differs")
        what = "P8 one prepared item (limit: reading its file)"
        sides = {"computed": lambda: fresh[0], "cached": lambda: cached[0]}
        compare(what, sides, options.repeats, cached.cache_file(0).read_bytes)


if __name__ == "__main__":
    main()
