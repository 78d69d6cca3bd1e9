"""Where the time of exact inference with OpenVINO (P1) goes, layer by layer; no part of ``make bench``.

``python benchmarks/layers.py [--quick] [--least 0.03]``: layers of the same sizes count together; each has its
share of the network's time, and convolutions their speed, operations of the padding included.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from typing import Any

import torch
from networks import NETWORKS, QUICK, made
from table import machine

from monai_ext.inferers.openvino_means import rewrite_means
from monai_ext.inferers.openvino_network import import_openvino

openvino = import_openvino()
CORE = openvino.Core()


def convolutions(model: Any) -> dict[str, tuple[str, float]]:
    """Sizes and floating-point operations of each convolution, by its name."""
    found = {}
    for node in model.get_ops():
        if "Convolution" in node.get_type_name():
            weights, image, output = node.get_input_shape(1), node.get_input_shape(0), node.get_output_shape(0)
            transposed = "Backprop" in node.get_type_name()
            places = math.prod((image if transposed else output)[2:]) * image[0]
            before, after = (weights[0], weights[1]) if transposed else (weights[1], weights[0])
            kernel, sizes = ("×".join(map(str, shape[2:])) for shape in (weights, output))
            kind = "transposed convolution" if transposed else "convolution"
            what = f"{kind} {kernel}, {before} to {after} channels, {sizes}"
            found[node.get_friendly_name()] = what, 2.0 * math.prod(weights) * places
    return found


def layers(name: str, least: float) -> None:
    network, image, example = made(name)
    model = openvino.convert_model(network, example_input=example)
    rewrite_means(model)
    model.reshape(list(image.shape))
    known = convolutions(model)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    compiled = CORE.compile_model(model, "CPU", {**settings, "INFERENCE_NUM_THREADS": torch.get_num_threads()})
    request = compiled.create_infer_request()
    for _ in range(3):
        request.infer(image.numpy())
    spent: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
    for layer in request.profiling_info:
        what, operations = known.get(layer.node_name, (layer.node_type, 0.0))
        spent[what][0] += 1
        spent[what][1] += layer.real_time.total_seconds()
        spent[what][2] += operations
    total = sum(seconds for _, seconds, _ in spent.values())
    operations = sum(part for _, _, part in spent.values())
    limit = machine().float32
    print(f"\n{name}: {total:.3f} s, {operations / total / 1e9:.0f} of {limit:.0f} GFLOP/s\n")
    print("| layers | how many | time | GFLOP/s | of the limit |\n|---|---|---|---|---|")
    for what, (count, seconds, operations) in sorted(spent.items(), key=lambda entry: -entry[1][1]):
        if seconds >= least * total:
            speed = operations / seconds / 1e9
            told = f"{speed:.0f} | {speed / limit:.0%}" if operations else "|"
            print(f"| {what} | {count} | {seconds / total:.0%} | {told} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one network")
    parser.add_argument("--least", type=float, default=0.03, help="share of the time from which on layers are named")
    options = parser.parse_args()
    with torch.no_grad():
        for name in [QUICK] if options.quick else NETWORKS:
            layers(name, options.least)


if __name__ == "__main__":
    main()
