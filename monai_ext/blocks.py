"""Work in blocks (cases, volumes, chunks) on threads, processes or Dask; a dead worker loses its own block only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from operator import itemgetter
from typing import TypeVar

from monai_ext.places import Place

Block = TypeVar("Block")
Result = TypeVar("Result")


class WorkerLost(RuntimeError):
    """The worker of a block died (out of memory, a crash in a library, a kill), and the next one on it alone, too."""


def run_blocks(
    work: Callable[[Block], Result],
    blocks: Sequence[Block],
    place: Place,
    title: str,
    unit: str = "case",
    failed: Callable[[Block, Exception], Result] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Compute every block and show the progress.

    At most ``place.at_once`` blocks are submitted at a time, so that memory doesn't grow with their number and nothing
    begins any more after an interruption (Ctrl-C). When a worker dies, the blocks that were being computed are tried
    again at the end, one at a time, so that the one that ends its worker again is known.

    Args:
        work: computes one block. It is pickled for processes and clusters, as are blocks and results.
        blocks: any number, in the order in which to begin.
        place: threads, processes or a cluster, see `monai_ext.places`.
        title: title of the progress bar, which only terminals show.
        unit: name of one block in the bar and in errors.
        failed: returns the result of a block whose ``work`` raised, or which ended its worker (`WorkerLost`); it may
            raise, too. By default the first failure ends the run.

    Yields:
        number of a block and its result, as they come.

    Raises:
        Exception: any that ``work`` or ``failed`` raises, with the block in its notes.
        WorkerLost: when a block ended its worker twice and there is no ``failed``.
    """
    from tqdm import tqdm

    def result(number: int, future: Future[Result]) -> Result:
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, place.lost):
            error = WorkerLost(place.how_lost)
        try:
            if failed is None or not isinstance(error, Exception):
                raise error
            return failed(blocks[number], error)
        except Exception as final:
            final.add_note(f"in {unit} {number + 1} of {len(blocks)}: {str(blocks[number])[:300]}")
            raise

    suspects: list[int] = []
    with tqdm(total=len(blocks), desc=title, unit=unit, disable=None) as progress:
        for number, future in _computed(work, blocks, range(len(blocks)), place, place.at_once):
            if isinstance(future.exception(), place.lost):
                suspects.append(number)
            else:
                progress.update()
                yield number, result(number, future)
        for number, future in _computed(work, blocks, sorted(suspects), place, 1):
            progress.update()
            yield number, result(number, future)


def run_in_order(
    work: Callable[[Block], Result],
    blocks: Sequence[Block],
    place: Place,
    title: str,
    unit: str = "case",
    failed: Callable[[Block, Exception], Result] | None = None,
) -> list[Result]:
    """All results of `run_blocks`, in the order of the blocks."""
    numbered = sorted(run_blocks(work, blocks, place, title, unit, failed), key=itemgetter(0))
    return [result for _, result in numbered]


def _computed(
    work: Callable[[Block], Result], blocks: Sequence[Block], numbers: Iterable[int], place: Place, at_once: int
) -> Iterator[tuple[int, Future[Result]]]:
    """The future of each block when it is done. An executor that has lost a worker is replaced."""
    todo = iter(numbers)
    number = next(todo, None)
    while number is not None:
        executor = place.open()
        waiting: dict[Future[Result], int] = {}
        whole = True
        try:
            while waiting or (whole and number is not None):
                while whole and number is not None and len(waiting) < at_once:
                    try:
                        waiting[executor.submit(work, blocks[number])] = number
                        number = next(todo, None)
                    except BrokenExecutor:
                        whole = False
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    whole = whole and not isinstance(future.exception(), place.lost)
                    yield waiting.pop(future), future
        finally:
            for future in waiting:
                future.cancel()
            if whole:
                executor.shutdown()
            else:
                place.close_broken(executor)
