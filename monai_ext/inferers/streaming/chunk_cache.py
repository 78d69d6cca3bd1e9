"""Decoded chunks of the input that a later tile column needs again, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

import numpy as np

Key = tuple[int, ...]


class ChunkCache:
    """Keeps chunks until the last tile column that needs them has begun.

    When it is full, further chunks aren't taken: to drop the oldest for them would lose each one just before its use.

    Args:
        room: bytes.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._chunks: dict[Key, tuple[int, np.ndarray]] = {}
        self._lock = Lock()

    def get(self, key: Key) -> np.ndarray | None:
        """A chunk; None where it isn't kept."""
        return self._chunks.get(key, (0, None))[1]

    def put(self, key: Key, chunk: np.ndarray, until: int) -> None:
        """Keep a copy of a chunk until after the tile column ``until``, if there is room."""
        with self._lock:
            if key not in self._chunks and chunk.nbytes <= self._room:
                self._chunks[key] = until, chunk.copy()
                self._room -= chunk.nbytes

    def forget(self, before: int) -> None:
        """Release what only tile columns before this one needed."""
        with self._lock:
            for key in [key for key, (until, _) in self._chunks.items() if until < before]:
                self._room += self._chunks.pop(key)[1].nbytes


def rectangles(wanted: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Rectangles that together cover the True places of a 2-D array once, and no others."""
    left = wanted.copy()
    for y, x in zip(*np.nonzero(wanted), strict=True):
        if not left[y, x]:
            continue
        right, bottom = x + 1, y + 1
        while right < left.shape[1] and left[y, right]:
            right += 1
        while bottom < left.shape[0] and left[bottom, x:right].all():
            bottom += 1
        left[y:bottom, x:right] = False
        yield slice(int(y), int(bottom)), slice(int(x), int(right))
