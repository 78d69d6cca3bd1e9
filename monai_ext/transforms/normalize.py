"""Normalisation of intensities, the same for patches in training and windows in inference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Transform
from monai.utils import convert_to_dst_type, convert_to_tensor

from monai_ext.errors import ConfigError

SCHEMES = ("zscore", "ct")
_LEAST_DEVIATION = 1e-8


class NormalizeVolume(Transform):
    """Normalise intensities to about mean 0 and standard deviation 1, over the last three axes.

    MONAI's ``NormalizeIntensity`` takes one image at a time and doesn't clip; this one takes batches as well, whose
    images it treats one by one, so that a window in inference is normalised as a patch in training.

    Args:
        scheme: "zscore" subtracts each image's mean and divides by its standard deviation, channel by channel; "ct" is
            nnU-Net's scheme for computed tomography (Isensee et al., doi:10.1038/s41592-020-01008-z): clip to
            percentiles, and normalise by mean and deviation, all measured once over the labelled voxels.
        intensity: for "ct" ``{"lower", "upper", "mean", "std"}``, all intensities.

    Shapes: (..., Z, Y, X) of any number type; the result has the same shape and is float32.

    Raises:
        ConfigError: for another scheme, or "ct" without its numbers.
    """

    def __init__(self, scheme: str = "zscore", intensity: Mapping[str, float] | None = None) -> None:
        if scheme not in SCHEMES:
            raise ConfigError(f"--normalization {scheme}: unknown (choices: {', '.join(SCHEMES)})")
        missing = {"lower", "upper", "mean", "std"} - set(intensity or {}) if scheme == "ct" else set()
        if missing:
            raise ConfigError(f"--normalization ct needs {', '.join(sorted(missing))} of the labelled voxels")
        self.intensity = dict(intensity or {}) if scheme == "ct" else None

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """The normalised image; an array comes back as an array, a tensor as a tensor, a ``MetaTensor`` as one."""
        values = convert_to_tensor(img, dtype=torch.float32)
        if self.intensity is not None:
            values = values.clamp(self.intensity["lower"], self.intensity["upper"])
            values = (values - self.intensity["mean"]) / max(self.intensity["std"], _LEAST_DEVIATION)
        else:
            deviation, mean = torch.std_mean(values, dim=(-3, -2, -1), correction=0, keepdim=True)
            # A uniform image becomes 0.
            values = (values - mean) / torch.where(deviation > 0, deviation, 1.0)
        return convert_to_dst_type(values, img, dtype=torch.float32)[0]
