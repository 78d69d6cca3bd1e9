"""A network as an ONNX file."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.io import atomic_path

INPUT, OUTPUT = "image", "logits"


def write_onnx(network: nn.Module, shape: Sequence[int], path: str | Path, metadata: Mapping[str, str]) -> Path:
    """Write a network with the input ``image`` and the output ``logits``, or one output for each name that it gives.

    The batch may have any size, and so may the spatial axes where the network allows it; MONAI's ``onnx_export`` fixes
    all sizes, gives no names and writes no metadata.

    Args:
        network: takes one image; gives a tensor, or a dict of them. It is put into evaluation mode.
        shape: of one image: channels, then the spatial axes.
        path: the file.
        metadata: texts by name, kept in the file.

    Raises:
        ConfigError: where the packages for ONNX aren't installed.
        WriteError: when the file can't be written.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise ConfigError("ONNX needs onnx and onnxscript, which aren't installed: pip install 'monai-ext[export]'")
    images = torch.zeros(2, *shape)  # torch takes a size of one for a constant
    axes = {0: "batch", **dict(zip(range(images.ndim - 1, 1, -1), "xyz", strict=False))}
    free = {axis: torch.export.Dim.AUTO for axis in axes if images.shape[axis] > 1}
    # torch's exporter speaks of packages that this network doesn't need, and of its own deprecations
    with quiet("torch.onnx"), torch.no_grad():
        program = torch.export.export(network.eval(), (images,), dynamic_shapes=(free,))
        sizes = input_sizes(program)
        outputs = program.call_spec.out_spec.unflatten(range(program.call_spec.out_spec.num_leaves))
        found = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=list(outputs) if isinstance(outputs, Mapping) else [OUTPUT],
            dynamic_shapes=({axis: name for axis, name in axes.items() if not sizes[axis].isdigit()},),
            verbose=False,
        )
    assert found is not None
    written = found.model.graph.inputs[0].shape
    assert written is not None
    for axis in axes:
        if sizes[axis].isdigit():
            written[axis] = int(sizes[axis])  # where torch leaves a name that is this number
    found.model.metadata_props.update(metadata)
    with atomic_path(path) as temporary:
        found.save(temporary)
    return Path(path)


def input_sizes(program: torch.export.ExportedProgram) -> list[str]:
    """Size of the only input along each axis: a symbol, or the number that the network has made of it."""
    (name,) = program.graph_signature.user_inputs
    (node,) = (node for node in program.graph.nodes if node.name == name)
    return [str(size) for size in node.meta["val"].shape]


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Without warnings, and without what exporters log below errors.

    Args:
        names: of their loggers.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
