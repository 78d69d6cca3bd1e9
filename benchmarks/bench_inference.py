"""P1, P2: inference of the bundles' networks against eager float32 (MONAI's default), on this machine's CPU.

``python benchmarks/bench_inference.py [--quick] [--all] [--rounds 3] [--threads N]``. Fewer rounds where MONAI's take
three seconds in all. `surface_unet` is measured exactly, and with ``--all`` in all variants.
"""

from __future__ import annotations

import argparse
import functools
from concurrent.futures import ProcessPoolExecutor

import torch
from networks import LARGE, NETWORKS, QUICK, made
from table import HEAD, as_it_comes, flops, machine, row, timed

from monai_ext.allocator import keep_freed_memory
from monai_ext.errors import ConfigError
from monai_ext.inferers import prepare_for_inference
from monai_ext.inferers.accuracy import accuracy_fault

VARIANTS = [
    ("torchscript", "fp32"),
    ("openvino", "fp32"),
    ("eager", "bf16"),
    ("openvino", "bf16"),
]


@functools.lru_cache(1)
def monai(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    network, image, _ = made(name)
    return network, image


@torch.no_grad()
def monai_seconds(name: str) -> float:
    network, image = monai(name)
    return timed(lambda: network(image))


def compare(name: str, variants: list[tuple[str, str]], rounds: int, other: ProcessPoolExecutor) -> None:
    baseline, image, example = made(name)
    reference = baseline(image)
    prepared = {}
    for engine, precision in variants:
        label = f"{name}, {engine} {precision}: "
        try:
            network = prepare_for_inference(baseline, "cpu", engine, precision, example, fall_back=False)
        except ConfigError as error:
            print(f"{label}not measured: {error}")
            continue
        fault = accuracy_fault(network(image), reference, exact=precision == "fp32")
        if fault:
            print(f"{label}refused: {fault}")
        else:
            prepared[engine, precision] = network
    times: dict[tuple[str, str], list[float]] = {key: [] for key in [("eager", "fp32"), *prepared]}
    base: list[float] = []
    if name != LARGE:
        other.submit(monai_seconds, name).result()
    while len(base) < rounds and sum(base) < 3:
        base.append(other.submit(monai_seconds, name).result())
        for key, values in times.items():
            values.append(timed(functools.partial(prepared.get(key, baseline), image)))
    operations = flops(baseline, image)
    for (engine, precision), values in times.items():
        speed = machine().float32 if precision == "fp32" else machine().bf16
        limit = operations / speed / 1e9
        what = f"{name}, {engine} {precision}"
        row("P1" if precision == "fp32" else "P2", what, values, {"MONAI eager float32": base}, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one network")
    parser.add_argument("--all", action="store_true", help="TorchScript and bf16 of surface_unet, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {torch.backends.cpu.get_cpu_capability()}\n")
    print(HEAD)
    keep_freed_memory()
    with torch.no_grad(), as_it_comes() as other:
        for name in [QUICK] if arguments.quick else NETWORKS:
            variants = [("openvino", "fp32")] if name == LARGE and not arguments.all else VARIANTS
            compare(name, variants, arguments.rounds, other)


if __name__ == "__main__":
    main()
