"""Inference that MONAI lacks."""

from monai_ext.inferers.acceleration import prepare_for_inference
from monai_ext.inferers.cascade.batch import CascadeBatch
from monai_ext.inferers.cascade.cascade import SpineCascade
from monai_ext.inferers.cascade.result import CascadeResult
from monai_ext.inferers.cascade.stage import SliceStage
from monai_ext.inferers.cascade.stages import CascadeStages
from monai_ext.inferers.flip_ensemble import FlipEnsembleInferer
from monai_ext.inferers.fold_ensemble import FoldEnsemble
from monai_ext.inferers.series_vote import Vote, series_vote
from monai_ext.inferers.slice_mean import SliceMeanInferer
from monai_ext.inferers.streaming.checkpoint import surface_predictor
from monai_ext.inferers.streaming.dask import predict_on_dask
from monai_ext.inferers.streaming.inferer import ZarrInferer
from monai_ext.inferers.streaming.sliding_window import ZarrSlidingWindow
from monai_ext.inferers.streaming.verification import ZarrPrediction

__all__ = [
    "CascadeBatch",
    "CascadeResult",
    "CascadeStages",
    "FlipEnsembleInferer",
    "FoldEnsemble",
    "SliceMeanInferer",
    "SliceStage",
    "SpineCascade",
    "Vote",
    "ZarrInferer",
    "ZarrPrediction",
    "ZarrSlidingWindow",
    "predict_on_dask",
    "prepare_for_inference",
    "series_vote",
    "surface_predictor",
]
