"""N4 bias-field correction (Tustison et al., doi:10.1109/TMI.2010.2046908) by ITK."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type
from scipy.ndimage import affine_transform, distance_transform_edt

from monai_ext.arrays import to_numpy


class CorrectBiasField(Transform):
    """Remove the smooth intensity variation of the scanner, estimated within the non-zero voxels.

    The field is estimated on a grid subsampled by ``shrink`` and interpolated back, as usual for N4: it is smooth, and
    the full grid takes long. Zeros stay zeros.

    Args:
        shrink: subsampling of each axis; 1 takes every voxel.
        iterations: most iterations of each fitting level, coarsest first.
        enabled: False returns the image as it is, so that a setting can switch it off.

    Raises:
        ValueError: for a ``shrink`` below 1.
    """

    def __init__(self, shrink: int = 4, iterations: Sequence[int] = (50, 50, 50, 50), enabled: bool = True) -> None:
        if shrink < 1:
            raise ValueError(f"CorrectBiasField: shrink must be at least 1, got {shrink}")
        self.shrink = shrink
        self.iterations = tuple(iterations)
        self.enabled = enabled

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Correct an image (C, X, Y, Z), each channel by itself; values must not be negative."""
        if not self.enabled:
            return img
        channels = to_numpy(img, np.float32)
        corrected = np.stack([channel / self._field(channel) for channel in channels])
        return convert_to_dst_type(corrected, img)[0]

    def _field(self, image: np.ndarray) -> np.ndarray:
        import itk

        thin = np.ascontiguousarray(image[(slice(None, None, self.shrink),) * 3])
        mask = thin > 0
        if not mask.any():
            return np.ones_like(image)
        image_type, mask_type = itk.Image[itk.F, 3], itk.Image[itk.UC, 3]
        # copies: a filter keeps no hold on the arrays behind a view
        n4 = itk.N4BiasFieldCorrectionImageFilter[image_type, mask_type, image_type].New(
            itk.image_from_array(thin), MaskImage=itk.image_from_array(mask.astype(np.uint8))
        )
        n4.SetNumberOfFittingLevels(len(self.iterations))
        n4.SetMaximumNumberOfIterations(list(self.iterations))
        n4.Update()
        corrected = itk.array_from_image(n4.GetOutput())

        # Outside the mask the quotient is 0/0: continue the field by its nearest value, so that interpolation at the
        # edge of the brain is not dragged down.
        known = mask & (corrected > 0)
        log_field = np.zeros_like(thin)
        log_field[known] = np.log(thin[known] / corrected[known])
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        # voxel i of the full grid lies at i / shrink of the subsampled one
        full = affine_transform(
            log_field[tuple(nearest)], np.full(3, 1 / self.shrink), output_shape=image.shape, order=1, mode="nearest"
        )
        return np.exp(full).astype(np.float32)


class CorrectBiasFieldd(MapTransform):
    """Dictionary version of `CorrectBiasField`.

    Args:
        keys: keys of the images (C, X, Y, Z).
        shrink: see `CorrectBiasField`.
        iterations: see `CorrectBiasField`.
        enabled: see `CorrectBiasField`.
        allow_missing_keys: whether items may lack a key.

    Raises:
        ValueError: for a ``shrink`` below 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        shrink: int = 4,
        iterations: Sequence[int] = (50, 50, 50, 50),
        enabled: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.correct = CorrectBiasField(shrink, iterations, enabled)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.correct(result[key])
        return result
