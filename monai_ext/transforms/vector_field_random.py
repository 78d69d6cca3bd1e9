"""The common part of random transforms that move images, labels and vector fields together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
from monai.utils import TraceKeys, convert_to_tensor, ensure_tuple

from monai_ext.errors import ConfigError, DataError


class RandVectorFieldd(RandomizableTransform, MapTransform, InvertibleTransform):
    """Base of the random transforms of vector fields: one draw for all keys, applied, recorded and undone.

    A subclass defines the draw, how it is applied to a key, and the draw that undoes it.

    Args:
        keys: images, labels and fields (C, Z, Y, X) of one spatial shape; all move in space.
        vector_keys: those of ``keys`` that are vector fields (3, Z, Y, X), components (x, y, z), transformed as well.
        prob: probability of a draw.
        allow_missing_keys: keys that an item lacks are left out.

    Raises:
        ConfigError: when one of ``vector_keys`` isn't among ``keys``.
        DataError: when called with items that are no volumes, or of different spatial shapes.
    """

    def __init__(
        self, keys: KeysCollection, vector_keys: KeysCollection, prob: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.vector_keys = ensure_tuple(vector_keys)
        others = [key for key in self.vector_keys if key not in self.keys]
        if others:
            raise ConfigError(f"{type(self).__name__}: vector_keys has {others[0]!r}, which is not in keys")
        self.drawn: dict[str, Any] = {}

    @abstractmethod
    def draw(self, shape: Sequence[int]) -> dict[str, Any]:
        """Parameters of one random transform for volumes of a ``shape`` (Z, Y, X)."""

    @abstractmethod
    def apply(self, key: Hashable, image: torch.Tensor, drawn: Mapping[str, Any]) -> torch.Tensor:
        """Apply what was drawn to the image or field under a key."""

    @abstractmethod
    def opposite(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The draw that undoes another."""

    def randomize(self, data: Sequence[int]) -> None:
        """Draw whether to transform, and how, volumes of the spatial shape ``data``."""
        super().randomize(None)
        self.drawn = self.draw(data)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = {**data}
        self.randomize(self._common_shape(result))
        for key in self.key_iterator(result):
            result[key] = convert_to_tensor(result[key], track_meta=get_track_meta())
            if self._do_transform:
                result[key] = self.apply(key, result[key], self.drawn)
            self.push_transform(result[key], extra_info=dict(self.drawn))
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = {**data}
        for key in self.key_iterator(result):
            record = self.pop_transform(result[key])
            if record[TraceKeys.DO_TRANSFORM]:
                result[key] = self.apply(key, result[key], self.opposite(record[TraceKeys.EXTRA_INFO]))
        return result

    def _common_shape(self, data: dict[Hashable, Any]) -> tuple[int, ...]:
        shapes = {key: tuple(data[key].shape) for key in self.key_iterator(data)}
        for key, shape in shapes.items():
            first, *_ = shapes
            if len(shape) != 4 or shape[1:] != shapes[first][1:]:
                raise DataError(
                    f"{type(self).__name__}: all keys must be (C, Z, Y, X) with the same Z, Y, X, "
                    f"but {first!r} is {shapes[first]} and {key!r} is {shape}"
                )
        return next(iter(shapes.values()), (0, 0, 0, 0))[1:]
