from __future__ import annotations

from pathlib import Path

import pytest
from nuclei_files import CLASSES, write_stack, write_table


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight samples of the classes 1, 2, 4 and 19 in a folder with a blank and other letters; ids without zeros in
    the table."""
    root = tmp_path / "données de noyaux"
    for number in range(1, 9):
        write_stack(root / f"{number:04d}" / "raw")
        write_stack(root / f"{number:04d}" / "mask", value=255)
    write_table(root, [(n, list(CLASSES)[n % 4], list(CLASSES.values())[n % 4]) for n in range(1, 9)])
    return root
