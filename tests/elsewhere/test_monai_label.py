"""The bundles in MONAI Label: its own `BundleInferTask` and `BundleTrainTask` run on them (`make test-label`)."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own: make test-label")
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask

BUNDLES = Path(__file__).parents[2] / "bundles"
AFFINE = np.array([[0.0, 0.0, 4.0, 3.0], [-1.0, 0.0, 0.0, 4.0], [0.0, 1.5, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
SMALL = {
    "brats_resnet50": {"image_size": 32},
    "nuclei_vgg3d": {"crop_size": 40, "margin": 4, "fmaps": 4, "class_map": [[1, "a"], [2, "b"]]},
    "ct_rate_multilabel": {"backbone": "resnet18", "num_slices": 3, "slice_size": 32},
    "surface_unet": {"f_maps": [8, 16]},
    "spinal_cord_cascade": {"features": 4, "image_size": 32},
}
MASKS = ("surface_unet", "spinal_cord_cascade")


def placed(bundle, folder):
    """A copy of a bundle where the app of MONAI Label has its models, with the weights of a small network."""
    root = folder / "model" / (bundle if bundle in MASKS else f"{bundle}_classification")
    shutil.copytree(BUNDLES / bundle, root)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(root), **SMALL[bundle]})
    torch.manual_seed(0)
    content = {"model": parser.get_parsed_content("network_def").state_dict()}
    content["settings"] = parser.get_parsed_content("network_settings")
    weights = [root / "models" / "model.pt"]
    if bundle == "spinal_cord_cascade":
        weights.append(root / "models" / "lesion" / "model.pt")
        weights[1].parent.mkdir()
    for file in weights:
        torch.save(content, file)
    return root
