"""Deterministic preparation, computed once per case and cached on disk."""

from __future__ import annotations

import copy
import enum
import functools
import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import PersistentDataset
from monai.transforms import Compose, Transform
from monai.transforms.traits import RandomizableTrait

from monai_ext.blocks import WorkerLost, run_blocks
from monai_ext.errors import DataError
from monai_ext.io import atomic_path
from monai_ext.places import Place, processes_for
from monai_ext.system_errors import explained

logger = logging.getLogger(__name__)

PRELOAD = ("monai_ext.data.prepared", "monai_ext.transforms")


# No image depends on these, so they are no part of a cached file's name, and are never taken from it.
_OF_THE_LIST = ("patient", "manufacturer", "scanner")


class PreparedDataset(PersistentDataset):
    """MONAI's ``PersistentDataset`` with a key that changes with the data, whole files, and errors that name the case.

    Transforms up to the first random one (or the first ``cached`` ones) run once; their result is ``<case>-<hash>.pt``
    in the cache. The hash covers the item (with the size and time in its ``stamp``, so that a changed file is prepared
    anew), the settings of these transforms and MONAI's version; it is the same in every process. Several processes may
    share a cache.

    Differences to MONAI: a nested ``Compose`` is searched (MONAI takes it for random and caches
    nothing); the temporary file is beside the final one and replaces it in one step; a damaged cache file, by a
    flipped bit too, is recomputed with a warning; ``set_data`` doesn't delete the cache; an item comes out as plain
    tensors (contiguous, float32 for images), numbers and text, whether it was cached or not.

    Args:
        data: items with ``case`` and paths.
        transform: one transform or a list of them.
        cache_dir: folder of the cache; None prepares again each time.
        cached: number of transforms to cache, so that data sets with different ends share a cache; by default all in
            front of the first random one.

    Raises:
        DataError: at once, for a ``cache_dir`` that can't be used; on access, when a case can't be prepared, with its
            file and the root cause.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Sequence[Callable] | Callable,
        cache_dir: str | Path | None = None,
        cached: int | None = None,
    ) -> None:
        try:
            super().__init__(data, Compose(transform).flatten(), cache_dir)
        except OSError as error:
            reason = explained(error) or error
            raise DataError(f"can't be used as the cache of prepared volumes: {reason}", cache_dir) from error
        self.cached = self._first_random() if cached is None else min(cached, self._first_random())
        self.transform_hash = _digest(
            [monai.__version__, *map(plain_settings, self.transform.transforms[: self.cached])]
        )

    def set_data(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Replace the items; cached files stay.

        Args:
            data: new items, as in the constructor.
        """
        self.data = data

    def cache_file(self, index: int) -> Path | None:
        """Path of the cached item, which need not exist yet; None without a cache.

        Args:
            index: number of the item, from 0.
        """
        if self.cache_dir is None:
            return None
        item = {name: value for name, value in self.data[index].items() if name not in _OF_THE_LIST}
        case = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(item.get("case", "case")))[:80]
        return self.cache_dir / f"{case}-{_digest([item, self.transform_hash])[:32]}.pt"

    def prepare_item(self, index: int) -> dict[str, Any]:
        """The item after the deterministic transforms, from the cache where possible.

        Args:
            index: number of the item, from 0.

        Raises:
            DataError: when the case can't be prepared, with its file and the root cause.
        """  # noqa: DOC501 (`_data_error` makes a DataError)
        file = self.cache_file(index)
        if file is not None and file.is_file():
            try:
                return self._with_list_entries(_load(file), index)
            except Exception as error:  # whatever a damaged file makes torch raise, computing again is the cure
                logger.warning("cache file %s is damaged (%s); preparing the case again", file, type(error).__name__)
        item = self.data[index]
        try:
            prepared = _plain(self._pre_transform(copy.deepcopy(item)))
        except Exception as error:
            raise _data_error(error, item) from error
        if file is not None:
            with atomic_path(file) as temporary:
                torch.save(prepared, temporary)
        return prepared

    def _with_list_entries(self, prepared: dict[str, Any], index: int) -> dict[str, Any]:
        """What is cached, with what the list says now."""
        kept = {name: value for name, value in prepared.items() if name not in _OF_THE_LIST}
        return kept | {name: self.data[index][name] for name in _OF_THE_LIST if name in self.data[index]}

    def _transform(self, index: int) -> Any:
        return self._post_transform(self.prepare_item(index))

    def _pre_transform(self, item: Any) -> Any:
        return self.transform(item, end=self.cached, threading=True)

    def _post_transform(self, item: Any) -> Any:
        return self.transform(item, start=self.cached)

    def _first_random(self) -> int:
        first = self.transform.get_index_of_first(
            lambda t: isinstance(t, RandomizableTrait) or not isinstance(t, Transform)
        )
        return len(self.transform.transforms) if first is None else first


