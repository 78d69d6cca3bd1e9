"""Compressed NIfTI files in a form of which parts can be read."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

from monai_ext.data.reading import reading
from monai_ext.data.stamps import stamp_of
from monai_ext.io import atomic_path


def unpacked(place: str, folder: str | Path) -> str:
    """A ``.nii.gz`` as ``.nii`` in ``folder``, written once; any other place as it is.

    Args:
        place: path or URL.
        folder: gets a file by the name of the compressed one, and a hash of its path, size and time.

    Raises:
        DataError: naming the file that is missing or damaged.
        WriteError: when ``folder`` can't be written.
    """
    if "://" in place or not place.lower().endswith(".nii.gz"):
        return place
    path = Path(place)
    with reading(path):
        size, time = stamp_of([path])
        stamp = hashlib.sha256(f"{path.absolute()} {size} {time}".encode()).hexdigest()[:12]
        target = Path(folder).absolute() / f"{path.name[:-7]}-{stamp}.nii"
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary, gzip.open(path) as packed, open(temporary, "wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    return str(target)
