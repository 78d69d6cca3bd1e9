"""Checks of a bundle's network: built by a plain parser, true to the metadata, loadable and exportable."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from typing import Any

from monai_ext.conformance.bundle import Bundle
from monai_ext.conformance.verdicts import NotApplicable, demand
from monai_ext.error_report import describe

# Largest difference of an export, relative to the largest output (but at least 1). Of millions of voxels a few may be
# ill-conditioned, such as vectors of length one that were nearly zero: one in a thousand may differ by 100 times that.
TOLERANCE = 1e-4


def plain_parser(bundle: Bundle) -> str:
    """A plain `ConfigParser` builds network, inferer, pre- and postprocessing of ``inference.json``: no workflow."""
    import torch

    parser = bundle.parser()
    demand(isinstance(bundle.network, torch.nn.Module), "network_def is no torch module")
    names = [name for name in ("inferer", "preprocessing", "postprocessing") if name in parser]
    for name in names:
        demand(callable(parser.get_parsed_content(name)), f"{name} can't be called")
    return ", ".join(["network_def", *names])


def network_format(bundle: Bundle) -> str:
    """The network takes the input that the metadata declare and gives the declared output (first one of several)."""
    import torch

    parser = bundle.parser()
    network = parser.get_parsed_content("network_check").cpu().eval() if "network_check" in parser else bundle.network
    name, spec = bundle.tensor("outputs")
    image = bundle.image()
    with torch.inference_mode():
        output = network(image)
    if isinstance(output, Mapping):
        demand(name in output, f"the network gives {', '.join(output)}, metadata.json declares {name}")
        output = output[name]
    output = output[0] if isinstance(output, (tuple, list)) else output
    found = f"{tuple(output.shape)} {output.dtype}"
    said = f"{name} of {spec['num_channels']} channels, {spec['spatial_shape']}, {spec['dtype']}"
    same = output.shape[1] == spec["num_channels"] and str(output.dtype) == f"torch.{spec['dtype']}"
    if spec["type"] == "image":  # a declared size that isn't fixed follows that of the input
        declared = [
            got if isinstance(size, str) else size
            for size, got in zip(spec["spatial_shape"], output.shape[2:], strict=False)
        ]
        same = same and list(output.shape[2:]) == declared
    demand(same, f"an input of {tuple(image.shape)} gives {found}, metadata.json declares {said}")
    return f"{tuple(image.shape)} → {found}"


def checkpoints(bundle: Bundle) -> str:
    """Every checkpoint loads with ``weights_only=True``, and ``models/model.pt`` fits the network."""
    import torch

    from monai_ext.networks.checkpoints import is_torchscript

    found = sorted(file for file in (bundle.path / "models").rglob("*") if file.suffix in (".pt", ".pth"))
    found = [file for file in found if not is_torchscript(file)]
    if not found:
        raise NotApplicable("there are no checkpoints in models/")
    for file in found:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if file == bundle.path / "models" / "model.pt":
            state = next((content[key] for key in ("model", "state_dict") if key in content), content)
            copy.deepcopy(bundle.network).load_state_dict(state)
    return ", ".join(file.name for file in found)


def torchscript(bundle: Bundle) -> str | None:
    """MONAI's ``ckpt_export`` writes a TorchScript file that equals the network."""
    import torch
    from monai.bundle.scripts import ckpt_export

    target = bundle.scratch / "model.ts"
    arguments = {
        "net_id": "network_def",
        "filepath": str(target),
        "ckpt_file": str(bundle.weights()),
        "key_in_ckpt": "",
        "meta_file": str(bundle.config("metadata")),
        "config_file": str(bundle.config("inference")),
        **bundle.overrides("inference"),
    }
    note = None
    try:
        ckpt_export(**arguments)
    except Exception as error:
        note = f"by tracing, as it can't be scripted ({describe(error)[0]})"
        ckpt_export(**arguments, use_trace=True, input_shape=[1, *bundle.image_shape])
    exported = torch.jit.load(str(target), map_location="cpu").eval()
    with torch.inference_mode():
        _compare(exported(bundle.image()), bundle, "TorchScript")
    return note


def onnx_file(bundle: Bundle) -> None:
    """An ONNX file of the network, run by ONNX Runtime, equals it."""
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        raise NotApplicable(f"{', '.join(absent)} not installed: pip install 'monai-ext[export]'")
    import onnxruntime  # type: ignore[import-untyped]

    from monai_ext.networks.onnx_file import write_onnx

    path = write_onnx(bundle.network, bundle.image_shape, bundle.scratch / "model.onnx", {})
    session = onnxruntime.InferenceSession(str(path))
    _compare(session.run(None, {session.get_inputs()[0].name: bundle.image().numpy()}), bundle, "ONNX Runtime")


def _compare(found: Any, bundle: Bundle, who: str) -> None:
    import torch
    from torch.utils._pytree import tree_leaves

    with torch.inference_mode():
        expected = tree_leaves(bundle.network(bundle.image()))
    others = [torch.as_tensor(leaf) for leaf in tree_leaves(found)]
    demand(len(others) == len(expected), f"{who} gives {len(others)} tensors, the network {len(expected)}")
    for eager, other in zip(expected, others, strict=True):
        demand(other.shape == eager.shape, f"{who} gives {tuple(other.shape)}, the network {tuple(eager.shape)}")
        differences = (other - eager).abs().double() / max(1.0, float(eager.abs().max()))
        largest, many = float(differences.max()), float((differences > TOLERANCE).double().mean()) > 1e-3
        most = TOLERANCE if many else 100 * TOLERANCE
        demand(largest <= most, f"{who} differs from the network by {largest:.2g} (at most {most:g})")
