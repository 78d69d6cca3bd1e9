"""Decoded slices of compressed stacks, kept for the next crop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

from monai_ext.errors import ConfigError


class SliceCache:
    """The slices decoded last, forgotten by whole stacks: the stack that was used longest ago goes first.

    It belongs to one process: a copy in another one (a pickle) starts empty, and after a fork each has its own.
    A stack too large for the bound is decoded again where it doesn't fit; nothing is ever refused.

    Args:
        max_stacks: stacks with slices in memory, at least 1.
        max_bytes: bytes of all slices together; 0 keeps nothing.

    Raises:
        ConfigError: for bounds out of range.
    """

    # Slots, not a __dict__: `PreparedDataset` describes a transform by the attributes of its parts, and neither the
    # bounds nor what is kept at the moment changes a transform's result.
    __slots__ = ("_bytes", "_stacks", "max_bytes", "max_stacks")

    def __init__(self, max_stacks: int = 10, max_bytes: int = 1 << 30) -> None:
        if max_stacks < 1 or max_bytes < 0:
            raise ConfigError(
                f"SliceCache: needs max_stacks of at least 1 and max_bytes of at least 0, got {max_stacks}, {max_bytes}"
            )
        self.max_stacks = max_stacks
        self.max_bytes = max_bytes
        self._stacks: OrderedDict[Hashable, dict[int, np.ndarray]] = OrderedDict()
        self._bytes = 0

    def __reduce__(self) -> tuple[object, ...]:
        return SliceCache, (self.max_stacks, self.max_bytes)

    def __len__(self) -> int:
        """Stacks with slices in memory."""
        return len(self._stacks)

    @property
    def nbytes(self) -> int:
        """Bytes of all slices in memory."""
        return self._bytes

    def get(self, stack: Hashable, index: int, decode: Callable[[int], np.ndarray]) -> np.ndarray:
        """Slice ``index`` of ``stack``, from ``decode(index)`` when it isn't in memory; not to be changed in place.

        Args:
            stack: key of the stack, such as a `TiffStack`.
            index: number of the slice, from 0.
            decode: reads the slice (Y, X) of this number.
        """
        slices = self._stacks.setdefault(stack, {})
        self._stacks.move_to_end(stack)
        if index not in slices:
            try:
                decoded = decode(index)
                self._make_room(decoded.nbytes)
                if self._bytes + decoded.nbytes > self.max_bytes:
                    return decoded
                slices[index] = decoded
                self._bytes += decoded.nbytes
            finally:
                if not slices:
                    del self._stacks[stack]
        return slices[index]

    def _make_room(self, nbytes: int) -> None:
        while len(self._stacks) > 1 and (len(self._stacks) > self.max_stacks or self._bytes + nbytes > self.max_bytes):
            _, slices = self._stacks.popitem(last=False)
            self._bytes -= sum(kept.nbytes for kept in slices.values())
