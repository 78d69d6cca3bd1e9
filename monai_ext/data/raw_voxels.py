"""Voxels behind a text header (NRRD, MetaImage): in the same file or one beside it, plain or compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_ext.data.sizes import DEFLATE_RATIO, SLACK, check_claim, claimed_bytes, inflate
from monai_ext.errors import DataError

MOST_HEADER = 1 << 20
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_MM = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "micrometer": 1e-3} | {
    **{"cm": 10.0, "centimeter": 10.0, "m": 1e3, "meter": 1e3},
    **{"": 1.0, "?": 1.0},
}


@dataclass(frozen=True)
class RawVoxels:
    """Place and type of a volume's voxels.

    Args:
        header: file with the header, which errors name.
        data: file with the voxels; may be ``header``.
        offset: first byte of the voxels in ``data``; -1 when they are its last bytes.
        compressed: whether they are a gzip or zlib stream.
        dtype: with byte order.
        shape: (X, Y, Z), X the fastest.
    """

    header: Path
    data: Path
    offset: int
    compressed: bool
    dtype: np.dtype
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The voxels (X, Y, Z), read-only.

        Raises:
            DataError: with the path, when header and file contradict each other in size.
            OSError: for a file that can't be read.
            EOFError: for a truncated stream, and another error of its library for a damaged one.
        """
        claimed = claimed_bytes(self.shape, self.dtype.itemsize, self.header)
        stored = self.data.stat().st_size - max(self.offset, 0)
        check_claim(claimed, max(stored, 0), self.header, DEFLATE_RATIO if self.compressed else 1)
        if not self.compressed and stored > claimed + SLACK and self.offset >= 0:
            raise DataError(f"holds {stored} bytes of voxels, more than the {claimed} its header says", self.header)
        with open(self.data, "rb") as file:
            file.seek(self.offset if self.offset >= 0 else stored - claimed)
            content = file.read() if self.compressed else file.read(claimed)
        if self.compressed:
            content = inflate(content, claimed + SLACK, self.header, 31 if content.startswith(b"\x1f\x8b") else 15)
            if len(content) < claimed:
                raise EOFError
        return np.frombuffer(content, self.dtype, claimed // self.dtype.itemsize).reshape(self.shape, order="F")


def data_beside(header: Path, name: str) -> Path:
    """The file with the voxels, in the folder of the header.

    Raises:
        DataError: for a name that isn't one of a file there: another folder, several files, a pattern.
    """
    path = header.parent / name
    if Path(name).name != name or not path.is_file():
        raise DataError(
            f"names {name!r} as its voxels, which is no single file beside it; copy it there, or convert both to one "
            "file",
            header,
            code="unreadable",
        )
    return path


def numbers(text: str, header: Path, count: int | None = None) -> list[float]:
    """The numbers of a field.

    Args:
        text: numbers with blanks or commas between them, in brackets or not.
        header: for the error message.
        count: how many there must be.

    Raises:
        DataError: for anything else.
    """
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    try:
        found = [float(word) for word in words]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        raise DataError(f"has {text!r} in its header where {count or ''} numbers belong", header, code="unreadable")
    return found


def whole_numbers(text: str, header: Path) -> list[int]:
    """The shape of a header, in whole numbers; raises as `numbers`."""
    found = numbers(text, header)
    if any(value != int(value) if np.isfinite(value) else True for value in found):
        raise DataError(f"has the shape {text!r} in its header", header, code="unreadable")
    return [int(value) for value in found]


def unit_in_mm(names: Sequence[str], header: Path) -> float:
    """Millimetres of a header's unit of length, the same along all axes; 1 where there is none.

    Raises:
        DataError: for a unit that is no length, or several.
    """
    found = {_MM.get(name.strip().strip('"').lower()) for name in names} or {1.0}
    (factor, *others) = found
    if factor is None or others:
        raise DataError(f"has the units {', '.join(names)}; expected one length, such as mm", header, code="geometry")
    return factor


def affine_to_ras(columns: np.ndarray, origin: np.ndarray, to_ras: np.ndarray = LPS_TO_RAS) -> np.ndarray:
    """Affine (4, 4) to RAS+ of step vectors (3, 3), one per column, and the position of the first voxel."""
    affine = np.eye(4)
    affine[:3, :3] = to_ras @ columns
    affine[:3, 3] = to_ras @ origin
    return affine
