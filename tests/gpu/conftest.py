"""The device of the GPU tests, and one table of all their figures at the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from measuring import surroundings, table

# Kills and launchers are tried with the trainings of the fault tests.
sys.path.append(str(Path(__file__).parents[1] / "faults"))

VARIABLE = "MONAI_EXT_GPU_TESTS_DEVICE"
SUMMARY = Path(__file__).parents[2] / "build" / "gpu-summary.md"


@pytest.fixture(scope="session")
def device():
    """The GPU, or the CPU in a rehearsal."""
    name = os.environ.get(VARIABLE, "cuda:0")
    if name != "cpu" and not torch.cuda.is_available():
        pytest.skip(f"torch finds no GPU here; {VARIABLE}=cpu rehearses these tests on the CPU")
    return torch.device(name)


@pytest.fixture
def figures(request, record_property):
    """Call it with the name of a check; fill what it returns with figures for the summary."""

    def begin(check):
        told = {"bundle": request.node.callspec.params["workspace"], "check": check}
        record_property("gpu", told)
        return told

    return begin


def pytest_terminal_summary(terminalreporter):
    rows = []
    for state in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(state, []):
            if "tests/gpu/" in report.nodeid and (report.when == "call" or state != "passed"):
                rows += _rows(report, state)
    if not any(row["state"] != "skipped" for row in rows):
        return
    text = "\n".join([surroundings(os.environ.get(VARIABLE, "cuda:0")), "", *table(rows)]) + "\n"
    SUMMARY.parent.mkdir(exist_ok=True)
    SUMMARY.write_text(text, encoding="utf-8")
    terminalreporter.section("GPU summary: please send it")
    terminalreporter.write(text)
    terminalreporter.write_line(f"\nAlso in {SUMMARY}")


def _rows(report, state):
    found = [values for name, values in report.user_properties if name == "gpu"]
    # of tests that end before they begin
    unknown = {"bundle": report.nodeid.rpartition("[")[2].rstrip("]"), "check": report.nodeid.rpartition("::")[2]}
    reason = {"note": report.longrepr[2].removeprefix("Skipped: ")} if state == "skipped" else {}
    return [{**values, **reason, "state": state} for values in found or [unknown]]
