"""One sentence as the last line on standard error, and an exit code for the kind of failure."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType

from monai_ext import errors
from monai_ext.errors import IncompleteError, UserError
from monai_ext.system_errors import explained, read_back

WRONG_INPUT = 2
FAILED = 1
DEBUG_VARIABLE = "MONAI_EXT_DEBUG"

# MONAI's message where a component of a config refuses its arguments.
_UNMADE = re.compile(r"Failed to instantiate component '(?P<component>[\w.]+)' with keywords: (?P<arguments>.*)")

# A loader process hands on its error as the text of a traceback, innermost error first.
_IN_A_LOADER = re.compile(r"^Caught \w+ in DataLoader worker")
_TOLD_ERROR = re.compile(
    r"^([A-Za-z_][\w.]*): (.*?)(?=\n\n(?:The above exception|During handling)|\Z)", re.DOTALL | re.MULTILINE
)

# For log files only: what is printed is one sentence. Not below `monai_ext`, whose loggers a logging.conf resets.
TRACEBACKS = logging.getLogger("monai_ext_tracebacks")
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
    innermost error that a user can cause, else of the innermost of the system (rights, a full disk), else of the root.
    """
    # A process pool appends the text of the worker's traceback as a cause of the error.
    links = [link for link in chain(error) if type(link).__name__ != "_RemoteTraceback"]
    root = links[-1]
    # Names and messages of the errors in a loader process, innermost first.
    in_loader = _TOLD_ERROR.findall(str(root)) if _IN_A_LOADER.match(str(root)) else []
    innermost = [*map(_rebuilt, in_loader), *reversed(links)]
    for link in innermost:
        if isinstance(link, UserError):
            return _one_line(str(link)), WRONG_INPUT
        if isinstance(link, IncompleteError):
            return _one_line(str(link)), FAILED
    for link in innermost:
        if isinstance(link, OSError) and (reason := explained(link)) is not None:
            return _one_line(f"{link.filename or 'a file'}: {reason}"), WRONG_INPUT
    if isinstance(root, (TypeError, ValueError)) and len(links) > 1 and (made := _UNMADE.match(str(links[-2]))):
        refused = f"{made['component']}({made['arguments']}): {_one_line(str(root))}"
        return f"{refused}; change these arguments in the config", WRONG_INPUT
    name, message = in_loader[0] if in_loader else (type(root).__name__, str(root))
    sentence = f"{name}: {_one_line(message) or 'no message'}"
    where = traceback.extract_tb(root.__traceback__)
    if in_loader:
        sentence += " (in a loader process)"
    elif where:
        sentence += f" (in {where[-1].name}, line {where[-1].lineno} of {os.path.basename(where[-1].filename)})"
    sentence += "".join(f", {_one_line(note)}" for note in getattr(root, "__notes__", ()))
    if not debugging():
        sentence += f"; set {DEBUG_VARIABLE}=1 for the traceback"
    return sentence, FAILED


def _rebuilt(told: tuple[str, str]) -> BaseException | None:
    """An error of a loader process, if it is ours or the system's."""
    name, message = told
    kind = getattr(errors, name.removeprefix("monai_ext.errors."), None)
    if isinstance(kind, type) and issubclass(kind, (UserError, IncompleteError)):
        return kind(message)
    return read_back(message)


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
    threading.excepthook = _thread_excepthook
    if not debugging():
        # Ignite's engines announce the error twice before, with the traceback of a loader process.
        logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)


def _thread_excepthook(arguments: threading.ExceptHookArgs) -> None:
    """A disk that is full for a writing thread (TensorBoard's) is full for the run, which says so itself."""
    error = arguments.exc_value
    sentence, code = describe(error) if error is not None else ("", FAILED)
    if code != WRONG_INPUT or debugging():
        threading.__excepthook__(arguments)
        return
    TRACEBACKS.error("%s", sentence, exc_info=error)
    print(f"in a thread: {sentence}", file=sys.stderr, flush=True)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(130)
    # The sentence is the last line, whatever still fails with the run.
    threading.excepthook = lambda arguments: None
    # Only SystemExit from the hook lets the interpreter end with our code and still run its exit handlers.
    raise SystemExit(report(error))
