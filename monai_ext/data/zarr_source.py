"""Where a Zarr volume lies: a folder, a .zip or a URL, with the channel and timepoint chosen from it."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import ZipStore

from monai_ext.data.volumes_nifti import SUFFIXES as NIFTI
from monai_ext.data.volumes_nifti import open_nifti
from monai_ext.errors import DataError

_CHOICE = re.compile(r"(?:channel|timepoint)=\d+")
_ZIP = re.compile(r"(.+?\.(?:zip|ozx))(?:/+(.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class ZarrSource:
    """A volume's place, and what is chosen from it; as text ``scroll.zarr#channel=1,timepoint=0``.

    Attributes:
        place: path or URL of an array or group.
        channel: index from 0 of a channel; None where it isn't chosen.
        timepoint: index from 0 of a timepoint; None where it isn't chosen.
    """

    place: str
    channel: int | None = None
    timepoint: int | None = None

    @classmethod
    def of(cls, source: str | Path, channel: int | None = None, timepoint: int | None = None) -> ZarrSource:
        """From a path or URL, which may end in a choice of its own: that one counts.

        Args:
            source: path or URL.
            channel: of a source that names none.
            timepoint: of a source that names none.
        """
        place, mark, choice = str(source).rpartition("#")
        parts = choice.split(",")
        if not mark or not all(_CHOICE.fullmatch(part) for part in parts) or Path(source).exists():
            return cls(str(source), channel, timepoint)
        own = {name: int(index) for name, _, index in (part.partition("=") for part in parts)}
        return cls(place, own.get("channel", channel), own.get("timepoint", timepoint))

    def below(self, name: str) -> ZarrSource:
        """The node ``name`` of this group."""
        return ZarrSource(f"{self.place.rstrip('/')}/{name}", self.channel, self.timepoint)

    def __str__(self) -> str:
        chosen = {"channel": self.channel, "timepoint": self.timepoint}
        words = [f"{name}={index}" for name, index in chosen.items() if index is not None]
        return f"{self.place}#{','.join(words)}" if words else self.place

    @property
    def file(self) -> tuple[str, str] | None:
        """A local .zip and the path in it; None for folders and URLs."""
        found = _ZIP.fullmatch(self.place)
        return (found[1], (found[2] or "").strip("/")) if found and Path(found[1]).is_file() else None


def open_node(source: str | Path | ZarrSource) -> zarr.Array | zarr.Group:
    """The array or group at a path or URL, also in a .zip; a NIfTI file as an array, see `open_nifti`.

    Raises:
        DataError: naming ``source``, when there is none that can be read.
    """
    source = source if isinstance(source, ZarrSource) else ZarrSource.of(source)
    local = "://" not in source.place
    if local and source.place.lower().endswith(NIFTI):
        return open_nifti(source.place)
    try:
        # a relative one would be cut out of the middle of chunks' names, too
        place = str(Path(source.place).absolute()) if local else source.place
        node = _in_zip(*source.file) if source.file else zarr.open(place, mode="r")
    except FileNotFoundError:
        raise DataError(_not_found(source), source.place) from None
    except ImportError as error:
        raise DataError(f"can't be opened without another package ({error})", source.place) from error
    except Exception as error:  # each store and each wrong entry of metadata has its own
        raise DataError(
            f"is not a readable Zarr array or group ({type(error).__name__}: {error})", source.place
        ) from error
    return node


def _in_zip(file: str, path: str) -> Any:
    store = ZipStore(file, mode="r")
    try:
        return zarr.open(store, path=path, mode="r")
    except FileNotFoundError:
        # `zip -r scroll.zip scroll.zarr` puts a folder around it
        with zipfile.ZipFile(file) as archive:
            tops = {name.partition("/")[0] for name in archive.namelist()}
        if len(tops) != 1 or path.partition("/")[0] in tops:
            raise
        return zarr.open(store, path=f"{tops.pop()}/{path}".rstrip("/"), mode="r")


def _not_found(source: ZarrSource) -> str:
    place = source.place
    if ".n5" in place.lower() or (Path(place) / "attributes.json").is_file():
        return "is N5, which isn't read; convert it to Zarr, for instance by zarr.copy_all of zarr-python 2"
    if "://" in place and _ZIP.fullmatch(place):
        return "is a .zip at a URL, which isn't read in place; download it, or unpack it there"
    return "no Zarr array or group found; give the folder, .zip or URL with its metadata"
