"""MONAI Deploy App SDK's bundle operator on one image in memory, without Holoscan's runtime.

``MONAI_DEPLOY_SDK`` names the folder of the SDK's unpacked wheel (``pip download --no-deps monai-deploy-app-sdk``, then
unzip): Holoscan, which the SDK's packages import, needs CUDA. The operator's own code runs as it is; replaced are the
base classes of Holoscan, which only connect operators.
"""

from __future__ import annotations

import enum
import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest


class _Operator:
    def __init__(self, fragment, *args, **kwargs):
        pass


class _IOType(enum.Enum):
    IN_MEMORY = 0


class _Ports:
    """Input and output of an operator."""

    def __init__(self, given):
        self.given, self.sent = given, {}

    def receive(self, name):
        return self.given[name]

    def get(self, name):
        raise KeyError(name)

    def emit(self, value, name):
        self.sent[name] = value


def bundle_operator():
    """The module of the operator; skips where the SDK isn't there."""
    folder = os.environ.get("MONAI_DEPLOY_SDK")
    if not folder:
        pytest.skip("MONAI_DEPLOY_SDK names no unpacked wheel of MONAI Deploy's SDK")
    name = "monai.deploy.operators.monai_bundle_inference_operator"
    if name not in sys.modules:
        for package in ("", ".core", ".operators"):
            module = types.ModuleType(f"monai.deploy{package}")
            module.__path__ = [str(Path(folder, "monai", "deploy", package.removeprefix(".")))]
            sys.modules[module.__name__] = module
        core = sys.modules["monai.deploy.core"]
        core.IOType, core.Operator = _IOType, _Operator
        core.AppContext = core.Fragment = core.OperatorSpec = object
        core.Image = importlib.import_module("monai.deploy.core.domain.image").Image
    return importlib.import_module(name)


def deploy(exported, image, affine, outputs=("pred",)):
    """What the operator sends, by output.

    Args:
        exported: TorchScript file.
        image: (X, Y, Z).
        affine: of the image, RAS.
        outputs: names in the metadata.
    """
    operators = bundle_operator()
    core = sys.modules["monai.deploy.core"]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # as DICOMSeriesToVolumeOperator makes it: axes Z, Y, X
    metadata = dict(zip(("row_pixel_spacing", "col_pixel_spacing", "depth_pixel_spacing"), spacing, strict=True))
    metadata["nifti_affine_transform"] = affine
    given = core.Image(np.swapaxes(image, 0, 2), metadata)
    operator = operators.MonaiBundleInferenceOperator(
        core.Fragment(),
        app_context=types.SimpleNamespace(models=None),
        input_mapping=[operators.IOMapping("image", core.Image, core.IOType.IN_MEMORY)],
        output_mapping=[operators.IOMapping(name, core.Image, core.IOType.IN_MEMORY) for name in outputs],
        bundle_path=str(exported),
    )
    assert operator.bundle_path is not None, "the SDK could not parse the config in the file"
    ports = _Ports({"image": given})
    operator.compute(ports, ports, None)
    return ports.sent
