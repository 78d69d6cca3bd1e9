"""The folder of a prediction, on a file system or in an object store: files appear in it whole, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError, DataError, WriteError
from monai_ext.io import TEMPORARY_SUFFIX, read_json, sweep_partial, write_json
from monai_ext.system_errors import writing

_URL = re.compile("([a-z][a-z0-9+.-]*):/", re.IGNORECASE)
# They put a file in one step, and only where there is none if asked to. Others (SFTP, SMB, WebDAV) show parts of files.
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")


class OutputFolder(ABC):
    """Files by their keys, such as ``ledger/settings.json``. Its text is the path or URL, for messages."""

    @staticmethod
    def of(output: str | Path | OutputFolder) -> OutputFolder:
        """The folder at a path or URL.

        Raises:
            ConfigError: for a URL of anything but an object store, or whose package isn't installed.
        """
        if isinstance(output, OutputFolder):
            return output
        protocol = _URL.match(str(output))
        if protocol and "://" not in str(output):
            raise ConfigError(f"{output}: a URL as a Path has lost a slash; give it as text")
        return ObjectFolder(str(output), protocol[1].lower()) if protocol else LocalFolder(output)

    @abstractmethod
    def node(self, key: str) -> Any:
        """The place of a Zarr group or array, for the functions of zarr."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is this file."""

    @abstractmethod
    def names(self, key: str) -> list[str]:
        """Names of the files in a folder within; none where it isn't there."""

    @abstractmethod
    def read(self, key: str) -> Any:
        """Content of a JSON file; raises `DataError` naming it when it is missing or damaged."""

    @abstractmethod
    def write(self, key: str, content: Any) -> None:
        """Write a JSON file in one step; raises `WriteError`."""

    @abstractmethod
    def write_once(self, key: str, content: Any) -> None:
        """The same where there is none; of several processes the first one's content stays."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file, where it is there."""

    @abstractmethod
    def flush(self, key: str) -> None:
        """Wait until a file is safe."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove unfinished files of killed writers, while nobody writes."""

    @abstractmethod
    def alone(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Whether nobody else does what this process is going to do, or it would do no harm."""


class LocalFolder(OutputFolder):
    """A folder of a file system that all processes share."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()

    def __str__(self) -> str:
        return str(self.path)

    def node(self, key: str) -> Path:
        return self.path / key

    def exists(self, key: str) -> bool:
        return (self.path / key).is_file()

    def names(self, key: str) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self.path / key)]
        except FileNotFoundError:
            return []

    def read(self, key: str) -> Any:
        return read_json(self.path / key)

    def write(self, key: str, content: Any) -> None:
        write_json(self.path / key, content)

    def write_once(self, key: str, content: Any) -> None:
        file = self.path / key
        own = write_json(file.with_name(f".{file.stem}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}{file.suffix}"), content)
        try:
            with writing(file), contextlib.suppress(FileExistsError):
                os.link(own, file)
        finally:
            own.unlink()

    def remove(self, key: str) -> None:
        (self.path / key).unlink(missing_ok=True)

    def flush(self, key: str) -> None:
        handle = os.open(self.path / key, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def sweep(self) -> None:
        sweep_partial(self.path / "ledger")
        for left in self.path.glob("*.zarr/**/*.partial"):
            left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[bool]:
        """Whether this process holds the lock; it ends with its process, however that dies.

        Raises:
            WriteError: when the lock can't be written, or the file system has none.
        """
        alone = True
        with contextlib.ExitStack() as held:
            with writing(self.path / key):
                lock = held.enter_context(open(self.path / key, "a", encoding="utf-8"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    alone = False
            yield alone


class ObjectFolder(OutputFolder):
    """A prefix in an object store: an object appears in one step, and is safe when its writer has the answer.

    There are no locks. What they are for elsewhere, the coarser levels, several processes may do at once: each writes
    whole objects with the same bytes.
    """

    def __init__(self, url: str, protocol: str) -> None:
        if protocol not in _OBJECT_STORES:
            raise ConfigError(
                f"{url}: the output must be a folder, or in an object store ({', '.join(_OBJECT_STORES)}); elsewhere a "
                "file isn't written in one step, and a kill could leave a part of it; write to a folder, and copy it"
            )
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]
        from zarr.storage import FsspecStore

        # Other processes write, too.
        fresh = {"use_listings_cache": False}
        try:
            self._files, self._root = url_to_fs(url, **fresh)
            self._store = FsspecStore.from_url(url, storage_options=fresh)
        except ImportError as error:
            raise ConfigError(f"{url}: can't be written without another package ({error})") from error
        self.url = url.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def node(self, key: str) -> Any:
        # a store of its own: zarr makes groups of the folders above a node within a store
        return type(self._store)(self._store.fs, path=f"{self._store.path.rstrip('/')}/{key}")

    def exists(self, key: str) -> bool:
        with self._answer(key):
            return bool(self._files.isfile(self._path(key)))

    def names(self, key: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError), self._answer(key, FileNotFoundError):
            return [name.rpartition("/")[2] for name in self._files.ls(self._path(key), detail=False)]
        return []

    def read(self, key: str) -> Any:
        try:
            with self._answer(key, FileNotFoundError):
                content = self._files.cat_file(self._path(key))
            return json.loads(content)
        except FileNotFoundError:
            raise DataError("file not found", f"{self}/{key}") from None
        except ValueError as error:
            raise DataError(f"not valid JSON ({error})", f"{self}/{key}") from error

    def write(self, key: str, content: Any) -> None:
        self._put(key, content, "overwrite")

    def write_once(self, key: str, content: Any) -> None:
        with contextlib.suppress(FileExistsError):
            self._put(key, content, "create")
            self._put(key, content, "create")
            raise ConfigError(
                f"{self}: its store overwrites an object although it is asked not to, so that two predictions could be "
                "mixed; write to another store, or to a folder"
            )

    def remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._answer(key, FileNotFoundError):
            self._files.rm_file(self._path(key))

    def flush(self, key: str) -> None:
        """Nothing: the answer to a write says that it is safe."""

    def sweep(self) -> None:
        """Nothing: there are no parts of objects."""

    def alone(self, key: str) -> contextlib.AbstractContextManager[bool]:
        return contextlib.nullcontext(True)

    def _put(self, key: str, content: Any, mode: str) -> None:
        # the same bytes as in a local folder
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with self._answer(key, FileExistsError):
            self._files.pipe_file(self._path(key), text.encode(), mode=mode)

    @contextlib.contextmanager
    def _answer(self, key: str, *expected: type[Exception]) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store has its own
            if isinstance(error, expected):
                raise
            raise WriteError(
                f"{self}/{key}: the store doesn't serve it ({type(error).__name__}: {error}); look at address, rights "
                "and network, then start again: finished blocks are kept"
            ) from error

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"
