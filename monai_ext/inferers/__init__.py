"""Inferers that MONAI lacks."""

from typing import Any

from monai_ext.inferers.acceleration import prepare_for_inference
from monai_ext.inferers.flip_ensemble import FlipEnsembleInferer
from monai_ext.inferers.fold_ensemble import FoldEnsemble
from monai_ext.inferers.normalized_windows import NormalizedWindowInferer
from monai_ext.inferers.slice_mean import SliceMeanInferer
from monai_ext.inferers.streaming.dask import predict_on_dask
from monai_ext.inferers.streaming.inferer import ZarrInferer
from monai_ext.inferers.streaming.sliding_window import ZarrSlidingWindow
from monai_ext.inferers.streaming.verification import ZarrPrediction
from monai_ext.moved import moved_name

__all__ = [
    "FlipEnsembleInferer",
    "FoldEnsemble",
    "NormalizedWindowInferer",
    "SliceMeanInferer",
    "ZarrInferer",
    "ZarrPrediction",
    "ZarrSlidingWindow",
    "predict_on_dask",
    "prepare_for_inference",
]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)
