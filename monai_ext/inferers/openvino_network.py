"""A network converted to OpenVINO, on the CPU, and its conversion kept beside the checkpoint."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from monai_ext.inferers.openvino_means import rewrite_means
from monai_ext.large_files import digest_of

logger = logging.getLogger(__name__)

_FOLDER = "openvino"
_cores: list[Any] = []
_one_at_a_time = threading.Lock()


class OpenVinoNetwork(nn.Module):
    """The network for the same call, with as many threads as torch has now. Several threads may call it.

    Args:
        network: in evaluation mode; images (B, C, [Z,] Y, X) to a tensor, or a dict of them.
        precision: ``fp32`` or ``bf16``.
        example: a batch of the shape to come.
        checkpoints: files that the weights come from. The conversion, which takes longer than reading it, is kept in
            ``openvino`` beside the first, where that can be written.
    """

    def __init__(
        self, network: nn.Module, precision: str, example: torch.Tensor, checkpoints: Sequence[str | Path] = ()
    ) -> None:
        super().__init__()
        with torch.no_grad():
            _, self.structure = pytree.tree_flatten(network(example[:1]))
            model = _kept(network, example, [Path(path) for path in checkpoints])
        # Stated, because OpenVINO otherwise picks bf16 by itself where the CPU has it.
        hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = _core().compile_model(model, "CPU", {**hints, "INFERENCE_NUM_THREADS": torch.get_num_threads()})
        self._of_thread = threading.local()

    def forward(self, x: torch.Tensor) -> Any:
        # A request serves one call at a time.
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self.compiled.create_infer_request()
        outputs = self._of_thread.request.infer(x.contiguous().numpy())
        leaves = [torch.from_numpy(outputs[index]) for index in range(len(self.compiled.outputs))]
        return pytree.tree_unflatten(leaves, self.structure)


def import_openvino() -> Any:
    """The package ``openvino``, whose conversions otherwise report to a server of its makers, without asking."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def gains_by_openvino(network: nn.Module) -> bool:
    """Whether it is faster than eager float32, by 1.1 to 2.7 times with the bundles' convolutions.

    Args:
        network: any network.
    """
    return any(isinstance(module, nn.modules.conv._ConvNd) for module in network.modules())


def _core() -> Any:
    """The process's one core, which stays.

    Each core has a CPU plugin of its own. A plugin gives the thread that loads it a stack for signal handlers; as it
    goes, it frees that, but takes it back only in this thread and as the last one that came. Otherwise the next signal
    with a handler (such as that of a finished subprocess after a DataLoader with workers) kills the process.
    """
    with _one_at_a_time:
        if not _cores:
            _cores.append(import_openvino().Core())
        return _cores[0]


def _kept(network: nn.Module, example: torch.Tensor, checkpoints: list[Path]) -> Any:
    """The conversion from its folder, else made and kept there. It is float32 for both precisions."""
    openvino = import_openvino()

    def convert() -> Any:
        model = openvino.convert_model(network, example_input=example)
        rewrite_means(model)
        return model

    if not checkpoints:
        return convert()
    # The network's text has what changes its function but not its weights, such as dilation.
    made_by = [openvino.__version__, torch.__version__, "means axis by axis"]
    parts = [*made_by, repr(network), list(example.shape), *map(digest_of, checkpoints)]
    key = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
    folder = checkpoints[0].parent / _FOLDER / f"{checkpoints[0].stem}-{key}"
    file = folder / "model.xml"
    if file.is_file():
        try:
            return _core().read_model(file)
        except RuntimeError:
            logger.warning("%s: can't be read, so the network is converted again; you may delete the folder", folder)
            return convert()
    model = convert()
    _keep(openvino, model, folder)
    return model


def _keep(openvino: Any, model: Any, folder: Path) -> None:
    temporary = None
    try:
        folder.parent.mkdir(exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=f".{folder.name}.partial", dir=folder.parent)
        openvino.save_model(model, Path(temporary) / "model.xml", compress_to_fp16=False)
        os.replace(temporary, folder)
    except (OSError, RuntimeError) as error:  # a full disk, no right to write, or another process was first
        logger.info("OpenVINO's conversion isn't kept in %s (%s)", folder, error)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
