"""Faults of `nuclei_vgg3d`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from odd_images import one_strip
from odd_volumes import deflated_zeros
from planted import Fault, bytes_of, fresh, in_latin, noisy, rows, twice_first, with_nan


def stacks(folder: Path, kind: str = "raw") -> list[Path]:
    return sorted(folder.rglob(kind))


def slices(stack: Path) -> list[Path]:
    return sorted(stack.glob("*.tif"))


def restack(stack: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Change the slices of a stack together."""
    files = slices(stack)
    volume = change(np.stack([tifffile.imread(file) for file in files]))
    for file, plane in zip(files, volume, strict=True):
        tifffile.imwrite(fresh(file), plane)
    return stack


def stack(change: Callable[[np.ndarray], np.ndarray], code: str, kind: str = "raw", **more: Any) -> Fault:
    return Fault(lambda folder: restack(stacks(folder, kind)[1], change), code, **more)


def image(change: Callable[[np.ndarray], np.ndarray], code: str, kind: str = "raw", **options: Any) -> Fault:
    """A fault of one slice, its third, which is written again."""

    def plant(folder: Path) -> Path:
        file = slices(stacks(folder, kind)[1])[2]
        pixels = change(tifffile.imread(file))
        tifffile.imwrite(fresh(file), pixels, **options)
        return file

    return Fault(plant, code)


def content(change: Callable[[bytes], bytes], code: str, **more: Any) -> Fault:
    return Fault(lambda folder: bytes_of(slices(stacks(folder)[1])[2], change), code, **more)


def removed(kind: str) -> Callable[[Path], Path]:
    def plant(folder: Path) -> Path:
        file = slices(stacks(folder, kind)[1])[3]
        file.unlink()
        return file.parent.parent

    return plant


def gap(folder: Path) -> Path:
    for kind in ("mask", "raw"):
        file = slices(stacks(folder, kind)[1])[3]
        file.unlink()
    return file.parent


def two_suffixes(folder: Path) -> Path:
    for kind in ("mask", "raw"):
        file = slices(stacks(folder, kind)[1])[3]
        shutil.copyfile(file, file.with_suffix(".tiff"))
    return file.parent


def broken_link(folder: Path) -> Path:
    file = fresh(slices(stacks(folder)[1])[2])
    file.symlink_to("nowhere.tif")
    return file


def stray(folder: Path) -> Path:
    file = stacks(folder)[1] / "slice_0001.jpg"
    file.write_bytes(b"")
    return file


def thin(folder: Path) -> Path:
    for kind in ("mask", "raw"):
        for file in slices(stacks(folder, kind)[1])[6:]:
            file.unlink()
    return file.parent


def no_slices(folder: Path) -> Path:
    for file in slices(stacks(folder)[1]):
        file.unlink()
    return file.parent


def no_mask(folder: Path) -> Path:
    shutil.rmtree(stacks(folder, "mask")[1])
    return stacks(folder)[1].parent / "mask"


def linked_sample(folder: Path) -> Path:
    first, second = (path.parent for path in stacks(folder)[:2])
    shutil.rmtree(second)
    second.symlink_to(first)
    return second


def same_number(folder: Path) -> Path:
    sample = stacks(folder)[1].parent
    return Path(shutil.copytree(sample, sample.with_name(str(int(sample.name))), copy_function=os.link))


def copies(folder: Path, change: Callable[[np.ndarray], np.ndarray] = lambda voxels: voxels) -> Path:
    """One nucleus under the names of several others: some of them in the other set."""
    first, *others = (path.parent for path in stacks(folder))
    for other in others[:6]:
        shutil.rmtree(other)
        shutil.copytree(first, other)
        restack(other / "raw", change)
    return first / "raw"


def all_as_camera(folder: Path) -> Path:
    """A 16-bit camera that uses few of its values."""
    for one in stacks(folder):
        restack(one, lambda v: (104 + v / np.iinfo(v.dtype).max * 271).astype(np.uint16))
    return one


def of_first_class(folder: Path) -> set[str]:
    lines = [line.split(",") for line in next(folder.rglob("classes.csv")).read_text().splitlines()[1:]]
    return {line[0] for line in lines if line[1] == "1"}


def larger_by_class(folder: Path) -> None:
    """One class in images with a wide black border."""
    chosen = of_first_class(folder)
    for path in [*stacks(folder), *stacks(folder, "mask")]:
        if path.parent.name in chosen:
            restack(path, lambda volume: np.pad(volume, ((0, 0), (30, 30), (30, 30))))


def longer_by_class(folder: Path) -> Path:
    """One class in files with something behind the image, as some microscopes write them."""
    chosen = of_first_class(folder)
    for path in stacks(folder):
        for file in slices(path) if path.parent.name in chosen else ():
            bytes_of(file, lambda content: content + bytes(16384))
    return Path("the size of the files alone")


