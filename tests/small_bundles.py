"""The bundles with small networks, as other programs take them."""

from pathlib import Path

import numpy as np

BUNDLES = Path(__file__).parents[1] / "bundles"
# An oblique order of the file's axes: what is done to them has to be undone.
AFFINE = np.array([[0.0, 0.0, 4.0, 3.0], [-1.0, 0.0, 0.0, 4.0], [0.0, 1.5, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
# Settings of small networks and images, as their checkpoints say them.
SMALL = {
    "brats_resnet50": {"image_size": 32},
    "nuclei_vgg3d": {"crop_size": 40, "margin": 4, "fmaps": 4, "class_map": [[1, "a"], [2, "b"]]},
    "ct_rate_multilabel": {"backbone": "resnet18", "num_slices": 3, "slice_size": 32},
    "surface_unet": {"f_maps": [8, 16]},
    "spinal_cord_cascade": {"features": 4, "image_size": 32},
}
MASKS = ("surface_unet", "spinal_cord_cascade")
