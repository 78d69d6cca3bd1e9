"""Blocks of work for `test_blocks`, which workers import; as a program, two of them at a time that wait."""

import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from monai_ext.blocks import run_blocks
from monai_ext.error_report import install_error_report
from monai_ext.places import Processes


def square(number):
    return number * number


PAGES = (64 << 20) // resource.getpagesize()
"""Of an array of 64 MiB."""


def faults_of_arrays(number):
    """Page faults of ten arrays of 64 MiB, one after the other, after a first one."""
    bytes_of_array = PAGES * resource.getpagesize()
    len(b"x" * bytes_of_array)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        len(b"x" * bytes_of_array)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
    """Pages of this process in memory; Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def process_of(number):
    return os.getpid()


def die(number, ends, number_of_signal=signal.SIGKILL):
    """The square, but block ``ends`` takes its process with it; those before take long enough to be with it."""
    if number == ends:
        time.sleep(0.1)
        os.kill(os.getpid(), number_of_signal)
    time.sleep(0.3 * max(0, ends - number))
    return number * number


def die_once(number, folder):
    """The square; a block that is the first to come ends its process."""
    try:
        (Path(folder) / "died").touch(exist_ok=False)
    except FileExistsError:
        return number * number
    os.kill(os.getpid(), signal.SIGKILL)


def stay_once(number, folder):
    """The square; block 0 ends its process once block 1 has begun, which stays for half a minute the first time."""
    begun = Path(folder) / "begun"
    if number == 1 and not begun.exists():
        begun.touch()
        time.sleep(30)
        (Path(folder) / "stayed").touch()
    if number == 0 and not (Path(folder) / "died").exists():
        while not begun.exists():
            time.sleep(0.01)
        die_once(number, folder)
    return number * number


def fail(number):
    if number == 3:
        raise ZeroDivisionError("no tissue")
    return number * number


def refuse():
    raise RuntimeError("no such device")


def wait_for_go(number, folder):
    (Path(folder) / f"{number}.begun").touch()
    while not (Path(folder) / "go").exists():
        with suppress(KeyboardInterrupt):  # as compiled code, which doesn't look for signals
            time.sleep(0.01)
    (Path(folder) / f"{number}.done").touch()


if __name__ == "__main__":
    from functools import partial

    install_error_report()
    for _ in run_blocks(partial(wait_for_go, folder=sys.argv[1]), range(9), Processes(2), "waiting"):
        pass
