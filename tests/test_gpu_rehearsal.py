"""`make test-gpu` itself, where there is no GPU: it must not rot until somebody has one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_checks_of_a_bundle_run_without_a_gpu():
    words = ["-m", "gpu", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent / "gpu")]
    wanted = "spinal_cord_cascade and not torchrun and not killed"
    environment = {**os.environ, "MONAI_EXT_GPU_TESTS_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-k", wanted], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "GPU summary: please send it" in done.stdout
    assert "| spinal_cord_cascade | out of memory | passed |" in done.stdout
