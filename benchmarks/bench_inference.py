"""P1, P2: inference of the 3-D networks against eager float32 (MONAI's default), on this machine's CPU.

``python benchmarks/bench_inference.py [--quick] [--sizes 64 128] [--rounds 5] [--threads N]``
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import torch
from table import HEAD, flops, machine, row

from monai_ext.errors import ConfigError
from monai_ext.inferers import prepare_for_inference
from monai_ext.inferers.accuracy import accuracy_fault
from monai_ext.networks import VGG3D, MedicalNetResNet50

VARIANTS = [
    ("torchscript", "fp32"),
    ("openvino", "fp32"),
    ("eager", "bf16"),
    ("torchscript", "bf16"),
    ("openvino", "bf16"),
]


def seconds(network: torch.nn.Module, image: torch.Tensor) -> float:
    start = time.perf_counter()
    network(image)
    return time.perf_counter() - start


def compare(name: str, make: Callable[[], torch.nn.Module], size: int, rounds: int) -> None:
    torch.manual_seed(0)
    baseline = make().eval()
    image = torch.randn(1, 1, size, size, size)
    reference = baseline(image)
    prepared = {}
    for engine, precision in VARIANTS:
        label = f"{name} {size}³, {engine} {precision}: "
        try:
            network = prepare_for_inference(baseline, "cpu", engine, precision, image)
        except ConfigError as error:
            print(f"{label}not measured: {error}")
            continue
        network(image)
        fault = accuracy_fault(network(image), reference, exact=precision == "fp32")
        if fault:
            print(f"{label}refused: {fault}")
        else:
            prepared[engine, precision] = network
    times: dict[tuple[str, str], list[float]] = {key: [] for key in [("eager", "fp32"), *prepared]}
    for _ in range(rounds):
        for key, values in times.items():
            values.append(seconds(prepared.get(key, baseline), image))
    base = times["eager", "fp32"]
    for (engine, precision), values in times.items():
        speed = machine().float32 if precision == "fp32" else machine().bf16
        limit = flops(baseline, image) / speed / 1e9
        what = f"{name} {size}³, {engine} {precision}"
        row("P1" if precision == "fp32" else "P2", what, values, {"MONAI eager float32": base}, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ResNet at 64³ only, three rounds")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes, rounds = ([64], 3) if arguments.quick else (arguments.sizes, arguments.rounds)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {torch.backends.cpu.get_cpu_capability()}\n")
    print(HEAD)
    with torch.no_grad():
        compare("VGG3D", VGG3D, 80, rounds)
        for name, dilated in (("ResNet50-3D", False), ("dilated ResNet50-3D", True)):
            for size in sizes:
                compare(name, functools.partial(MedicalNetResNet50, dilated=dilated), size, rounds)


if __name__ == "__main__":
    main()
