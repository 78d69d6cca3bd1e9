"""P12: how long things take to start, each as a whole process.

``python benchmarks/bench_start.py [--quick] [--rounds 3]``. The limits are an empty program, for the command line, and
``import torch``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from table import row

NOTHING, TORCH = "an empty program", "import torch"
COMMANDS = {
    NOTHING: [sys.executable, "-c", "pass"],
    TORCH: [sys.executable, "-c", "import torch"],
    "import monai": [sys.executable, "-c", "import monai"],
    "python -m monai_ext --help": [sys.executable, "-m", "monai_ext", "--help"],
    "import of monai_ext's handlers, engines, data, networks, losses": [
        sys.executable,
        "-c",
        "import monai_ext.handlers, monai_ext.engines, monai_ext.data, monai_ext.networks, monai_ext.losses",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(2 if options.quick else options.rounds):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    for name, limit in zip(list(COMMANDS)[-2:], (NOTHING, TORCH), strict=True):
        others = {"import monai": seconds["import monai"]}
        row("P12", f"{name} (limit: {limit})", seconds[name], others, statistics.median(seconds[limit]))
    print("| start | s, median (range) | of `import monai` |\n|---|---|---|")
    for name, times in seconds.items():
        share = statistics.median(a / b for a, b in zip(times, seconds["import monai"], strict=True))
        print(f"| {name} | {statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f}) | {share:.2f} |")


if __name__ == "__main__":
    main()
