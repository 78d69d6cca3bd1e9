"""The files below a folder, each real one once."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ext.data.problems import Problem
from monai_ext.errors import DataError

_HEADERS = (".hdr", ".nhdr", ".mhd")
# Of files that hold the voxels of a header beside them.
_DATA_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")


@dataclass(frozen=True)
class RealFile:
    """A file that was found.

    Args:
        path: absolute path below the folder that was searched, links not resolved.
        stamp: size in bytes and modification time in ns.
    """

    path: str
    stamp: tuple[int, int]

    @property
    def name(self) -> str:
        """The file's name."""
        return os.path.basename(self.path)


@dataclass(frozen=True)
class Walk:
    """What `walk` found.

    Args:
        files: with one of the suffixes that were asked for.
        others: with another suffix.
        problems: errors for broken links that have one of the suffixes, and for folders that can't be listed; notes for
            other links that weren't followed.
        hidden: hidden files and folders, which are left out.
    """

    files: list[RealFile]
    others: list[RealFile]
    problems: list[Problem]
    hidden: list[str]


def walk(folder: str | Path, suffixes: Sequence[str], repeatable: Sequence[str] = (), title: str | None = None) -> Walk:
    """All files below a folder, each real one once, in natural order (``a_2`` before ``a_10``).

    Links are followed, but no folder is entered twice, so that links to parents and loops do no harm. Of several names
    of one file (links, symbolic or hard) one is used, if possible one that is no link. Hidden files and folders are
    left out.

    Args:
        folder: where to search.
        suffixes: of the files that are asked for, in lower case, such as ``.nii.gz``; those of the files may be in any.
        repeatable: suffixes of files that are found under each of their names, because a file is one position in a
            stack: storage that keeps equal contents once makes all its empty slices one file.
        title: of a progress bar, which only terminals show; None for none.

    Raises:
        DataError: for a folder that doesn't exist or can't be listed; one below it is among the problems.
    """
    from tqdm import tqdm

    root = os.path.abspath(folder)
    if not os.path.isdir(root):
        raise DataError("is not a folder", folder, "unreadable")
    with tqdm(desc=title, unit="file", disable=None if title else True) as progress:
        walker = _Walker(suffixes, repeatable, progress.update)
        walker.enter(root)
    start = len(root.rstrip(os.sep)) + 1
    found = sorted(walker.found, key=lambda file: [natural_key(part) for part in file.path[start:].split(os.sep)])
    wanted = [suffix_of(file.path, suffixes) is not None for file in found]
    return Walk(
        [file for file, is_wanted in zip(found, wanted, strict=True) if is_wanted],
        [file for file, is_wanted in zip(found, wanted, strict=True) if not is_wanted],
        walker.problems,
        walker.hidden,
    )


def entries(folder: str | Path) -> list[Path]:
    """Files, folders and links directly in a folder, hidden ones left out, in natural order.

    Args:
        folder: what to list.

    Raises:
        DataError: for a folder that doesn't exist or can't be listed.
    """
    return [Path(entry.path) for entry in _listed(folder) if not entry.name.startswith(".")]


def suffix_of(path: str | Path, suffixes: Sequence[str]) -> str | None:
    """The longest of the suffixes (in lower case) that a file's name ends in, in any case; None for none of them.

    Args:
        path: of the file; it need not exist.
        suffixes: such as ``(".nii", ".nii.gz")``.
    """
    name = os.path.basename(path).lower()
    return max((suffix for suffix in suffixes if name.endswith(suffix)), key=len, default=None)


def stem_of(path: str | Path, suffixes: Sequence[str]) -> str | None:
    """File name without its suffix; None when it has none of them. See `suffix_of`.

    Args:
        path: of the file.
        suffixes: such as ``(".nii", ".nii.gz")``.
    """
    suffix = suffix_of(path, suffixes)
    return None if suffix is None else os.path.basename(path)[: -len(suffix)]


