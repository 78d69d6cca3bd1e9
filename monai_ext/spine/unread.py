"""Files of a folder that aren't read: what they are, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from monai_ext.data.left_out import not_used
from monai_ext.data.problems import Problem
from monai_ext.data.walk import suffix_of
from monai_ext.spine.dicom import may_be_dicom

# A file that may hold an image, which a person may miss → what to do.
_IMAGES = {
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".lzma", ".lz4", ".zst", ".7z", ".rar", ".iso"),
        "packed; unpack it if it holds images",
    ),
    **dict.fromkeys((".img", ".raw", ".zraw", ".rec"), "voxels without the header that belongs beside them"),
    **dict.fromkeys(
        (".bmp", ".gif", ".webp", ".jp2", ".j2k", ".jpf", ".jxl", ".jls", ".heic", ".avif", ".pgm", ".ppm", ".tga"),
        "an image that isn't read; convert it to PNG",
    ),
    **dict.fromkeys(
        (".npy", ".npz", ".mat", ".h5", ".hdf5", ".mnc", ".par", ".vtk", ".head", ".brik"),
        "a format that isn't read; convert it to NIfTI if it holds an image",
    ),
}


def broken_links(problems: Iterable[Problem]) -> list[Problem]:
    """Problems of `monai_ext.data.walk.walk`, with errors instead of notes for what may be a DICOM file: the series
    would lack a slice.

    Args:
        problems: of the walk.
    """
    return [
        replace(one, severity="error") if one.code == "unreadable" and may_be_dicom(one.path) else one
        for one in problems
    ]


def unread(files: Iterable[str | Path], hidden: Iterable[str | Path], root: str | Path) -> list[Problem]:
    """Warnings about files that may hold images, and notes on all others.

    Args:
        files: that aren't read.
        hidden: hidden files and folders.
        root: folder in which they are.
    """

    def reason(path: Path) -> str:
        return _IMAGES.get(suffix_of(path, tuple(_IMAGES)) or "", "no image that is read")

    found = not_used(files, reason, root)
    images = [replace(one, severity="warning", code="format") for one in found if _may_be_images(one)]
    others = [one for one in found if not _may_be_images(one)]
    return [*images, *others, *not_used(hidden, lambda _: "hidden", root)]


def _may_be_images(note: Problem) -> bool:
    return suffix_of(note.files[0], tuple(_IMAGES)) is not None