def table(change: Callable[[list[str]], list[str]], code: str = "labels") -> Fault:
    return Fault(lambda folder: rows(folder, change), code)


def without_row(folder: Path) -> Path:
    rows(folder, lambda lines: lines[:-1])
    return stacks(folder)[-1].parent


def brightened(v: np.ndarray) -> np.ndarray:
    return np.clip(v.astype(float) * 4, 0, np.iinfo(v.dtype).max).astype(v.dtype)


BOMB = one_strip(32, 24, 8, deflated_zeros(256))
FAULTS = {
    "truncated file": content(lambda c: c[: len(c) // 2], "unreadable", nnunet=True),
    "empty file": content(lambda _: b"", "unreadable", nnunet=True),
    "text instead of an image": content(lambda _: b"<html>404 not found</html>", "unreadable", nnunet=True),
    "header claims 4 GB": content(lambda _: one_strip(65000, 65000), "too-large", nnunet=True),
    "deflate bomb": content(lambda _: BOMB, "unreadable"),
    "absurd shape": content(lambda _: one_strip((1 << 32) - 1, (1 << 32) - 1, 8), "too-large", nnunet=True),
    "broken link": Fault(broken_link, "unreadable", nnunet=True),
    "NaN voxels": stack(with_nan, "not-finite", nnunet=True),
    "complex numbers": image(lambda v: v.astype(np.complex64), "format"),
    "colours (RGB)": image(lambda v: np.stack([v] * 3, axis=-1), "format", photometric="rgb"),
    "colours (palette)": image(
        lambda v: np.zeros(v.shape, np.uint8), "format", photometric="palette", colormap=np.zeros((3, 256), "u2")
    ),
    "several images in one slice": image(lambda v: np.stack([v] * 2), "format", photometric="minisblack"),
    "slice of another type": image(lambda v: v.astype(np.float32), "unusable"),
    "slice of another size": image(lambda v: v[:-1], "unusable"),
    "gap in the numbers of the slices": Fault(gap, "gap"),
    "one slice as .tif and .tiff": Fault(two_suffixes, "copies"),
    "no slices": Fault(no_slices, "unusable", nnunet=True),
    "file of another kind": Fault(stray, "not-used"),
    "missing slice of a mask": Fault(removed("mask"), "unusable", nnunet=True),
    "missing slice of the image": Fault(removed("raw"), "unusable", nnunet=True),
    "missing mask": Fault(no_mask, "unusable", nnunet=True),
    "mask of another size": stack(lambda v: v[:, :-1], "unusable", "mask", nnunet=True),
    "mask with three values": stack(
        lambda v: np.where(np.indices(v.shape)[1] < 25, v, v // 2), "mask-values", "mask", nnunet=True
    ),
    "mask in JPEG": image(lambda v: v, "mask-format", "mask", compression="jpeg"),
    "empty mask": stack(np.zeros_like, "empty-mask", "mask"),
    "link to another sample": Fault(linked_sample, "copies"),
    "two samples of one number": Fault(same_number, "copies"),
    "all zero": stack(np.zeros_like, "constant-input", prepared=True),
    "constant": stack(lambda v: np.full_like(v, 100), "constant-input", prepared=True),
    "16-bit camera": Fault(all_as_camera, "narrow-input", prepared=True),
    "saturated": stack(brightened, "saturated-input", prepared=True),
    "six slices": Fault(thin, "mostly-padding", prepared=True),
    "a case under several names": Fault(copies, "copies-across-sets", prepared=True),
    "a noisy copy": Fault(lambda folder: copies(folder, noisy), "near-copies-across-sets", prepared=True),
    "sample without a row": Fault(without_row, "labels"),
    "row without a sample": table(lambda lines: [*lines, "999,1,Euchromatic"]),
    "sample with two rows": table(lambda lines: [*lines, lines[-1]]),
    "class that is no number": table(lambda lines: [lines[0], *(line.replace(",1,", ",x,") for line in lines[1:])]),
    "class with two names": table(lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",Other"]),
    "table with a column twice": table(twice_first),
    "table in Latin-1": Fault(in_latin, "labels"),
    "table lacks a column": table(lambda lines: [line.rpartition(",")[0] for line in lines]),
    "one class only": Fault(
        lambda folder: (
            rows(folder, lambda s: [s[0], *(f"{line.split(',')[0]},1,Euchromatic" for line in s[1:])]) and None
        ),
        "few-cases",
    ),
    "size of the image tells the class": Fault(larger_by_class, "shortcut", prepared=True),
    "size of the file alone tells the label": Fault(longer_by_class, "shortcut", prepared=True),
}
