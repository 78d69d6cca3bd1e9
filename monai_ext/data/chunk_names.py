"""Names under which a store has an array's chunks, compared with those that its metadata gives."""

from __future__ import annotations

import re
from collections.abc import Sequence

import zarr
from zarr.core.sync import sync

from monai_ext.errors import DataError

# Names of chunks, or their first parts: v3 has c/0/0/0, v2 0.0.0 or 0/0/0.
_CHUNK_KEY = re.compile(r"c|(?:c[/.])?\d+(?:[/.]\d+)*")


def check_chunk_names(array: zarr.Array, where: str) -> None:
    """Refuse an array that has chunks under names which its metadata doesn't give: all of them would read as nothing.

    Only names directly below the array are looked at; of a server that lists nothing three chunks are asked for.
    """
    expected = array.metadata.encode_chunk_key((0,) * array.ndim)
    fits = re.compile(re.escape(expected.partition("/")[0]).replace("0", r"\d+"))
    refuse_misnamed(array, _names_below(array) or _names_tried(array), fits, where)


def refuse_misnamed(array: zarr.Array, names: Sequence[str], fits: re.Pattern[str], where: str) -> None:
    """Refuse names of chunks that don't fit.

    Raises:
        DataError: naming the first.
    """
    odd = next((name for name in names if _CHUNK_KEY.fullmatch(name) and not fits.fullmatch(name)), None)
    if odd is not None:
        setting = "chunk_key_encoding" if array.metadata.zarr_format == 3 else "dimension_separator"
        raise DataError(
            f"its metadata names its chunks like {array.metadata.encode_chunk_key((0,) * array.ndim)!r}, but there is "
            f"{odd!r}, which would be read as nothing; correct {setting} in its metadata",
            where,
        )


def _names_below(array: zarr.Array) -> list[str]:
    async def listed() -> list[str]:
        return [name async for name in array.store.list_dir(array.path)]

    if not array.store.supports_listing:
        return []
    try:
        return [name.rstrip("/").rpartition("/")[2] for name in sync(listed())]
    except Exception:  # forbidden, or not there at all: each store has its own words
        return []


def _names_tried(array: zarr.Array) -> list[str]:
    """A chunk that is there under another name than the array's, where none is under its own; looked for at the first,
    the middle and the last one.
    """
    counts = [-(-size // edge) for size, edge in zip(array.shape, array.shards or array.chunks, strict=True)]
    places = [tuple((count - 1) * part // 2 for count in counts) for part in (1, 0, 2)]
    own = [array.metadata.encode_chunk_key(place) for place in places]
    forms = [(start, mark) for mark in "/." for start in ("", f"c{mark}")]
    others = [start + mark.join(map(str, place)) for place in places for start, mark in forms]

    def there(name: str) -> bool:
        return sync(array.store.exists(f"{array.path}/{name}".lstrip("/")))

    try:
        if any(map(there, own)):
            return []
        return [next(name for name in others if name not in own and there(name))]
    except Exception:  # nothing there, or the store can't say: each has its own words
        return []
