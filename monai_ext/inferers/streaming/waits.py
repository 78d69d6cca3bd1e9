"""Who is waited for while a prediction runs: the network, the reader or the writer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Waits:
    """Shares of the time since its beginning; its text is for a progress bar."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self.seconds = dict.fromkeys(("network", "reader", "writer"), 0.0)

    @contextmanager
    def on(self, who: str) -> Iterator[None]:
        """Count the time of a block as waiting for one of them."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[who] += time.perf_counter() - start

    def __str__(self) -> str:
        whole = max(time.perf_counter() - self._begun, 1e-9)
        return "waits for " + ", ".join(f"{who} {seconds / whole:.0%}" for who, seconds in self.seconds.items())
