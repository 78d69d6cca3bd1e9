"""Trainings in processes forked from one that has imported everything: the imports take longer than the training.

Such a process is as real as one of a command line: it has an id, it dies of SIGKILL, nothing of it stays, and an error
ends it as the interpreter would, by ``sys.excepthook``. What a command line adds (its arguments, its exit codes, its
last sentence) is tested with true command lines, too.
"""

import contextlib
import multiprocessing
import os
import runpy
import sys
from pathlib import Path

PRELOADED = ["fork_server", "monai.bundle", "monai.engines", "monai.transforms", "mlflow", "monai_ext.handlers"]
PRELOADED += ["monai_ext.inferers", "matplotlib.backends.backend_agg", "torch._dynamo"]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


class Forked:
    """A process that runs ``python -m <words>``; as much of `subprocess.Popen` as these tests need.

    Args:
        words: module and arguments.
        folder: the process's current one; a pipe for its output is made there.
        before: called in the process first, such as a function of `failing_system`.
        environment: further variables of the process.
    """

    def __init__(self, words, folder, before=None, environment=None):
        self._pipe = Path(folder) / f".output_{os.urandom(4).hex()}"
        os.mkfifo(self._pipe)
        given = ([str(word) for word in words], str(folder), self._pipe, before, environment or {})
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid
        self.stdout = open(self._pipe, encoding="utf-8")  # noqa: SIM115 (until `wait`)

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self):
        self._process.join()
        self.stdout.close()
        self._pipe.unlink()
        return self._process.exitcode


def _run(words, folder, pipe, before, environment):
    os.environ.update(environment)
    output = os.open(pipe, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    os.chdir(folder)
    sys.argv = words
    if before is not None:
        before()
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except Exception as error:  # multiprocessing would print it and not ask the hook
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    left = [name for name in _thread_names() if "gloo" in name]
    assert not left, f"threads of the process group, which can abort the interpreter's end: {left}"


def _thread_names():
    for thread in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield (thread / "comm").read_text().strip()
