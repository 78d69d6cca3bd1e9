"""Small volumes and networks for predictions from Zarr to Zarr, and the bytes of what comes out."""

from __future__ import annotations

import numpy as np
import torch
import zarr
from torch import nn

from monai_ext.inferers import ZarrSlidingWindow

TARGETS = {
    "sheet": {"channels": 1, "activation": "sigmoid"},
    "normals": {"channels": 3, "activation": "none"},
}
ROI, CHUNK, BLOCK = (8, 12, 12), (8, 8, 8), (8, 16, 16)


class TwoHeads(nn.Module):
    """A fixed convolution with the targets' outputs, that counts its calls."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 1, 3, 3, 3, generator=generator) * 0.3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        features = torch.tanh(nn.functional.conv3d(x, self.weight, padding=1))
        # depends on the whole window, as a network with pooling or norms does
        features = features + 0.1 * x.mean(dim=(1, 2, 3, 4), keepdim=True)
        return {"sheet": features[:, :1], "normals": features[:, 1:]}


class OneHead(TwoHeads):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)["sheet"]


def volume(path, shape=(37, 41, 33), chunks=(8, 8, 8), seed=0, dtype="uint8", **options):
    """A volume without zeros."""
    values = np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)
    zarr.create_array(path, data=values, chunks=chunks, **options)
    return values


def predictor(network=None, **options):
    options = {"targets": TARGETS, "chunk_size": CHUNK, "block_size": BLOCK, "progress": False, **options}
    return ZarrSlidingWindow(network or TwoHeads(), options.pop("roi_size", ROI), **{"batch_size": 4, **options})


def stored(output, name, level=0):
    return zarr.open_array(output / f"{name}.zarr" / str(level), mode="r")[:]


def tree(folder):
    """Bytes of every file by its name, without the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
