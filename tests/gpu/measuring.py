"""What the GPU tests measure, on any device: a CPU has no figures for memory and synchronisations."""

from __future__ import annotations

import contextlib
import gc
import platform
import subprocess
import time
import warnings
from pathlib import Path

import torch
from ignite.engine import Events

COLUMNS = {
    "bundle": "{}",
    "check": "{}",
    "state": "{}",
    "seconds": "{:.1f}",
    "peak_mib": "{:.0f}",
    "difference": "{:.1e}",
    "waiting": "{:.0%}",
    "note": "{}",
}


class Measured:
    """Seconds and, on a GPU, the largest memory that tensors took, in MiB."""

    seconds = 0.0
    peak_mib: float | None = None

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        if self.device.type == "cuda":
            _empty(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.peak_mib = torch.cuda.max_memory_allocated(self.device) / 2**20
        self.seconds = time.perf_counter() - self._start

    @property
    def figures(self):
        """For the summary."""
        return {"seconds": self.seconds, "peak_mib": self.peak_mib}


@contextlib.contextmanager
def limited_memory(device, mib, batch):
    """Within, a GPU has ``mib`` MiB for torch; on a CPU a network in training runs out with ``batch`` samples."""
    if device.type == "cuda":
        _empty(device)
        total = torch.cuda.get_device_properties(device).total_memory / 2**20
        torch.cuda.set_per_process_memory_fraction(mib / total, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return

    def forward(module, args):
        own = module.training and next(module.parameters(), None) is not None
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        # the check of the training step counts shapes on "meta", before the first batch
        if own and any(each.device.type != "meta" and len(each) == batch for each in tensors):
            raise torch.OutOfMemoryError("a rehearsal on the CPU")

    handle = torch.nn.modules.module.register_module_forward_pre_hook(forward)
    try:
        yield
    finally:
        handle.remove()


def _empty(device):
    # what earlier runs left in reference cycles
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize(device)


class Synchronisations:
    """Counts how often the host waits for the GPU between the beginning and the end of training iterations."""

    def __init__(self, device):
        self.device, self.found = device, []

    def attach(self, trainer):
        """Register last: what other handlers do at an iteration's end is counted, too."""
        trainer.add_event_handler(Events.ITERATION_STARTED, self._begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _begin(self):
        self._caught = warnings.catch_warnings(record=True)
        self._warnings = self._caught.__enter__()
        warnings.simplefilter("always")
        self._mode("warn")

    def _end(self):
        self._mode("default")
        self._caught.__exit__(None, None, None)
        waits = [w for w in self._warnings if "synchronizing" in str(w.message)]
        self.found.append([f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in waits])

    def _mode(self, mode):
        if self.device.type == "cuda":
            torch.cuda.set_sync_debug_mode(mode)


def surroundings(name):
    """One line about the machine: GPU, driver, versions."""
    gpu = "no GPU: a rehearsal on the CPU"
    if name != "cpu":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            driver = "unknown"
        gpu = f"{torch.cuda.get_device_name(torch.device(name))}, driver {driver}"
    versions = {"torch": torch.__version__, "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    versions["Python"] = platform.python_version()
    return f"{gpu}; " + ", ".join(f"{name} {version}" for name, version in versions.items())


def table(rows):
    """A Markdown table of rows with the keys of `COLUMNS`, by bundle and check."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in sorted(rows, key=lambda row: (row["bundle"], row["check"])):
        cells = ["" if row.get(name) is None else form.format(row[name]) for name, form in COLUMNS.items()]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
