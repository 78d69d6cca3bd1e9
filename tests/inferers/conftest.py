"""What several tests of inference need."""

import pytest
import torch
from zarr_helpers import predictor

from monai_ext.inferers.streaming import sliding_window


@pytest.fixture
def on_gpu(monkeypatch):
    """Predictors that are asked of their settings as if they were on a GPU."""
    weights = sliding_window.compute_importance_map
    monkeypatch.setattr(
        sliding_window, "compute_importance_map", lambda roi, mode, device: weights(roi, mode, device="cpu")
    )

    def made(tf32):
        predict = predictor(tf32=tf32, device="cpu")
        predict.device = torch.device("cuda")
        return predict

    return made
