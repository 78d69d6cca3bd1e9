"""Inference that MONAI lacks."""

from monai_ext.inferers.acceleration import prepare_for_inference
from monai_ext.inferers.flip_ensemble import FlipEnsembleInferer
from monai_ext.inferers.fold_ensemble import FoldEnsemble
from monai_ext.inferers.zarr_sliding_window import ZarrSlidingWindow
from monai_ext.inferers.zarr_verification import ZarrPrediction

__all__ = ["FlipEnsembleInferer", "FoldEnsemble", "ZarrPrediction", "ZarrSlidingWindow", "prepare_for_inference"]