def prepare(dataset: PreparedDataset, workers: int | Place | None = None) -> int:
    """Fill the cache of ``dataset`` in parallel; a second call, also after a kill, computes only what is missing.

    Args:
        dataset: dataset with a ``cache_dir``.
        workers: processes (one thread each); default one per CPU, at most 8, or this one alone for a few small cases;
            0 or 1 works in this process. Or a place such as `monai_ext.places.Dask`.

    Returns:
        the number of cases that were computed now.

    Raises:
        DataError: at once, for a dataset without ``cache_dir``; at the end, listing every case that failed.
    """
    if dataset.cache_dir is None:
        raise DataError("prepare: the dataset has no cache_dir to fill")
    todo = [dataset.data[index] for index in range(len(dataset)) if not _is_cached(dataset, index)]
    place = processes_for(workers, len(todo), PRELOAD)
    work = functools.partial(_prepare_item, _with_data(dataset, []))
    errors = [error for _, error in run_blocks(work, todo, place, "preparing", failed=_failure) if error]
    if errors:
        listed = "\n".join(sorted(errors))
        raise DataError(f"{len(errors)} of {len(dataset)} cases could not be prepared:\n{listed}")
    return len(todo)


def _is_cached(dataset: PreparedDataset, index: int) -> bool:
    file = dataset.cache_file(index)
    return file is not None and file.is_file()


def _with_data(dataset: PreparedDataset, data: Sequence[Mapping[str, Any]]) -> PreparedDataset:
    other = copy.copy(dataset)
    other.set_data(data)
    return other


def _prepare_item(empty: PreparedDataset, item: Mapping[str, Any]) -> str | None:
    """Fill the cache with one item; ``empty`` has the transforms only, since it travels with each."""
    _with_data(empty, [item]).prepare_item(0)
    return None


def _failure(item: Mapping[str, Any], error: Exception) -> str:
    if isinstance(error, DataError | OSError):
        return str(error)
    if isinstance(error, WorkerLost):
        return f"{item.get('case')}: {error}"
    raise error


def plain_settings(value: Any) -> Any:
    """The settings of a transform as plain JSON, without anything that differs between processes (addresses, hashes).

    Objects become their class and attributes; functions their qualified name, closures and code not included.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return [type(value).__name__, value.name]
    if isinstance(value, Mapping):
        return {str(key): plain_settings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_settings(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain_settings(item) for item in value), key=str)
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.asarray(value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, np.generic | torch.dtype | torch.device | np.dtype | Path | bytes):
        return str(value)
    if isinstance(value, functools.partial):
        return plain_settings([value.func, value.args, value.keywords])
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return {type(value).__module__ + "." + type(value).__qualname__: plain_settings(getattr(value, "__dict__", {}))}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(plain_settings(value), sort_keys=True).encode()).hexdigest()


def _load(file: Path) -> dict[str, Any]:
    # torch.load doesn't verify the checksums that torch.save writes
    with zipfile.ZipFile(file) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("wrong checksum")
    return torch.load(file, weights_only=True)


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in item.items():
        if isinstance(value, np.ndarray | torch.Tensor):
            tensor = torch.as_tensor(value)
            tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
            # clone: a crop is a view, and saving a view would store the whole volume behind it
            plain[key] = tensor.clone(memory_format=torch.contiguous_format)
        elif isinstance(value, bool | int | float | str):
            plain[key] = value
    return plain


def _data_error(error: BaseException, item: Mapping[str, Any]) -> DataError:
    """The error of a case: MONAI wraps a failure once per transform; a user can act on the root cause."""
    root = error
    while not isinstance(root, DataError) and root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, DataError):
        return root
    image = item.get("image", item.get("case", "unknown case"))
    path = image[0] if isinstance(image, list | tuple) else image
    return DataError(f"could not be prepared ({type(root).__name__}: {root})", str(path))
