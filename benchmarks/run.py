"""Run every benchmark of this folder, one after the other, and print one table at the end.

``python benchmarks/run.py [--quick] [--row P3]``: ``--quick`` gives a first impression, ``--row`` runs those scripts
whose first line names the row.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table
import torch


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--row", help="a row of the specification, such as P3")
    given = options.parse_args()
    scripts = [path for path in sorted(Path(__file__).parent.glob("bench_*.py")) if _has(path, given.row)]
    if not scripts:
        print(f"--row {given.row}: no script measures it", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("torch finds no GPU here: no row of P14\n")
        scripts = [path for path in scripts if "gpu" not in path.stem]
    failed, words = [], ["--quick"] if given.quick else []
    print(table.machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows"
        os.environ[table.ROWS] = str(found)
        for script in scripts:
            print(f"\n## {script.stem}\n", flush=True)
            start = time.perf_counter()
            if subprocess.run([sys.executable, str(script), *words], check=False).returncode:
                failed.append(script.name)
            print(f"\n{time.perf_counter() - start:.0f} s", flush=True)
        print(f"\n## All rows\n\n{table.machine()}\n\n{table.rows(found)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _has(script: Path, row: str | None) -> bool:
    first = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return row is None or re.search(rf"\b{re.escape(row.upper())}\b", first) is not None


if __name__ == "__main__":
    sys.exit(main())
