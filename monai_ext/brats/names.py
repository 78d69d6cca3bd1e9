"""Names of files: which case a volume belongs to, and what it shows."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from monai_ext.data.volumes import volume_stem
from monai_ext.errors import ConfigError, DataError

CLASS_NAMES = ("LGG", "HGG")
MODALITIES = ("t1", "t1ce", "t2", "flair")
SEG, OTHER, PLAIN = "seg", "other", "plain"

# Last part of a name in lower case → what the volume shows. BraTS until 2021, BraTS from 2023 on, BIDS.
ENDINGS = {
    **{"t1": "t1", "t1ce": "t1ce", "t2": "t2", "flair": "flair"},
    **{"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair", "t1w": "t1"},
    **dict.fromkeys(("seg", "segm", "dseg", "segmentation", "mask", "label", "labels"), SEG),
    **dict.fromkeys(("t1gd", "t1post", "t1pre", "gd", "pre", "post", "pd", "pdw", "t2star", "t2starw", "adc"), OTHER),
    **dict.fromkeys(("dwi", "dti", "swi", "asl", "bold", "cbv", "ct", "pet"), OTHER),
    **dict.fromkeys(("unit1", "t1map", "t2map", "inplanet1", "inplanet2", "angio", "defacemask"), OTHER),
}
_NAME = re.compile(rf"(?P<case>.+)[_-](?P<ending>{'|'.join(ENDINGS)})", re.IGNORECASE)
_BIDS = re.compile(r"sub-[a-z0-9]+(_.+)?", re.IGNORECASE)


class Name(NamedTuple):
    """``case`` of a volume and its ``kind``: a modality, "seg", "other" (another sequence) or "plain" (not said)."""

    case: str
    kind: str


def channels_of(modality: str) -> tuple[str, ...]:
    """The modalities that are the channels of an image: one, or `MODALITIES` for "all".

    Raises:
        ConfigError: for an unknown modality.
    """
    if modality == "all":
        return MODALITIES
    if modality in MODALITIES:
        return (modality,)
    names = [*MODALITIES, "all"]
    near = difflib.get_close_matches(str(modality).lower(), names, 1, 0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"modality must be one of {names}, got {modality!r}{hint}")


def name_of(stem: str) -> Name:
    """Read the name of a volume, given without its suffix.

    ``<case>_<ending>`` and ``<case>-<ending>`` with one of `ENDINGS` in upper or lower case; in BIDS the case is
    ``sub-<label>[_ses-<label>]``, and T1w with an entity ``ce-<label>`` is "t1ce".
    """
    match = _NAME.fullmatch(stem)
    kind = ENDINGS[match["ending"].lower()] if match else PLAIN
    case = match["case"] if match else stem
    if not _BIDS.fullmatch(stem):
        return Name(case, kind)
    entities = case.split("_")
    if kind == "t1" and any(entity.lower().startswith("ce-") for entity in entities):
        kind = "t1ce"
    # Others, such as acq- and run-, tell apart images of one case. What is no entity belongs to the id.
    kept = [entity for entity in entities if "-" not in entity or entity.lower().startswith(("sub-", "ses-"))]
    case = "_".join(kept)
    return Name(case, OTHER if kind == PLAIN and case != stem else kind)


class Volumes:
    """Volumes of one folder by case.

    Args:
        folder: where they are.
        files: files of any kind; those that are no volumes are left aside.

    Attributes:
        named: case → kind → files; plain ones are under their whole stem.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.files = list(files)
        self.named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            if (stem := volume_stem(path)) is not None:
                name = name_of(stem)
                self.named[name.case][name.kind].append(path)
                self._stems[stem].append(path)

    def of_case(self, case: str) -> dict[str, list[Path]]:
        """Kind → files of a case; "plain" is the file with exactly its id for a name."""
        found = dict(self.named[case]) if case in self.named else {}
        found.pop(PLAIN, None)
        return {**found, PLAIN: self._stems[case]} if case in self._stems else found

    def choose(self, case: str, channels: Sequence[str]) -> list[Path]:
        """The file of each channel; for one channel the file with the id alone for a name, if no other is there.

        Raises:
            DataError: for a channel without a file, or with several.
        """
        found, chosen = self.of_case(case), []
        for channel in channels:
            files = found.get(channel) or (found.get(PLAIN, []) if len(channels) == 1 else [])
            if len(files) > 1:
                names = " and ".join(path.name for path in files)
                raise DataError(f"{names} both exist as {channel} of {case}; remove one", self.folder, "copies")
            if not files:
                # a folder of all cases has too many names to tell
                around = found.values() if found or len(self.named) > 4 else [self.files]
                names = ", ".join(sorted(path.name for paths in around for path in paths)[:8])
                there = f"there are {names}" if names else "there is no file of this case"
                raise DataError(f"the {channel} volume of {case} is missing ({there})", self.folder)
            chosen.append(files[0])
        return chosen
