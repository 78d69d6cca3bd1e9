"""The files of CT-RATE on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monai_ext.ct_rate.volume import SPLITS, SUFFIXES, volume_name
from monai_ext.data.problems import Problem
from monai_ext.errors import DataError

HOW_TO_GET = (
    "CT-RATE is at https://huggingface.co/datasets/ibrahimhamamci/CT-RATE (accept its terms there); to try "
    "things out, make demo data with `python -m monai_ext demo-data ct_rate_multilabel --output DIR` and pass "
    "`--dataset_dir DIR`"
)


@dataclass(frozen=True)
class SplitPaths:
    """Paths of one split's volumes and tables.

    Args:
        split: "train" or "valid".
        volumes: folder of the volumes.
        labels: CSV of the labels.
        metadata: CSV of the metadata.
    """

    split: str
    volumes: Path
    labels: Path
    metadata: Path

    @property
    def no_chest(self) -> Path:
        """CT-RATE's list of volumes that show no chest (brains, mostly), beside the metadata table."""
        return self.metadata.with_name(f"no_chest_{self.split}.txt")


def find_split_paths(
    dataset_dir: str | Path,
    train_dir: str | Path | None = None,
    valid_dir: str | Path | None = None,
    train_labels: str | Path | None = None,
    valid_labels: str | Path | None = None,
    train_metadata: str | Path | None = None,
    valid_metadata: str | Path | None = None,
) -> list[SplitPaths]:
    """Paths of the splits that exist.

    CT-RATE's version 1 is in ``train`` and ``valid``, its version 2 in ``train_fixed`` and ``valid_fixed``; their
    tables have the same names. Where a split lies there in both versions, it must be said which one counts.

    Args:
        dataset_dir: CT-RATE's folder, or ``dataset`` in it; paths that aren't given are those of CT-RATE below it.
        train_dir: see `monai_ext.ct_rate.volumes`.
        valid_dir: see `monai_ext.ct_rate.volumes`.
        train_labels: see `monai_ext.ct_rate.volumes`.
        valid_labels: see `monai_ext.ct_rate.volumes`.
        train_metadata: see `monai_ext.ct_rate.volumes`.
        valid_metadata: see `monai_ext.ct_rate.volumes`.

    Raises:
        DataError: when there is no folder of volumes, a given one doesn't exist, or a split lies there twice.
    """
    root = Path(dataset_dir)
    root = root / "dataset" if (root / "dataset").is_dir() else root
    tables, metadata = root / "multi_abnormality_labels", root / "metadata"
    candidates = [
        SplitPaths(
            "train",
            Path(train_dir or _volumes_below(root, "train")),
            Path(train_labels or tables / "train_predicted_labels.csv"),
            Path(train_metadata or metadata / "train_metadata.csv"),
        ),
        SplitPaths(
            "valid",
            Path(valid_dir or _volumes_below(root, "valid")),
            Path(valid_labels or tables / "valid_predicted_labels.csv"),
            Path(valid_metadata or metadata / "validation_metadata.csv"),
        ),
    ]
    for split, given in zip(SPLITS, (train_dir, valid_dir), strict=True):
        if given is not None and not Path(given).is_dir():
            raise DataError(f"is not a folder; give the volumes by --{split}_dir", given)
    found = [paths for paths in candidates if paths.volumes.is_dir()]
    if not found:
        raise DataError(
            f"has no folder dataset/train or dataset/valid (or train_fixed, ...); {HOW_TO_GET}", dataset_dir
        )
    return found


def _volumes_below(root: Path, split: str) -> Path:
    versions = [root / split, root / f"{split}_fixed"]
    there = [folder for folder in versions if folder.is_dir()]
    filled = [folder for folder in there if any(folder.iterdir())]
    if len(filled) > 1:
        raise DataError(
            f"holds {split} and {split}_fixed, CT-RATE's versions 1 and 2 of the same volumes; say which one counts by "
            f"`--{split}_dir {filled[1]}`, or remove the other (for predictions give the folder itself as `--inputs`)",
            root,
        )
    return [*filled, *there, *versions][0]


@dataclass(frozen=True)
class VolumeFile:
    """A file whose name ends in ``.nii.gz`` or ``.nii``, in any case.

    Args:
        path: absolute path.
        stamp: size in bytes and modification time in ns.
        identity: device and inode; links to one file have the same.
    """

    path: str
    stamp: tuple[int, int]
    identity: tuple[int, int]

    @property
    def name(self) -> str:
        """What CT-RATE's tables call VolumeName."""
        return volume_name(self.path)


def find_files(folder: str | Path) -> tuple[list[VolumeFile], list[Problem]]:
    """All volumes below a folder, at any depth, in one walk; and broken links as problems.

    Links are followed, but no folder twice, so that circular ones do no harm; hidden files are left out.

    Args:
        folder: where to search.

    Raises:
        DataError: for a folder that can't be listed.
    """
    from tqdm import tqdm

    files: list[VolumeFile] = []
    problems: list[Problem] = []
    for entry in tqdm(_walk(os.path.abspath(folder)), desc="finding volumes", unit="file", disable=None):
        try:
            status = entry.stat()
        except OSError as error:
            problems.append(Problem(entry.path, f"can't be read ({error.strerror}); is it a broken link?"))
            continue
        files.append(VolumeFile(entry.path, (status.st_size, status.st_mtime_ns), (status.st_dev, status.st_ino)))
    return files, problems


def _walk(folder: str) -> Iterator[os.DirEntry[str]]:
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        status = os.stat(current)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"can't be listed ({error.strerror})", current) from error
        for entry in listed:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry
