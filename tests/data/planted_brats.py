"""Faults of `brats_resnet50`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from planted import Fault, inflated, latin, revoxel, twice_first
from planted_volumes import volume_faults


def first(folder: Path, ending: str) -> Path:
    return sorted(folder.rglob(f"*_{ending}.nii.gz"))[0]


def removed(folder: Path) -> Path:
    path = first(folder, "t1ce")
    path.unlink()
    return path.parent


def other_grid(folder: Path) -> Path:
    path = first(folder, "t1")
    return revoxel(path, lambda v: v, nib.load(path).affine @ np.diag([2, 1, 1, 1]))


def in_both_classes(folder: Path) -> Path:
    case = sorted(folder.rglob("HGG/*"))[0]
    return Path(shutil.copytree(case, case.parent.with_name("LGG") / case.name))


def one_class(folder: Path) -> None:
    shutil.rmtree(next(folder.rglob("LGG")))


def class_misspelt(folder: Path) -> Path:
    root = next(folder.rglob("LGG"))
    (root.parent / "LGC").mkdir()
    case = sorted(root.iterdir())[0]
    return case.rename(root.parent / "LGC" / case.name).parent


def empty_case(folder: Path) -> Path:
    case = next(folder.rglob("LGG")) / "Brats18_DEMO_900_1"
    case.mkdir()
    return case


def two_names(folder: Path) -> Path:
    path = first(folder, "flair")
    return Path(shutil.copyfile(path, path.with_name(path.name.replace("_flair", "_t2f"))))


def by_class(change: Callable[[Path, bool], object]) -> Callable[[Path], None]:
    """A fault of every file that tells its class."""

    def plant(folder: Path) -> None:
        for path in sorted(folder.rglob("*.nii.gz")):
            change(path, "/LGG/" in path.as_posix())

    return plant


def spaced(path: Path, low_grade: bool) -> None:
    if low_grade:
        revoxel(path, lambda v: v, nib.load(path).affine @ np.diag([1.2, 1.2, 1.2, 1]))


def scanned(path: Path, low_grade: bool) -> None:
    name = (b"GE Signa" if low_grade else b"Siemens Trio").ljust(80, b"\0")
    inflated(path, lambda content: content[:148] + name + content[228:])


def padded(path: Path, low_grade: bool) -> None:
    if low_grade:
        revoxel(path, lambda v: np.pad(v, ((0, 0), (0, 0), (0, 12))))


def unlike_patients(folder: Path) -> Path:
    """Two time points of each of twelve people, whose names no series has."""
    for number, case in enumerate(sorted(folder.rglob("*GG/*"))):
        name = f"P{number // 2:02d}_{number % 2 + 1}"
        for path in case.iterdir():
            path.rename(path.with_name(path.name.replace(case.name, name)))
        case.rename(case.with_name(name))
    return folder


def with_table(content: Callable[[list[str]], bytes], name: str = "patients.csv") -> Callable[[Path], Path]:
    """A table beside the class folders."""

    def plant(folder: Path) -> Path:
        root = next(folder.rglob("HGG")).parent
        path = root / name
        path.write_bytes(content([case.name for case in sorted(root.glob("*GG/*"))]))
        return path

    return plant


def patients(cases: list[str]) -> list[str]:
    return ["patient_id,patient", *(f"{case},{case[:15]}" for case in cases)]


def instead_of_folders(change: Callable[[list[str]], list[str]]) -> Callable[[Path], Path]:
    """All cases in one folder, and a table of their classes."""

    def plant(folder: Path) -> Path:
        root = next(folder.rglob("HGG")).parent
        lines = ["patient_id,class"]
        for case in sorted(root.glob("*GG/*")):
            lines.append(f"{case.name},{case.parent.name}")
            case.rename(root / case.name)
        for name in ("HGG", "LGG"):
            (root / name).rmdir()
        path = root / "classes.csv"
        path.write_text("\n".join(change(lines)) + "\n")
        return path

    return plant


def listed_only(folder: Path) -> Path:
    table = instead_of_folders(lambda lines: [*lines, "Brats18_DEMO_900_1,HGG"])(folder)
    return table.with_name("Brats18_DEMO_900_1")


def stray(folder: Path) -> Path:
    path = first(folder, "t1")
    return Path(shutil.copyfile(path, path.with_name(path.name.replace("_t1.", "_adc."))))


def flair(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*_flair.nii.gz"))


def constant(folder: Path) -> Path:
    """What the preparation refuses is told by the name of the case."""
    path = revoxel(flair(folder)[1], lambda v: np.full_like(v, 100))
    return Path(path.parent.name)


def of_folder(fault: Fault, code: str = "") -> Fault:
    """A fault whose finding names the folder of the case."""
    return replace(fault, plant=lambda folder: getattr(fault.plant(folder), "parent", None), code=code or fault.code)


ANY = volume_faults(flair, "blank", "constant-input")
FAULTS = {
    **ANY,
    "broken link": of_folder(ANY["broken link"], "unusable"),
    **{
        name: of_folder(ANY[name]) for name in ("link to another patient's file", "hard link to another patient's file")
    },
    "constant": Fault(constant, "not-prepared", prepared=True),
    "missing modality": Fault(removed, "unusable", nnunet=True),
    "modality on another grid": Fault(other_grid, "geometry", nnunet=True),
    "modality of nothing but zeros": Fault(lambda folder: revoxel(first(folder, "t2"), np.zeros_like), "blank"),
    "one modality under two names": Fault(two_names, "copies"),
    "unknown label in a segmentation": Fault(
        lambda folder: revoxel(first(folder, "seg"), lambda v: np.where(v == 2, 7, v)), "labels", nnunet=True
    ),
    "segmentation on another grid": Fault(
        lambda folder: revoxel(first(folder, "seg"), lambda v: v[:-1]), "geometry", nnunet=True
    ),
    "folder of a case without volumes": Fault(empty_case, "unusable", nnunet=True),
    "folder of a class misspelt": Fault(class_misspelt, "not-used"),
    "another sequence beside the modalities": Fault(stray, "not-used"),
    "subject in both classes": Fault(in_both_classes, "unusable"),
    "one class only": Fault(one_class, "few-cases", prepared=True),
    "time points that aren't grouped": Fault(unlike_patients, "patients"),
    "table of patients in Latin-1": Fault(with_table(lambda cases: latin(patients(cases))), "labels"),
    "table of patients with a column twice": Fault(
        with_table(lambda cases: "\n".join(twice_first(patients(cases))).encode()), "labels"
    ),
    "table of patients with an empty cell": Fault(
        with_table(lambda cases: "\n".join([*patients(cases)[:-1], f"{cases[-1]},"]).encode()), "labels"
    ),
    "table of classes with an unknown class": Fault(
        instead_of_folders(lambda lines: [*lines[:-1], lines[-1][:-3] + "MGG"]), "labels"
    ),
    "table of classes with a case twice": Fault(instead_of_folders(lambda lines: [*lines, lines[-1]]), "labels"),
    "table of classes lacks a case": Fault(instead_of_folders(lambda lines: lines[:-1]), "not-used"),
    "table of classes has a case without a folder": Fault(listed_only, "unusable", nnunet=True),
    "spacing tells the class": Fault(by_class(spaced), "shortcut", prepared=True),
    "scanner tells the class": Fault(by_class(scanned), "shortcut", prepared=True),
    "size of the image tells the class": Fault(by_class(padded), "shortcut", prepared=True),
}
