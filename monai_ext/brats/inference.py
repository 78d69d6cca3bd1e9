"""Cases to predict: a dataset, folders of volumes, or single files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from monai_ext.brats.layouts import Layout, NoClasses, data_root, find_layout, is_class_table, volumes_in
from monai_ext.brats.names import MODALITIES, OTHER, PLAIN, SEG, Volumes, channels_of, name_of
from monai_ext.brats.subjects import channel_files, find_subjects, item_of
from monai_ext.data.case_names import distinct_cases
from monai_ext.data.left_out import Found, log_left_out, not_used
from monai_ext.data.problems import Problem
from monai_ext.data.volumes import SUFFIXES, volume_stem
from monai_ext.data.walk import entries, walk, without_data_files
from monai_ext.errors import DataError


def inference_items(inputs: str | Path | Sequence[str | Path], modality: str = "flair") -> Found[dict[str, Any]]:
    """Cases to predict, each file once; several volumes of one case in a folder are one case.

    A volume whose name says another modality or a segmentation is never taken for ``modality``. A case without a volume
    of ``modality`` is left out, as long as others remain; it stands in ``left_out`` with all files that aren't used.

    Args:
        inputs: a dataset as for `find_subjects` (labels kept), a folder of volumes or of subject folders, one volume,
            or a list of these.
        modality: see `find_subjects`.

    Raises:
        ConfigError: for an unknown modality.
        DataError: when nothing is found; for two files with the same case name; for a volume whose name doesn't say
            what it shows, beside others whose names do.
    """
    channels = channels_of(modality)
    items: list[dict[str, Any]] = []
    seen: set[tuple[int, int]] = set()
    left_out: list[DataError] = []
    entered = [Path(entry) for entry in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    for found in _found(entered, modality, left_out):
        for item in [found] if isinstance(found, dict) else _cases(found, channels, left_out):
            if (file := _file(channel_files(item)[0])) in seen:
                continue
            seen.add(file)
            items.append(item)
    if not items and left_out:
        raise left_out[0]
    if not items:
        raise DataError(f"no volume ({', '.join(SUFFIXES)}) of modality {modality!r} found in {inputs}")
    items = sorted(distinct_cases(items), key=itemgetter("case"))
    unused = [Problem.of(error, severity="warning") for error in left_out]
    for folder in dict.fromkeys(entry for entry in entered if entry.is_dir()):
        unused += _unused_below(folder, [path for item in items for path in channel_files(item)], channels)
    log_left_out(unused)
    return Found(items, unused)


def _unused_below(folder: Path, used: Sequence[str], channels: Sequence[str]) -> list[Problem]:
    """Notes on the files of a folder that no case uses; tables that belong to the data aren't among them."""

    def reason(path: Path) -> str:
        stem = volume_stem(path)
        kind = name_of(stem).kind if stem is not None else None
        if kind is None:
            return "no volume that is read"
        return f"shows {kind}, not {', '.join(channels)}" if kind not in (*channels, PLAIN) else "of no case found"

    real = {_file(path) for path in used}
    below = walk(folder, SUFFIXES)
    files = [file.path for file in below.files]
    files += map(str, without_data_files((file.path for file in below.others), files))
    return [
        *below.problems,
        *not_used(
            (path for path in files if _file(path) not in real and not is_class_table(Path(path))), reason, folder
        ),
    ]


def _file(path: str) -> tuple[int, int]:
    """What all names of one file have in common, hard links included, as in `walk`."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _found(inputs: Sequence[Path], modality: str, left_out: list[DataError]) -> Iterator[Volumes | dict[str, Any]]:
    """The volumes of each folder, or the items of a labelled dataset; files that are given by name come last."""
    given: dict[Path, list[Path]] = defaultdict(list)
    for path in {os.path.realpath(path): path for path in inputs}.values():
        if path.is_file():
            if volume_stem(path) is None:
                raise DataError(f"is not a volume this program reads; expected one of {', '.join(SUFFIXES)}", path)
            given[path.parent].append(path)
        elif not path.is_dir():
            raise DataError("no such file or folder", path)
        elif (layout := _labelled(path)) is not None:
            table = layout.table.name if layout.table else "the class folders"
            left_out += [DataError(f"is not in {table}; pass it as a further input", one) for one in layout.unlisted]
            yield from find_subjects(path, modality)
        else:
            root = data_root(path)
            for folder in (root, *(entry for entry in entries(root) if entry.is_dir())):
                volumes = volumes_in(folder)
                _refuse_unknown(volumes, folder.name)
                yield volumes
    for folder, files in given.items():
        volumes = Volumes(folder, files)
        _refuse_unknown(volumes)
        yield volumes


def _labelled(path: Path) -> Layout | None:
    try:
        return find_layout(path)
    except NoClasses:
        return None


def _refuse_unknown(volumes: Volumes, subject: str = "") -> None:
    """Raise for a volume that may be a further image of a case whose other images have names that say what they are.

    Args:
        volumes: of one folder.
        subject: the folder's name: a volume whose name goes on from there with a word belongs to that subject.

    Raises:
        DataError: naming it.
    """
    said = [path for kinds in volumes.named.values() for kind in (*MODALITIES, SEG) for path in kinds.get(kind, [])]
    for case, kinds in volumes.named.items():
        more = bool(subject) and re.match(rf"{re.escape(subject)}[_-][a-z]", case, re.IGNORECASE)
        # BIDS has a fixed name for each sequence: another one is another one, not a spelling of ours
        other = [] if case.lower().startswith("sub-") else kinds.get(OTHER, [])
        if unknown := [*(kinds.get(PLAIN, []) if said or more else []), *other]:
            beside = f", as that of {said[0].name} beside it does" if said else ""
            raise DataError(
                f"its name doesn't end in one of {', '.join(MODALITIES)} or seg{beside}; rename it to what it shows "
                "(t1ce for T1 with contrast), or move it elsewhere",
                unknown[0],
            )


def _cases(volumes: Volumes, channels: Sequence[str], left_out: list[DataError]) -> Iterator[dict[str, Any]]:
    for case, kinds in volumes.named.items():
        missing = [channel for channel in channels if channel not in kinds]
        if missing and not (PLAIN in kinds and len(channels) == 1):
            path = next(path for paths in kinds.values() for path in paths)
            names = ", ".join(path.name for paths in kinds.values() for path in paths)
            hint = f"modality 'all' needs the folder with {', '.join(channels)}"
            if len(channels) == 1:
                hint = f"the network takes {missing[0]}; choose another by --modality, if it was trained on that"
            left_out.append(DataError(f"case {case!r} has no {missing[0]} volume but {names}; {hint}", path.parent))
            continue
        yield item_of(case, volumes.choose(case, channels))
