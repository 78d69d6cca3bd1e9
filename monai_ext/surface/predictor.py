"""A checkpoint of `surface_unet` as a sliding window, with its own network, targets and normalisation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.errors import WeightsError
from monai_ext.inferers.streaming.sliding_window import ZarrSlidingWindow
from monai_ext.networks import SurfaceUNet, load_model
from monai_ext.surface.weights import predicted_targets, settings_of
from monai_ext.transforms import NormalizeVolume


def surface_predictor(
    checkpoint: str | Path,
    roi_size: Sequence[int] = (64, 192, 192),
    activations: Mapping[str, str] | None = None,
    **options: Any,
) -> ZarrSlidingWindow:
    """A trained `SurfaceUNet` (``.pt``, or an exported ``.ts``) as a `ZarrSlidingWindow`.

    Args:
        checkpoint: with its settings ``targets``, ``f_maps``, ``deep_supervision``, ``normalization``, ``intensity``;
            or a file of the reference, see `saved_network`.
        roi_size: voxels of a window along Z, Y, X; see `ZarrSlidingWindow`.
        activations: see `predicted_targets`.
        options: other arguments of `ZarrSlidingWindow`; ``targets``, ``normalize``, ``identity`` and ``checkpoint``
            come from the checkpoint.

    Raises:
        ConfigError: for an option out of range, see `ZarrSlidingWindow`.
        WeightsError: when the file can't be read, or lacks the settings of its network.
    """
    settings = settings_of(checkpoint)
    missing = [name for name in ("targets", "f_maps") if not settings.get(name)]
    if missing:
        raise WeightsError(
            f"{checkpoint}: has no {' and '.join(missing)} among its settings; give a checkpoint or an export of "
            "surface_unet"
        )
    network = SurfaceUNet(
        targets=settings["targets"],
        f_maps=settings["f_maps"],
        deep_supervision=bool(settings.get("deep_supervision")),
    )
    return ZarrSlidingWindow(
        load_model(network, checkpoint),
        roi_size,
        targets=predicted_targets(settings["targets"], activations),
        normalize=NormalizeVolume(settings.get("normalization") or "zscore", settings.get("intensity")),
        checkpoint=checkpoint,
        identity={"checkpoint": _digest(checkpoint), "settings": settings},
        **options,
    )


def _digest(file: str | Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
