"""The files of CT-RATE on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monai_ext.ct_rate.volume import SPLITS
from monai_ext.data.left_out import not_used
from monai_ext.data.problems import Problem
from monai_ext.data.walk import RealFile, stem_of, walk
from monai_ext.errors import DataError

SUFFIX = ".nii.gz"
VOLUME_SUFFIXES = (SUFFIX, ".nii")
KINDS = " or ".join(VOLUME_SUFFIXES)
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


def volume_name(path: str | Path) -> str | None:
    """Name of a volume as in CT-RATE's tables, ``<stem>.nii.gz``, also for ``.nii`` and suffixes in other case.

    None for a file that is no volume.

    Args:
        path: of the file.
    """
    stem = stem_of(path, VOLUME_SUFFIXES)
    return None if stem is None else f"{stem}{SUFFIX}"


def find_files(folder: str | Path) -> tuple[dict[str, RealFile], list[Problem]]:
    """Name → file of all volumes below a folder (see `volume_name`), and a problem for each file that isn't used.

    Args:
        folder: where to search, see `monai_ext.data.walk.walk`.

    Raises:
        DataError: for a folder that can't be listed.
    """
    found = walk(folder, VOLUME_SUFFIXES, title="finding volumes")
    files: dict[str, RealFile] = {}
    copies: dict[str, Problem] = {}
    for file in found.files:
        name = str(volume_name(file.path))
        first = files.setdefault(name, file)
        if first is not file:
            message = f"has the name of {first.path}; remove one"
            copies[name] = Problem(file.path, message, code="copies", files=(first.path,))
    others = not_used((file.path for file in found.others), lambda _: f"no volume ({KINDS})", folder)
    problems = [*found.problems, *copies.values(), *others]
    return {name: file for name, file in files.items() if name not in copies}, problems