def without_copies(files: Iterable[str | Path], suffixes: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Files of which there is no copy with another suffix, and a problem for each that has one.

    ``scan.nii`` beside ``scan.nii.gz`` may be one case or two versions of it: neither can be taken without asking.

    Args:
        files: in any order.
        suffixes: see `suffix_of`.
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in map(str, files):
        stem = stem_of(path, suffixes)
        # without such a suffix it is a copy of nothing, as the folder of a DICOM series
        groups[os.path.dirname(path), os.path.basename(path) if stem is None else stem].append(path)
    single = [members[0] for members in groups.values() if len(members) == 1]
    problems = [
        Problem(
            first,
            f"lies beside {' and '.join(map(os.path.basename, others))}: one case in several files; keep one",
            code="copies",
            files=tuple(others),
        )
        for first, *others in groups.values()
        if others
    ]
    return single, problems


def without_data_files(others: Iterable[str | Path], headers: Iterable[str | Path]) -> list[Path]:
    """Those files that aren't the voxels of a header beside them, as ``scan.raw`` is of ``scan.mhd``.

    Args:
        others: files that may be such.
        headers: volumes that may be headers.
    """
    known = {
        (os.path.dirname(path), os.path.basename(path).partition(".")[0])
        for path in headers
        if suffix_of(path, _HEADERS)
    }
    return [
        path
        for path in map(Path, others)
        if not (suffix_of(path, _DATA_SUFFIXES) and (str(path.parent), path.name.partition(".")[0]) in known)
    ]


def natural_key(name: str) -> tuple[list[int | str], str]:
    """Sorts numbers within names by value: ``a_2`` before ``a_10``; equal numbers by their text."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if position % 2 else part.lower() for position, part in enumerate(parts)], name


class _Walker:
    def __init__(self, suffixes: Sequence[str], repeatable: Sequence[str], progress: Callable[[], object]) -> None:
        self.suffixes, self.repeatable, self.progress = suffixes, repeatable, progress
        self.found: list[RealFile] = []
        self.problems: list[Problem] = []
        self.hidden: list[str] = []
        self.links: list[os.DirEntry[str]] = []
        self.folders: dict[tuple[int, int], str] = {}
        self.names: dict[tuple[int, int], str] = {}

    def enter(self, root: str) -> None:
        """Links come last: what lies in the folder itself keeps its own name."""
        self.root = root
        self._list(root)
        while self.links:
            links, self.links = sorted(self.links, key=lambda entry: natural_key(entry.path)), []
            for entry in links:
                self._take(entry)

    def _list(self, folder: str) -> None:
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                listed = _listed(current)
            except DataError as error:
                if current == self.root:
                    raise
                self.problems.append(Problem.of(error))
                continue
            if not self._is_new(current, self.folders, os.stat(current)):
                continue
            below = []
            for entry in listed:
                if entry.name.startswith("."):
                    self.hidden.append(entry.path)
                elif entry.is_symlink():
                    self.links.append(entry)
                elif entry.is_dir():
                    below.append(entry.path)
                else:
                    self._take(entry)
            waiting += reversed(below)

    def _take(self, entry: os.DirEntry[str]) -> None:
        try:
            status = os.stat(entry.path)
        except OSError as error:
            severity = "error" if suffix_of(entry.name, self.suffixes) else "note"
            message = f"can't be read ({error.strerror}); is it a broken link?"
            self.problems.append(Problem(entry.path, message, severity, "unreadable"))
            return
        if entry.is_dir():
            self._list(entry.path)
        elif not entry.is_file():
            self.problems.append(Problem(entry.path, "is a device or a pipe, not a file", "note", "not-used"))
        elif suffix_of(entry.name, self.repeatable) or self._is_new(entry.path, self.names, status):
            self.found.append(RealFile(entry.path, (status.st_size, status.st_mtime_ns)))
            self.progress()

    def _is_new(self, path: str, known: dict[tuple[int, int], str], status: os.stat_result) -> bool:
        first = known.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            message = f"is another name of {first}, which is read once"
            self.problems.append(Problem(path, message, "note", "same-file", (first,)))
        return first == path


def _listed(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: natural_key(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("is not a folder", folder, "unreadable") from None
    except OSError as error:
        raise DataError(f"can't be listed ({error.strerror})", folder, "unreadable") from error
