"""P13, P15: two processes of one thread each against one: preparation, slice extraction, Zarr inference, training.

Run ``python benchmarks/bench_scaling.py [--quick] [--cases 40]``. Volumes have their real size; one is made and then
copied. The limit is half of one process's time; what two processes that share nothing but the machine make of it is
told first. Preparation and extraction count the start of their workers; inference and training, which are started by
other programs (``torchrun``), count from when all processes are ready.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from bench_preparation import steps
from bench_zarr_inference import BATCH, CHUNK, OVERLAP, ROI, TARGETS, Deep
from isal import isal_zlib
from monai.transforms import LoadImage, Resize, ScaleIntensityRange
from table import row, timed

from monai_ext import ct_rate
from monai_ext.allocator import keep_freed_memory
from monai_ext.brats.demo import make_demo
from monai_ext.brats.subjects import find_subjects
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.ct_rate.demo import make_demo as make_volumes
from monai_ext.ct_rate.slice_images import slice_images
from monai_ext.data import PreparedDataset, prepare
from monai_ext.inferers import ZarrSlidingWindow
from monai_ext.workflow import default_workers

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "bundles" / "brats_resnet50" / "configs"


def compare(target: str, what: str, work: Callable[[int], float]) -> None:
    """``work`` gives the seconds of so many processes."""
    one, two = work(1), work(2)
    row(target, f"{what}; limit: half of one process's time", [two], {"1 process": [one]}, one / 2)


def together(target: Callable[..., None], *given: Any, processes: int) -> float:
    """Seconds of processes that begin at the same time, once all are ready; each gets its number and theirs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monai_ext.ct_rate", "monai_ext.inferers"])
    ready = context.Barrier(processes + 1)
    workers = [context.Process(target=target, args=(*given, part, processes, ready)) for part in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def machine_itself(calls: int) -> None:
    compare(
        "P15",
        "the machine itself: convolutions that share nothing, 2 processes of one thread",
        lambda processes: together(convolve, calls, processes=processes),
    )


def convolve(calls: int, part: int, parts: int, ready: Any) -> None:
    torch.set_num_threads(1)
    network, batch = Deep(6).eval(), torch.rand(BATCH, 1, *ROI)
    with torch.inference_mode():
        network(batch)
        ready.wait()
        for _ in range(calls // parts):
            network(batch)
    os._exit(0)


def workers(processes: int) -> int | None:
    """By default so many as there are CPUs, when they are worth their start."""
    return None if processes == default_workers() else processes


def preparation(folder: Path, cases: int) -> None:
    (made,) = find_subjects(make_demo(folder / "brats", size="full", counts=(0, 1)))
    items = [
        {**made, "case": str(number), "image": shutil.copy(made["image"], folder / f"{number}.nii.gz")}
        for number in range(cases)
    ]

    def fill(processes: int) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            start = time.perf_counter()
            prepare(PreparedDataset(items, steps(), cache), workers(processes))
            return time.perf_counter() - start

    compare("P13", f"{cases} BraTS volumes of 240×240×155 prepared, 2 processes", fill)


def extraction(folder: Path, volumes: int = 2) -> None:
    (made, *_) = ct_rate.volumes(make_volumes(folder / "ct", size="full", counts=(1, 0))).volumes
    paths = [shutil.copy(made.path, folder / f"train_{number}_a_1.nii.gz") for number in range(1, volumes + 1)]
    index = ct_rate.VolumeIndex([dataclasses.replace(made, name=path.name, path=str(path)) for path in paths], [])

    def extract(processes: int) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            start = time.perf_counter()
            ct_rate.extract_slices(index, output, workers=workers(processes))
            return time.perf_counter() - start

    compare("P13", f"slices of {len(index.volumes)} CT volumes of 240×512×512, 2 processes", extract)
    one_volume(ct_rate.VolumeIndex(index.volumes[:1], []), folder)


def one_volume(index: ct_rate.VolumeIndex, folder: Path, repeats: int = 3) -> None:
    """By one process, against its parts: inflating the file, and choosing, scaling and resizing slices."""
    path = index.volumes[0].path
    content, ct = Path(path).read_bytes(), read_chest_ct(path, index.volumes[0].rescale)
    read = LoadImage(image_only=True, ensure_channel_first=True, reader="NibabelReader")
    scale = ScaleIntensityRange(-1000, 600, 0, 1, clip=True)
    small = Resize((224, 224), mode="bilinear", anti_aliasing=True)

    def monai() -> None:
        slices = scale(read(path))[..., :: len(ct.stored) // 12]
        for number in range(12):
            np.save(folder / "slice.npy", small(slices[..., number]).numpy())

    def extract() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            ct_rate.extract_slices(index, output, workers=1)

    works = (extract, monai, lambda: isal_zlib.decompress(content, 31), lambda: slice_images(ct))
    ours, theirs, inflating, arithmetic = zip(*([timed(work) for work in works] for _ in range(repeats)), strict=True)
    what = "slices of one CT volume of 240×512×512; limit: inflating and arithmetic alone"
    limit = statistics.median(inflating) + statistics.median(arithmetic)
    row("P13", what, ours, {"MONAI LoadImage, ScaleIntensityRange, Resize": theirs}, limit)
    print(f"    inflating {statistics.median(inflating):.3f} s, arithmetic {statistics.median(arithmetic):.3f} s")


def inference(folder: Path, shape: tuple[int, int, int]) -> None:
    source = folder / "volume.zarr"
    values = np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8)
    zarr.create_array(source, data=values, chunks=(CHUNK,) * 3)

    def predict(processes: int) -> float:
        return together(predict_part, source, folder / f"predicted by {processes}", processes=processes)

    compare("P15", f"Zarr inference of {shape}, a small network, 2 processes of one thread", predict)


def predict_part(source: Path, output: Path, part: int, parts: int, ready: Any) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    network = Deep(3).eval()
    engine = ZarrSlidingWindow(
        network, ROI, OVERLAP, batch_size=BATCH, targets=TARGETS, chunk_size=CHUNK, progress=False
    )
    ready.wait()
    engine(source, output, part=part, parts=parts)
    print(f"    part {part + 1} of {parts}: {network.calls} windows", flush=True)
    os._exit(0)  # the end of the interpreter isn't part of it


def training(folder: Path, size: int) -> None:
    make_demo(folder / "small", counts=(10, 10))  # 16 to train with: whole batches for one process and for two

    def train(processes: int, threads: int = 1) -> float:
        output = folder / f"trained by {processes} of {threads}"
        given: dict[str, Any] = {
            **{"dataset_dir": folder / "small", "output_dir": output, "cache_dir": folder / "cache"},
            **{
                "image_size": size,
                "batch_size": 4,
                "max_epochs": 3,
                "num_workers": 0,
                "num_folds": 5,
            },
            **{"val_interval": 3, "tracking_uri": "none", "plot_every": 0},
        }
        files = [str(CONFIGS / name) for name in ("train.json", *["multi_gpu_train.json"][: processes - 1])]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        words: Sequence[str] = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, *launcher[: 4 * (processes - 1)], "-m", "monai.bundle", "run"]
        subprocess.run(
            [*command, "--config_file", str(files), *words],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        (found,) = output.rglob("metrics/metrics.json")
        return float(json.loads(found.read_text())["history"][1]["seconds"])  # neither first use nor validation

    one, both = train(1), train(1, threads=2)
    what = f"an epoch of brats_resnet50 at {size}³ under torchrun, 2 processes of one thread"
    others = {"1 process of one thread": [one], "1 process of two threads": [both]}
    row("P15", f"{what}; limit: half of one process's time", [train(2)], others, one / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller")
    parser.add_argument("--cases", type=int, default=40)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine_itself(50 if options.quick else 100)
        preparation(folder, 8 if options.quick else options.cases)
        extraction(folder)
        inference(folder, (64, 192, 192) if options.quick else (128, 384, 768))
        training(folder, 32 if options.quick else 64)


if __name__ == "__main__":
    main()
