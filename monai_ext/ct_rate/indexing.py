"""The volumes of CT-RATE: files, labels and metadata joined by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ext.ct_rate.finding import HOW_TO_GET, SUFFIX, SplitPaths, find_files, find_split_paths
from monai_ext.ct_rate.labels import read_labels
from monai_ext.ct_rate.metadata import Metadata, read_metadata
from monai_ext.ct_rate.volume import Volume, order, parse_name
from monai_ext.data.left_out import refuse_or_leave_out
from monai_ext.data.problems import Problem
from monai_ext.data.walk import RealFile
from monai_ext.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

METADATA = ("required", "optional")


@dataclass(frozen=True)
class VolumeIndex:
    """The usable volumes, and the problems of the others.

    Args:
        volumes: usable volumes, sorted by split, patient, scan and reconstruction.
        problems: of tables, of volumes that are left out, and of files that aren't used (notes).
    """

    volumes: list[Volume]
    problems: list[Problem]


def volumes(
    dataset_dir: str | Path,
    train_dir: str | Path | None = None,
    valid_dir: str | Path | None = None,
    train_labels: str | Path | None = None,
    valid_labels: str | Path | None = None,
    train_metadata: str | Path | None = None,
    valid_metadata: str | Path | None = None,
    metadata: str = "required",
    on_bad_volume: str = "error",
) -> VolumeIndex:
    """Find CT-RATE's volumes and their labels; no volume is opened.

    Volumes are ``train/train_1/train_1_a/train_1_a_1.nii.gz`` (patient 1, scan a, reconstruction 1), or lie at any
    other depth under that name. A download of some volumes only is fine: rows without a file are ignored. Volumes in
    CT-RATE's own lists of those without a chest are left out: ``no_chest_{train,valid}.txt`` beside the metadata.

    Args:
        dataset_dir: CT-RATE's folder, or ``dataset`` in it.
        train_dir: folder of the training volumes; default ``train`` or ``train_fixed``, whichever is there.
        valid_dir: folder of the validation volumes; default ``valid`` or ``valid_fixed``.
        train_labels: default ``multi_abnormality_labels/train_predicted_labels.csv``.
        valid_labels: default ``multi_abnormality_labels/valid_predicted_labels.csv``.
        train_metadata: default ``metadata/train_metadata.csv``.
        valid_metadata: default ``metadata/validation_metadata.csv``.
        metadata: "required", or "optional" for volumes in Hounsfield units, or with slope and intercept in their
            headers (such as CT-RATE's ``train_fixed``).
        on_bad_volume: "error", or "skip" to leave out and report volumes with a problem.

    Raises:
        ConfigError: for another ``metadata`` or ``on_bad_volume``.
        DataError: for a table that can't be read; for the first problem, with the number of others; when no volume
            is left.
    """
    if metadata not in METADATA:
        raise ConfigError(f"volumes: metadata must be one of {list(METADATA)}, got {metadata!r}")
    places = find_split_paths(
        dataset_dir, train_dir, valid_dir, train_labels, valid_labels, train_metadata, valid_metadata
    )
    found = scan(places, metadata == "required")
    refuse_or_leave_out(found.problems, on_bad_volume, "on_bad_volume", "ct_rate_multilabel")
    if not found.volumes:
        raise DataError(f"has no usable volume ({len(found.problems)} problems); {HOW_TO_GET}", dataset_dir)
    return found


def scan(places: Sequence[SplitPaths], metadata_required: bool) -> VolumeIndex:
    """All volumes of the splits, and all problems.

    Args:
        places: see `find_split_paths`.
        metadata_required: whether a volume without a row in the metadata table is a problem.

    Raises:
        DataError: for a table that can't be read.
    """
    usable: list[Volume] = []
    problems: list[Problem] = []
    for place in places:
        labels, bad_labels = read_labels(place.labels)
        listed: dict[str, Metadata] = {}
        bad_metadata: list[Problem] = []
        if metadata_required or place.metadata.is_file():
            listed, bad_metadata = read_metadata(place.metadata)
        files, bad_files = find_files(place.volumes)
        problems += [*bad_labels, *bad_metadata, *bad_files]
        no_chest = _read_names(place.no_chest)
        for name in sorted(files, key=order):
            if name in no_chest:
                message = f"is not used: shows no chest ({place.no_chest})"
                problems.append(Problem(files[name].path, message, "note", "not-used"))
            elif wrong := _wrong(name, place, labels, listed if metadata_required else None):
                problems.append(Problem(files[name].path, wrong, code="labels"))
            else:
                usable.append(_volume(name, files[name], place.split, labels[name], listed.get(name)))
        logger.info("%s: %d volumes in %s, %d in %s", place.split, len(files), place.volumes, len(labels), place.labels)
    return VolumeIndex(usable, problems)


def _read_names(path: Path) -> set[str]:
    """Volume names of a list with one path or name per line; none when there is no such file."""
    if not path.is_file():
        return set()
    names = [Path(line.strip()).name for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return {name if name.endswith(SUFFIX) else f"{name}{SUFFIX}" for name in names}


def _wrong(
    name: str, place: SplitPaths, labels: dict[str, tuple[int, ...]], metadata: dict[str, Metadata] | None
) -> str:
    if parse_name(name) is None:
        return "is not named as CT-RATE's volumes are (train_1_a_1.nii.gz), so its patient isn't known"
    if name not in labels:
        return f"has no row (or no good one) in {place.labels}; it isn't known what it shows"
    if metadata is not None and name not in metadata:
        return f"has no row (or no good one) in {place.metadata}"
    return ""


def _volume(name: str, file: RealFile, split: str, labels: tuple[int, ...], metadata: Metadata | None) -> Volume:
    parts = parse_name(name)
    return Volume(
        name=name,
        split=split,
        patient=parts.patient if parts is not None else name,
        labels=labels,
        path=file.path,
        rescale=metadata.rescale if metadata is not None else None,
        spacing=metadata.spacing if metadata is not None else None,
        manufacturer=metadata.manufacturer if metadata is not None else "",
        scanner=metadata.scanner if metadata is not None else "",
        stamp=file.stamp,
    )
