"""A network as an MLflow model: torch's own graph, without pickled code, with signature and input example."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from monai_ext.networks.onnx_file import input_sizes, quiet

# Edge of the example in pixels or voxels, where the network takes images of other sizes than those it was trained on.
EDGE = 32


def write_network(network: nn.Module, shape: Sequence[int], folder: str | Path) -> None:
    """Write a network as an MLflow model that `mlflow.pytorch.load_model` and ``mlflow models serve`` load.

    It is in torch's ``pt2`` format: a graph and tensors, for the CPU. Batch and, where the network allows it, spatial
    axes are free. The example is noise, so that no patient is in the model.

    Args:
        network: takes a batch of images; gives a tensor, or a dict of them. It is brought to the CPU and put into
            evaluation mode.
        shape: of one image: channels, then the spatial axes.
        folder: to write; what was there is replaced.

    Raises:
        Exception: what torch raises for a network that it can't export.
    """
    import mlflow.pytorch
    from mlflow.models import Model, ModelSignature

    network.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    # Halves are short as text, in which MLflow keeps it twice.
    noise = np.random.default_rng(0).integers(-4, 5, (2, *_example_shape(network, shape)))
    example = (noise / 2).astype(np.float32)
    with torch.no_grad():
        outputs = network(torch.from_numpy(example))
    free = [-1 if axis != 1 else size for axis, size in enumerate(example.shape)]
    model = Model()
    with quiet("mlflow", "torch"):  # torch of axes of size one, MLflow of packages
        mlflow.pytorch.save_model(
            network,
            str(folder),
            mlflow_model=model,
            signature=ModelSignature(_schema({None: free})),
            input_example=example,
            pip_requirements=[f"{name}=={metadata.version(name).split('+')[0]}" for name in _REQUIRED],
            serialization_format="pt2",
        )
        (graph,) = folder.rglob("*.pt2")
        sizes = [int(size) if size.isdigit() else -1 for size in input_sizes(torch.export.load(graph))]
    named = outputs if isinstance(outputs, Mapping) else {None: outputs}
    grows = -1 in sizes[2:]
    given = {name: [-1, out.shape[1], *(-1 if grows else n for n in out.shape[2:])] for name, out in named.items()}
    model.signature = ModelSignature(_schema({None: sizes}), _schema(given))
    served = model.flavors["python_function"]
    served["config"] = {"device": "cpu"}  # MLflow would ask a GPU for it where there is one, and fail
    if isinstance(outputs, Mapping):
        served["loader_module"] = __name__  # MLflow's own knows single tensors only
    model.save(str(folder / "MLmodel"))


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> _ByTarget:
    """What MLflow calls to serve a network with several outputs."""
    from mlflow.pytorch import _load_pyfunc as load

    return _ByTarget(load(path, model_config).get_raw_model())


class _ByTarget:
    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def predict(self, images: np.ndarray, params: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: tensor.numpy() for name, tensor in self.network(torch.from_numpy(images)).items()}


_REQUIRED = ("mlflow", "torch", "monai-ext")


def _example_shape(network: nn.Module, shape: Sequence[int]) -> list[int]:
    twin = copy.deepcopy(network).to("meta")
    taken = list(shape)
    for edge in (2 * EDGE, EDGE):
        small = [shape[0], *(min(size, edge) for size in shape[1:])]
        if not _keeps_axes(twin, small):
            break
        taken = small
    return taken


def _keeps_axes(twin: nn.Module, shape: Sequence[int]) -> bool:
    """Whether images of a shape are taken, and no convolution makes one voxel of an axis: torch would export a graph
    for images of at most this size.
    """
    thin = []
    convolutions = [module for module in twin.modules() if isinstance(module, _ConvNd)]
    hooks = [one.register_forward_hook(lambda *given: thin.append(1 in given[2].shape[2:])) for one in convolutions]
    try:
        with torch.no_grad():
            twin(torch.empty(2, *shape, device="meta"))
    except Exception:  # each network refuses in its own words
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return not any(thin)


def _schema(shapes: Mapping[str | None, Sequence[int]]) -> Any:
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype("float32"), tuple(shape), name) for name, shape in shapes.items()])
