"""Files of a labelled dataset that no subject uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_ext.brats.layouts import Layout, Subject
from monai_ext.brats.names import MODALITIES, PLAIN, SEG
from monai_ext.data.left_out import not_used
from monai_ext.data.problems import Problem
from monai_ext.data.volumes import volume_stem
from monai_ext.data.walk import entries


def unused_in(layout: Layout) -> list[Problem]:
    """A note for each folder with files that aren't read; a warning for volumes whose class nothing tells."""
    members: dict[Path, list[Subject]] = defaultdict(list)
    for subject in layout.subjects:
        members[subject.volumes.folder].append(subject)
    problems, unlisted = [], list(layout.unlisted)
    for folder, subjects in members.items():
        used = {path for subject in subjects for path in _used(subject)}
        left = [path for path in subjects[0].volumes.files if path not in used]
        if folder == layout.root:  # which holds tables and licences, too
            unlisted += [path for path in left if volume_stem(path) is not None]
        elif left := [path for path in left if not _describes(path, used)]:
            problems += not_used(left, _why_not, folder)
    if layout.table is None:
        for folder in {folder.parent for folder in members}:
            if loose := [path for path in entries(folder) if path.is_file() and volume_stem(path) is not None]:
                problems += not_used(loose, lambda _: "in no folder of a subject", folder)
    if unlisted:
        where = f"have no row in {layout.table.name}" if layout.table else "aren't in the folder of a class"
        message = f"{len(unlisted)} subjects or volumes {where}: {_names(unlisted)}"
        files, step = tuple(map(str, unlisted)), "tell their class, or remove them"
        problems.append(Problem(str(layout.table or layout.root), message, "warning", "not-used", files, step))
    return problems


def _describes(path: Path, volumes: Iterable[Path]) -> bool:
    """Whether a file is a header or sidecar of a volume, which has its name up to the suffix."""
    stems = {volume_stem(volume) for volume in volumes}
    return volume_stem(path) is None and any(path.name.startswith(f"{stem}.") for stem in stems)


def _used(subject: Subject) -> Iterable[Path]:
    """One file of each modality, the segmentation; a plain one where there is no other."""
    found = subject.volumes.of_case(subject.case)
    kinds = [kind for kind in MODALITIES if kind in found] or [PLAIN]
    return [found[kind][0] for kind in (*kinds, SEG) if kind in found]


def _why_not(path: Path) -> str:
    return "no volume that is read" if volume_stem(path) is None else "neither a modality nor the segmentation"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:8]) + (" …" if len(paths) > 8 else "")
