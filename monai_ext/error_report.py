"""One sentence as the last line on standard error, and an exit code for the kind of failure."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType

from monai_ext.errors import IncompleteError, UserError

WRONG_INPUT = 2
FAILED = 1
DEBUG_VARIABLE = "MONAI_EXT_DEBUG"

# MONAI's message where a component of a config refuses its arguments.
_UNMADE = re.compile(r"Failed to instantiate component '(?P<component>[\w.]+)' with keywords: (?P<arguments>.*)")

# For log files only: what is printed is one sentence.
TRACEBACKS = logging.getLogger("monai_ext.tracebacks")
TRACEBACKS.propagate = False
TRACEBACKS.addHandler(logging.NullHandler())


def debugging() -> bool:
    """Whether tracebacks were asked for, by ``--debug`` or ``MONAI_EXT_DEBUG=1``."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def describe(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code for an exception.

    MONAI wraps what a component raises in layers of "Failed to instantiate ..."; the sentence is the one of the
    innermost error that a user can cause or, failing that, of the root.
    """
    # A process pool appends the text of the worker's traceback as a cause of the error.
    links = [link for link in chain(error) if type(link).__name__ != "_RemoteTraceback"]
    for link in reversed(links):
        if isinstance(link, UserError):
            return _one_line(str(link)), WRONG_INPUT
        if isinstance(link, IncompleteError):
            return _one_line(str(link)), FAILED
    root = links[-1]
    if isinstance(root, (TypeError, ValueError)) and len(links) > 1 and (made := _UNMADE.match(str(links[-2]))):
        refused = f"{made['component']}({made['arguments']}): {_one_line(str(root))}"
        return f"{refused}; change these arguments in the config", WRONG_INPUT
    sentence = f"{type(root).__name__}: {_one_line(str(root)) or 'no message'}"
    where = traceback.extract_tb(root.__traceback__)
    if where:
        sentence += f" (in {where[-1].name}, line {where[-1].lineno} of {os.path.basename(where[-1].filename)})"
    sentence += "".join(f", {_one_line(note)}" for note in getattr(root, "__notes__", ()))
    if not debugging():
        sentence += f"; set {DEBUG_VARIABLE}=1 for the traceback"
    return sentence, FAILED


def _one_line(text: str) -> str:
    return " ".join(text.split())


def report(error: BaseException) -> int:
    """Print the sentence (after the traceback when debugging) and return the exit code."""
    sentence, code = describe(error)
    if debugging():
        traceback.print_exception(error)
    # The log file of a run always keeps the traceback (see LogFile): it is what a bug report needs.
    TRACEBACKS.error("%s", sentence, exc_info=error)
    sys.stdout.flush()
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return code


def install_error_report() -> None:
    """Report uncaught exceptions of this process in one sentence, ``python -m monai.bundle run`` included."""
    sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(130)
    # Only SystemExit from the hook lets the interpreter end with our code and still run its exit handlers.
    raise SystemExit(report(error))
