"""Downloads that go on where they were interrupted; a file gets its name when it is complete and right."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from monai_ext.errors import WeightsError
from monai_ext.io import TEMPORARY_SUFFIX
from monai_ext.system_errors import writing

_SECONDS = 60
_CHUNK = 1 << 20
_AGAIN = "give the same command again, it goes on from there"


def download(url: str, path: str | Path, check: Callable[[Path], None]) -> Path:
    """Download a file; what an interrupted call has received is kept beside it, and the next call asks for the rest.

    The server is asked for the rest of the same file (by its ``ETag``); from one that has another by now, or can't
    continue, all of it comes again. ``torch.hub`` and ``monai.apps.download_url`` begin anew each time.

    Args:
        url: ``http://`` or ``https://``.
        path: final name; its folder is created. A file that has it is replaced.
        check: raises `WeightsError` for a complete file that is not the right one; it is then removed.

    Returns:
        ``path``.

    Raises:
        WeightsError: when the server can't be reached or the connection ends early, for a file that ``check`` refuses,
            and while another process downloads it.
        WriteError: when the file can't be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}{TEMPORARY_SUFFIX}{path.suffix}")
    mark = partial.with_suffix(".etag")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(partial), open(partial, "ab") as file:
        if not _alone(file, partial):
            raise WeightsError(f"{path}: another process is downloading it; wait for it")
        try:
            _receive(url, path.name, file, mark)
        except WeightsError:
            file.flush()
            if not os.fstat(file.fileno()).st_size:
                partial.unlink()
                mark.unlink(missing_ok=True)
            raise
        os.fsync(file.fileno())
        try:
            check(partial)
        except WeightsError:
            partial.unlink()
            raise
        finally:
            mark.unlink(missing_ok=True)
        os.replace(partial, path)
    return path


def _alone(file: IO[bytes], partial: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Another process may have finished, and renamed this very file, since it was opened.
    return partial.exists() and os.path.samestat(partial.stat(), os.fstat(file.fileno()))


def _receive(url: str, name: str, file: IO[bytes], mark: Path) -> None:
    """Append what is missing; ``mark`` holds the ``ETag`` of the file that the present part comes from."""
    from tqdm import tqdm

    here = os.fstat(file.fileno()).st_size
    tag = mark.read_text(encoding="utf-8") if here and mark.is_file() else ""
    with _opened(url, here, tag) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            file.truncate(0)
            here = 0
            found = response.headers.get("ETag", "")
            mark.write_text("" if found.startswith("W/") else found, encoding="utf-8")
        length = response.headers.get("Content-Length")
        total = None if length is None else here + int(length)
        with tqdm(desc=name, total=total, initial=here, unit="B", unit_scale=True, disable=None) as bar:
            for chunk in _chunks(response, url):
                file.write(chunk)
                here += len(chunk)
                bar.update(len(chunk))
        file.flush()
    if total is not None and here != total:
        raise WeightsError(f"{url}: the connection ended after {here} of {total} bytes; {_AGAIN}")


def _opened(url: str, here: int, tag: str) -> Any:
    headers = {"Range": f"bytes={here}-", "If-Range": tag} if tag else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if tag and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it is here, but unchecked
            return _opened(url, 0, "")
        raise WeightsError(
            f"{url}: the server answers {error.code} ({error.reason}); is the file still there?"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise WeightsError(f"{url}: could not be reached ({reason}); try again, or get the file elsewhere") from error


def _chunks(response: Any, url: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(f"{url}: the connection was lost ({error!r}); {_AGAIN}") from error
        if not chunk:
            return
        yield chunk
