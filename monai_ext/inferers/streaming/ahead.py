"""An iterator run by a thread, so that what it prepares is there when it is asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from queue import Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.1


class Ahead(Generic[Item]):
    """A generator run by a thread, at most ``count`` items ahead; its errors are raised here.

    Use it in a ``with`` statement, which ends the thread.
    """

    def __init__(self, items: Generator[Item], count: int) -> None:
        self._items = items
        self._queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(count)
        self._stopped = Event()
        self._thread = Thread(target=self._fill, daemon=True)

    def __enter__(self) -> Iterator[Item]:
        self._thread.start()
        return self._given()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _given(self) -> Iterator[Item]:
        while True:
            more, item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]

    def _fill(self) -> None:
        try:
            with closing(self._items):
                for item in self._items:
                    if not self._put((True, item)):
                        return
            self._put((False, None))
        except BaseException as error:
            self._put((False, error))

    def _put(self, entry: tuple[bool, Item | BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
                return True
            except Full:
                continue
        return False
