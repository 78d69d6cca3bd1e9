"""Explicit handling of NaN and infinite voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_ext.errors import ConfigError, DataError

POLICIES = ("reject", "fill")


class CheckFinited(MapTransform):
    """Reject images with NaN or infinite voxels, or fill these with 0; reject images without any signal.

    A single NaN would spread through the first convolution to all weights without an error.

    Args:
        keys: keys of the images (C, ...).
        policy: ``"reject"`` raises, ``"fill"`` puts 0 (the background) in place of the bad voxels.
        case_key: key of the case's name, for errors.
        allow_missing_keys: whether items may lack a key.

    Raises:
        ConfigError: for an unknown policy.
        DataError: for non-finite voxels under ``"reject"``, and for a channel without non-zero voxels always.
    """

    def __init__(
        self,
        keys: KeysCollection,
        policy: str = "reject",
        case_key: str = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if policy not in POLICIES:
            raise ConfigError(f"CheckFinited: policy must be one of {POLICIES}, got {policy!r}")
        self.policy = policy
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            where = getattr(image, "meta", {}).get("filename_or_obj")
            case = f"case {result.get(self.case_key, 'unknown')!r}"
            bad = ~torch.isfinite(image)
            count = int(bad.sum())
            if count and self.policy == "reject":
                raise DataError(
                    f"{case} has {count} of {bad.numel()} voxels that are NaN or infinite; repair the file, "
                    "leave the case out, or choose policy 'fill'",
                    where,
                )
            if count:
                result[key] = image = torch.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
            blank = [channel for channel, values in enumerate(image) if not values.any()]
            if blank:
                raise DataError(f"{case} has nothing but zeros in channel {blank}; there is no image", where)
        return result
