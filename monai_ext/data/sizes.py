"""Sizes before memory: a file must hold what its header claims before anything of that size is allocated."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import

from monai_ext.errors import DataError
from monai_ext.memory import free_memory

# No deflate stream grows more: two bits code at most 258 bytes.
DEFLATE_RATIO = 1032
# Files of which this much remains behind the last voxel are no accident of padding.
SLACK = 1 << 20
# Below this, memory isn't asked for; above it, an image that shrinks this much isn't one.
_LARGE, _LARGE_RATIO = 4 << 30, 500


def claimed_bytes(shape: Sequence[int], itemsize: int, path: str | Path) -> int:
    """Bytes of an array, in whole numbers of any size.

    Args:
        shape: of the header.
        itemsize: bytes of an element.
        path: of the file, for the error message.

    Raises:
        DataError: for a negative length, or an array without elements.
    """
    lengths = [int(length) for length in shape]
    if min(lengths, default=0) < 1:
        raise DataError(f"holds no voxels (shape {tuple(lengths)})", path)
    return math.prod(lengths) * itemsize


def check_claim(claimed: int, stored: int, path: str | Path, ratio: int = 1) -> None:
    """Refuse a header that claims more than the file can hold, or this machine's memory.

    Args:
        claimed: bytes of the voxels by the header.
        stored: bytes of the file that may hold them.
        path: of the file, for the error message.
        ratio: greatest growth of the file's compression; 1 for none.

    Raises:
        DataError: with both numbers.
    """
    if claimed > stored * ratio:
        raise DataError(
            f"is truncated, or its header is wrong: {claimed} bytes of voxels are claimed, and the {stored} bytes of "
            "the file can't hold them; copy or download it again",
            path,
            code="too-large",
        )
    if claimed < _LARGE:
        return
    if claimed > stored * _LARGE_RATIO:
        raise DataError(
            f"inflates to {claimed} bytes, {claimed // max(stored, 1)} times its size; this is no image but a "
            "decompression bomb, or blank",
            path,
            code="too-large",
        )
    if claimed > (free := free_memory(torch.device("cpu"))):
        raise DataError(f"needs {claimed} bytes of memory, and {free} are free", path, code="too-large")


def inflate(content: bytes, most: int, path: str | Path, wbits: int = 31) -> bytes:
    """The whole content of a gzip (or zlib) stream with its checksum verified, never more than ``most`` bytes of it.

    Args:
        content: the compressed stream, of one or several members.
        most: bytes that may come out.
        path: of the file, for the error message.
        wbits: 31 for gzip, 15 for zlib.

    Raises:
        DataError: when more comes out.
        EOFError: for a truncated stream.
        zlib.error: for a damaged one (with isal, its own error).
    """
    parts, left = [], most
    while content:
        stream = _library().decompressobj(wbits)
        part = stream.decompress(content, left + 1)
        if len(part) > left:
            raise DataError(
                f"holds more than the {most} bytes that its header says; its shape is wrong, or it is a "
                "decompression bomb",
                path,
                code="too-large",
            )
        if not stream.eof:
            raise EOFError
        parts.append(part)
        left -= len(part)
        # gzip files may end in zeros
        content = stream.unused_data.lstrip(b"\0") if wbits == 31 else b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def beginning(content: bytes, length: int, wbits: int = 31) -> bytes:
    """The first bytes of a compressed stream, at most ``length``.

    Args:
        content: the stream, or its first part.
        length: bytes that may come out, at least 1.
        wbits: see `inflate`.
    """
    return _library().decompressobj(wbits).decompress(content, length)


def _library() -> Any:
    isal, faster = optional_import("isal.isal_zlib")
    return isal if faster else zlib
