"""Faults of one NIfTI volume, which any reader of volumes must find: the floor of `brats_resnet50` and `ct_rate`."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from planted import Fault, bytes_of, fresh, header, inflated, noisy, revoxel, with_nan

ZERO = {f"srow_{axis}": np.zeros(4) for axis in "xyz"}
SINGULAR = {f"srow_{axis}": (2.0, 2.0, 0.0, 0.0) for axis in "xyz"}
SHEARED = {"srow_x": (2.0, 0.6, 0.0, 0.0), "srow_y": (0.0, 2.0, 0.0, 0.0), "srow_z": (0.0, 0.0, 2.0, 0.0)}
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def without_compression(path: Path) -> Path:
    return bytes_of(path, gzip.decompress)


def bomb(path: Path) -> Path:
    """A gzip file of 256 kB that holds a whole volume and 256 MiB of zeros behind it."""
    return bytes_of(path, lambda content: content + gzip.compress(bytes(1 << 20)) * 256)


def wrong_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 0xFF]) + content[-7:]


def beside_itself(path: Path) -> Path:
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    return path


def broken_link(path: Path) -> Path:
    fresh(path).symlink_to("nowhere.nii.gz")
    return path


def colour(path: Path) -> Path:
    affine, shape = nib.load(path).affine, nib.load(path).shape
    nib.save(nib.Nifti1Image(np.zeros(shape, RGB), affine), fresh(path))
    return path


def volume_faults(images: Callable[[Path], list[Path]], blank: str, constant: str) -> dict[str, Fault]:
    """The faults by name.

    Args:
        images: the volumes of different patients of a dataset.
        blank: code of a volume of zeros.
        constant: code of a volume of one value.
    """

    def one(change: Callable[[Path], Path]) -> Callable[[Path], Path]:
        return lambda folder: change(images(folder)[1])

    def voxels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], Path]:
        return one(lambda path: revoxel(path, change))

    def copies(folder: Path, change: Callable[[np.ndarray], np.ndarray] = lambda voxels: voxels) -> Path:
        """One case's voxels under the names of several others: some of them in the other set."""
        first, *others = images(folder)
        for other in others[:6]:
            content = first.read_bytes()
            fresh(other).write_bytes(content)
            revoxel(other, change)
        return first

    def hard_link(folder: Path) -> Path:
        first, second = images(folder)[:2]
        os.link(first, fresh(second))
        return second

    def symbolic_link(folder: Path) -> Path:
        first, second = images(folder)[:2]
        fresh(second).symlink_to(first)
        return second

    return {
        "truncated file": Fault(
            one(lambda path: bytes_of(path, lambda content: content[: len(content) // 2])), "unreadable", nnunet=True
        ),
        "empty file": Fault(one(lambda path: bytes_of(path, lambda _: b"")), "unreadable", nnunet=True),
        "text instead of an image": Fault(
            one(lambda path: bytes_of(path, lambda _: b"<html>404 not found</html>")), "unreadable", nnunet=True
        ),
        "not gzip although its name says so": Fault(one(without_compression), "unreadable", nnunet=True),
        "gzip with a wrong checksum": Fault(
            one(lambda path: bytes_of(path, wrong_checksum)), "unreadable", nnunet=True
        ),
        "voxels missing inside the gzip": Fault(
            one(lambda path: inflated(path, lambda content: content[:-1000])), "unreadable", nnunet=True
        ),
        "header claims 3 GiB": Fault(
            one(lambda path: header(path, dim=(3, 1024, 1024, 1536, 1, 1, 1, 1))), "too-large", nnunet=True
        ),
        "gzip bomb": Fault(one(bomb), "too-large"),
        "absurd shape": Fault(
            one(lambda path: header(path, dim=(3, 32767, 32767, 32767, 1, 1, 1, 1))), "too-large", nnunet=True
        ),
        "broken link": Fault(one(broken_link), "unreadable", nnunet=True),
        "link to another patient's file": Fault(symbolic_link, "same-file"),
        "hard link to another patient's file": Fault(hard_link, "same-file"),
        ".nii beside .nii.gz": Fault(one(beside_itself), "copies"),
        "NaN voxels": Fault(voxels(with_nan), "not-finite", nnunet=True),
        "complex numbers": Fault(voxels(lambda v: v.astype(np.complex64)), "format"),
        "colours (RGB)": Fault(one(colour), "format"),
        "4-D volume": Fault(voxels(lambda v: np.stack([v, v], axis=-1)), "format", nnunet=True),
        "2-D image": Fault(voxels(lambda v: v[..., 20]), "format", nnunet=True),
        "singular sform, no qform": Fault(one(lambda path: header(path, **SINGULAR, qform_code=0)), "geometry"),
        "sheared sform, no qform": Fault(one(lambda path: header(path, **SHEARED, qform_code=0)), "geometry"),
        "NaN in sform, no qform": Fault(one(lambda path: header(path, srow_x=(np.nan,) * 4, qform_code=0)), "geometry"),
        "sform of zeros, good qform": Fault(one(lambda path: header(path, **ZERO, qform_code=1)), "geometry"),
        "no orientation (no sform, no qform)": Fault(
            one(lambda path: header(path, sform_code=0, qform_code=0)), "geometry"
        ),
        "micron instead of mm": Fault(one(lambda path: header(path, xyzt_units=3)), "geometry"),
        "all zero": Fault(voxels(np.zeros_like), blank),
        "constant": Fault(voxels(lambda v: np.full_like(v, 100)), constant, prepared=True),
        "a case under several names": Fault(copies, "copies-across-sets", prepared=True),
        "a noisy copy": Fault(lambda folder: copies(folder, noisy), "near-copies-across-sets", prepared=True),
    }
