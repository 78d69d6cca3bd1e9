"""Conversion of stored targets to the form that losses and spatial transforms take."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch.nn.functional import max_pool3d

from monai_ext.arrays import to_numpy
from monai_ext.data.normals import decode_normals
from monai_ext.errors import ConfigError, DataError
from monai_ext.targets import Definition, target_kind


class PrepareTargetsd(MapTransform):
    """Convert stored targets to the form that losses and spatial transforms take, by their definitions.

    All become float32 tensors: MONAI's resampling needs floats, and class numbers stay exact. By the kind of the target
    (`monai_ext.targets.target_kind`):

    - labels: 1 where anything but 0 and ``ignore_label`` is stored (1, 255, ...), else 0; ``ignore_label`` stays.
    - classes: numbers from 0, one channel, as stored; ``ignore_label`` is one of them.
    - vectors: decoded by `decode_normals` where they are stored as integers, zero vectors for background.
    - values: as stored.

    Args:
        targets: definition of each target by name, see `monai_ext.losses.MultiTargetLoss`; the names are the keys.
        ignore_label: stored value of the voxels that losses leave out, or ``None``.
        dilation: voxels by which labelled foreground grows along each axis, diagonals included, into
            background alone; a whole number ≥ 0.
        allow_missing_keys: targets that an item lacks, as in inference, are left out.

    Shapes: (channels, Z, Y, X), for classes (1, Z, Y, X).

    Raises:
        ConfigError: for an unknown activation, a negative ``dilation``, or 0 as ``ignore_label``.
        DataError: when called with a target of another shape, with vectors of another type than `decode_normals` takes,
            with unknown classes, or with NaN.
    """

    def __init__(
        self,
        targets: Mapping[str, Definition],
        ignore_label: float | None = None,
        dilation: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(tuple(targets), allow_missing_keys)
        if isinstance(dilation, bool) or int(dilation) != dilation or dilation < 0:
            raise ConfigError(f"PrepareTargetsd: dilation is a whole number of voxels, at least 0, got {dilation!r}")
        if ignore_label == 0:
            raise ConfigError("PrepareTargetsd: ignore_label can't be 0, which is background; take another value")
        self.targets = {name: dict(definition) for name, definition in targets.items()}
        self.kinds = {name: target_kind(definition) for name, definition in targets.items()}
        self.ignore_label = ignore_label
        self.dilation = int(dilation)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for name in self.key_iterator(result):
            stored = result[name]
            prepared = self._prepared(str(name), to_numpy(stored))
            result[name] = MetaTensor(prepared, meta=stored.meta) if isinstance(stored, MetaTensor) else prepared
        return result

    def _prepared(self, name: str, stored: np.ndarray) -> torch.Tensor:
        definition, kind = self.targets[name], self.kinds[name]
        channels = 1 if kind == "classes" else definition["channels"]
        if stored.ndim != 4 or len(stored) != channels:
            raise DataError(
                f"PrepareTargetsd: target {name!r} must have the shape ({channels}, Z, Y, X), got {stored.shape}"
            )
        if kind == "vectors":
            try:
                stored = decode_normals(stored, channel_axis=0)
            except DataError as error:
                raise DataError(f"PrepareTargetsd: target {name!r}: {error}") from error
        # a copy: the array may belong to a cache, or not be writable
        values = torch.from_numpy(stored.astype(np.float32))
        if values.isnan().any():
            raise DataError(f"PrepareTargetsd: target {name!r} holds NaN; mark voxels to leave out by ignore_label")
        if kind == "labels":
            return self._labels(values)
        if kind == "classes":
            self._check_classes(name, values, definition["channels"])
        return values

    def _labels(self, values: torch.Tensor) -> torch.Tensor:
        ignored = self._ignored(values)
        labels = ((values != 0) & ~ignored).float()
        if self.dilation:
            labels = max_pool3d(labels, 2 * self.dilation + 1, stride=1, padding=self.dilation)
        return labels if self.ignore_label is None else labels.masked_fill(ignored, self.ignore_label)

    def _check_classes(self, name: str, values: torch.Tensor, classes: int) -> None:
        known = ((values >= 0) & (values < classes) & (values == values.round())) | self._ignored(values)
        if not known.all():
            raise DataError(
                f"PrepareTargetsd: target {name!r} must hold the classes 0 to {classes - 1}, got "
                f"{values[~known].unique()[:5].tolist()}; raise its channels, or set ignore_label"
            )

    def _ignored(self, values: torch.Tensor) -> torch.Tensor:
        if self.ignore_label is None:
            return torch.zeros_like(values, dtype=torch.bool)
        return values == self.ignore_label
