from __future__ import annotations

from pathlib import Path

import pytest
from ct_helpers import NAMES, write_dataset


@pytest.fixture
def ct_dir(tmp_path: Path) -> Path:
    """Four patients in a folder with a blank and a non-ASCII letter; slope and intercept are in the tables only."""
    return write_dataset(tmp_path / "données CT", NAMES)
