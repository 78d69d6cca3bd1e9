"""Inference that MONAI lacks."""

from monai_ext.inferers.acceleration import prepare_for_inference
from monai_ext.inferers.flip_ensemble import FlipEnsembleInferer
from monai_ext.inferers.fold_ensemble import FoldEnsemble

__all__ = ["FlipEnsembleInferer", "FoldEnsemble", "prepare_for_inference"]
