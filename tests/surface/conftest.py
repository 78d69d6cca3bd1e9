from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

SHAPE = (24, 32, 40)


def write_set(folder: Path, seed: int = 0, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Input, sheet and normals in ``folder``; the label lies in one half of the volume."""
    rng = np.random.default_rng(seed)
    sheet = np.zeros(SHAPE, np.uint8)
    sheet[:, :, :20] = rng.integers(0, 2, (24, 32, 20)) * 255
    sheet[0, 0, 0] = sheet[-1, -1, 19] = 255
    vectors = rng.normal(size=(*SHAPE, 3))
    normals = ((vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) + 1) * 32767.5).astype(np.uint16)
    content = {
        "input": rng.integers(0, 60000, SHAPE).astype(np.uint16),
        "sheet": sheet,
        "normals": np.where(sheet[..., None] > 0, normals, 0).astype(np.uint16),
        **arrays,
    }
    for name, values in content.items():
        chunks = (8, 16, 16, *values.shape[3:])
        options = {"shape": values.shape, "chunks": chunks, "dtype": values.dtype, "overwrite": True}
        zarr.create_array(folder / f"{name}.zarr", **options)[...] = values
    return content


@pytest.fixture
def save_set() -> Callable[..., dict[str, np.ndarray]]:
    return write_set


@pytest.fixture
def surface_dir(tmp_path: Path) -> Path:
    """Two sets, in folders with a blank and a non-ASCII letter."""
    root = tmp_path / "données surface"
    write_set(root / "scroll 10", seed=1)
    write_set(root / "scroll 2", seed=2)
    return root


@pytest.fixture
def targets() -> dict[str, dict]:
    return {
        "sheet": {"channels": 1, "activation": "sigmoid", "weight": 1.0},
        "normals": {"channels": 3, "activation": "none", "weight": 0.75},
    }
