"""Sliding-window inference from a Zarr volume of any size to OME-Zarr images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data.utils import compute_importance_map
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_ext.data.volumes_zarr import volume_identity
from monai_ext.devices import own_device
from monai_ext.errors import ConfigError
from monai_ext.inferers.acceleration import prepare_for_inference
from monai_ext.inferers.streaming.estimate import Estimate, estimate
from monai_ext.inferers.streaming.geometry import (
    BlockGrid,
    Size,
    check_block_size,
    default_block_size,
    voxel_counts,
    window_axes,
)
from monai_ext.inferers.streaming.job import Predicted, PredictionJob
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.output import OutputStore
from monai_ext.inferers.streaming.predictor import Normalize, WindowPredictor, device_settings, predictor_settings
from monai_ext.inferers.streaming.pyramid import default_levels
from monai_ext.inferers.streaming.reading import InputVolume, voxel_space
from monai_ext.inferers.streaming.selection import Box, Selection
from monai_ext.inferers.streaming.shard import shard_of_launcher
from monai_ext.inferers.streaming.steps import Steps, threads_of_each
from monai_ext.inferers.streaming.targets import stored_targets
from monai_ext.transforms.finite import POLICIES

_MODES = ("constant", "gaussian")


class ZarrSlidingWindow:
    """MONAI's sliding-window inference for volumes that don't fit memory: Zarr in, OME-Zarr out.

    The numbers are those of MONAI's ``SlidingWindowInferer``, to 1e-5 in float32 without TF32 (on a CPU, or with
    ``tf32=False``), logits blended before the activation. Every finished block is recorded; a call that was killed is
    repeated as it is, and continues. Any number of processes take a shard each, without locks. The output has the same
    bytes whoever computed what, and how often it was killed, on the same kind of device, with the same versions and the
    same number of threads for a batch: what the bytes depend on is in ``<output>/ledger/settings.json``, and another
    call with other settings is refused.

    Windows that touch no kept voxel aren't computed: kept are those within ``bbox`` and ``mask``, in a window with a
    stored chunk, in a block whose windows read anything but 0. The others read as 0.

    Memory: (block's Z + window's Z) · tile · (channels + 1) · 4 bytes, where the tile is the block's Y · X, all
    channels of the targets counted; for blocks that are being written up to 3 · block · channels · 4 bytes; for the
    input 2 · (block's Z + window's Z) planes of the tile and the windows around it. Windows at the sides of a
    tile column are computed by its neighbours too: with tiles of n window strides (n + window / stride)² / n² of all
    windows.

    Args:
        network: windows (B, 1, Z, Y, X) to logits: a tensor, or a dict of target → (B, channels, Z, Y, X).
        roi_size: voxels of a window along Z, Y, X.
        overlap: fraction of a window that its neighbour covers, in [0, 1).
        mode: "gaussian" or "constant" importance of a window's voxels.
        batch_size: windows at once.
        targets: definition of each target by name: ``channels`` and ``activation`` ("none", "sigmoid", "softmax").
            Default: one channel, as it is, called "pred".
        output_targets: names of those that are written; default all.
        dtypes: type of a target's stored values: scores "uint8" (default), "uint16", "float32"; vectors (three channels
            without activation) "uint16" (default), "uint8", "float32"; other values "float32".
        normalize: normalises each batch (B, 1, Z, Y, X) float32, window by window, such as
            `monai_ext.transforms.NormalizeVolume`.
        device: device of the network; ``cuda`` is this process's GPU. Default that one, else the CPU.
        network_threads: batches that the network computes at the same time, each with its part of torch's threads. On
            a CPU and for small windows more than one is faster; the memory of a batch is needed so many times.
        engine, precision: see `prepare_for_inference`. "auto" is refused: each process could choose another one.
        tf32: whether a GPU may compute float32 convolutions in TF32, which is faster and keeps 10 bits of mantissa.
        test_time_flips: axes of "zyx"; the logits are the mean over all flips along them.
        chunk_size: voxels of a chunk of the output.
        shard_size: voxels of a shard, whole chunks; None for no shards.
        block_size: voxels of a block, whole chunks (shards); default one of them along Z, and about eight window
            strides along Y and X.
        zarr_format: 3 with OME-Zarr 0.5, or 2 with 0.4.
        pyramid_levels: coarser levels added at the end, by one process; default until no side has more than 512 voxels.
        identity: plain values that name the network, such as the digest of its checkpoint; they join the settings.
            Its weights do in any case.
        checkpoint: file of its weights, beside which OpenVINO's conversion is kept.
        nonfinite_voxels: what NaN and infinite voxels do: "reject" stops with an error, "fill" takes them as 0. Those
            without an output are 0 in any case.
        input_cache_gib: GiB of main memory for decoded chunks that the next tile columns need again.
        progress: a bar on a terminal.

    Raises:
        ConfigError: when an argument is out of range.

    Example::

        targets = {"sheet": {"channels": 1, "activation": "sigmoid"}}
        predict = ZarrSlidingWindow(network, (64, 192, 192), targets=targets)
        predict("scroll.zarr", "predicted")  # predicted/sheet.zarr
    """

    def __init__(
        self,
        network: nn.Module,
        roi_size: Sequence[int] | int,
        overlap: Sequence[float] | float = 0.25,
        mode: str = "gaussian",
        batch_size: int = 4,
        *,
        targets: Mapping[str, Mapping[str, Any]] | None = None,
        output_targets: Sequence[str] | None = None,
        dtypes: Mapping[str, str] | None = None,
        normalize: Normalize | None = None,
        device: str | torch.device | None = None,
        network_threads: int = 1,
        engine: str = "eager",
        precision: str = "fp32",
        tf32: bool = True,
        test_time_flips: Sequence[str] = (),
        chunk_size: Sequence[int] | int = 128,
        shard_size: Sequence[int] | int | None = None,
        block_size: Sequence[int] | int | None = None,
        zarr_format: int = 3,
        pyramid_levels: int | None = None,
        identity: Mapping[str, Any] | None = None,
        checkpoint: str | Path | None = None,
        nonfinite_voxels: str = "reject",
        input_cache_gib: float = 1.0,
        progress: bool = True,
    ) -> None:
        self.roi_size = voxel_counts("roi_size", roi_size)
        least = getattr(network, "least_size", 1)
        if min(self.roi_size) < least:
            raise ConfigError(f"patch_size {list(self.roi_size)}: each side needs at least {least} voxels here")
        self.overlap = tuple(float(fraction) for fraction in ensure_tuple_rep(overlap, 3))
        if not all(0 <= fraction < 1 for fraction in self.overlap):
            raise ConfigError(f"overlap must be at least 0 and below 1, got {overlap}")
        if mode not in _MODES:
            raise ConfigError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
        if nonfinite_voxels not in POLICIES:
            raise ConfigError(f"nonfinite_voxels must be one of {', '.join(POLICIES)}, got {nonfinite_voxels!r}")
        given = {"batch_size": (batch_size, 1), "network_threads": (network_threads, 1)}
        for name, (value, least) in {
            **given,
            "input_cache_gib": (input_cache_gib, 0),
            "pyramid_levels": (pyramid_levels or 0, 0),
        }.items():
            if value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if "auto" in (engine, precision):
            raise ConfigError(
                "engine and precision 'auto' choose by timing, each process for itself, and blocks would differ; name "
                "them, such as engine 'torchscript', precision 'bf16'"
            )
        self.mode, self.batch_size, self.nonfinite_voxels = mode, batch_size, nonfinite_voxels
        self.targets = stored_targets(targets or {"pred": {"channels": 1}}, output_targets, dtypes)
        self.chunk_size = voxel_counts("chunk_size", chunk_size)
        self.shard_size = None if shard_size is None else voxel_counts("shard_size", shard_size)
        self.block_size = None if block_size is None else voxel_counts("block_size", block_size)
        self.zarr_format, self.pyramid_levels, self.progress = zarr_format, pyramid_levels, progress
        self.network_threads, self.tf32 = network_threads, tf32
        self.cache_bytes = int(input_cache_gib * 2**30)
        self.device = own_device(device)
        self._settings = predictor_settings(network, identity or {}, engine, precision, normalize, test_time_flips)
        example = torch.zeros(batch_size, 1, *self.roi_size)
        # One process falling back would make other blocks than the rest.
        files = [] if checkpoint is None else [checkpoint]
        prepared = prepare_for_inference(network, self.device, engine, precision, example, files, fall_back=False)
        self.predictor = WindowPredictor(prepared, self.targets, self.device, normalize, test_time_flips)

    def __call__(
        self,
        input: str | Path,
        output: str | Path,
        *,
        level: int = 0,
        channel: int | None = None,
        timepoint: int | None = None,
        mask: str | Path | None = None,
        bbox: Box | None = None,
        part: int | None = None,
        parts: int | None = None,
    ) -> Predicted:
        """Predict a volume, or this process's shard of it.

        Args:
            input: path or URL of a Zarr array (Z, Y, X) or OME-Zarr image.
            output: folder that all processes share, or the URL of an object store (``s3://bucket/folder``), for
                ``<target>.zarr`` and ``ledger``; what is finished in it stays.
            level: resolution level of an OME-Zarr image, 0 the finest.
            channel: index from 0, where the image has several.
            timepoint: index from 0, where the image has several.
            mask: path or URL of an array of the same shape; the output is 0 where it is 0.
            bbox: ((z0, z1), (y0, y1), (x0, x1)), first voxels and those after the last; the output is 0 elsewhere.
            part: shard index of this process, from 0; default as the launcher says (``torchrun``, SLURM), else the only
                one.
            parts: shard count; with ``part``, or both are the launcher's.

        Raises:
            ConfigError: when the settings don't fit the volume, or the output was begun with others.
            DataError: naming the volume that can't be used.
            WriteError: naming the image that can't be written.
        """
        if (part is None) != (parts is None):
            raise ConfigError("part and parts: give both, or neither where the launcher says them")
        if part is not None and parts is not None and not 0 <= part < parts:
            raise ConfigError(f"part must be a shard index from 0 to parts - 1, got part {part} of parts {parts}")
        job = self.job(input, output, level=level, channel=channel, timepoint=timepoint, mask=mask, bbox=bbox)
        if part is None or parts is None:
            part, parts = shard_of_launcher(claim=job.manifest.claim)
        shard = job.shard(part, parts)
        job.compute(shard.wanted, shard.empty)
        return Predicted(len(shard.wanted) + len(shard.empty), shard.ready, job.finish())

    def estimate(self, input: str | Path, output: str | Path, **call: Any) -> Estimate:
        """What the unfinished blocks of all processes together will take; writes nothing.

        Args:
            input: see `__call__`.
            output: see `__call__`.
            call: ``level``, ``channel``, ``timepoint``, ``mask``, ``bbox``.

        Raises:
            ConfigError: when it doesn't fit the memory, or the output was begun with other settings.
        """
        job = self.job(input, output, begin=False, **call)
        found = estimate(job, job.shard(0, 1).wanted)
        found.refuse_what_does_not_fit()
        return found

    def job(
        self,
        input: str | Path,
        output: str | Path,
        *,
        level: int = 0,
        channel: int | None = None,
        timepoint: int | None = None,
        mask: str | Path | None = None,
        bbox: Box | None = None,
        begin: bool = True,
    ) -> PredictionJob:
        """The prediction job of a call, for other schedulers; makes the images and the progress manifest.

        Args:
            input: path or URL of a Zarr array (Z, Y, X) or OME-Zarr image.
            output: path or URL that all processes share.
            level: resolution level of an OME-Zarr image, 0 the finest.
            channel: index from 0, where the image has several.
            timepoint: index from 0, where the image has several.
            mask: path or URL of an array of the same shape; the output is 0 where it is 0.
            bbox: ((z0, z1), (y0, y1), (x0, x1)), see `__call__`.
            begin: False makes nothing.

        Raises:
            ConfigError: when the settings don't fit the volume, or the output was begun with others.
            DataError: naming the volume that can't be used.
            WriteError: naming the image that can't be written.
        """
        volume = InputVolume(input, level, channel, timepoint)
        unit = self.shard_size or self.chunk_size
        block_size = self.block_size or default_block_size(volume.shape, self.roi_size, self.overlap, unit)
        check_block_size(block_size, unit)
        store = OutputStore(output, self.targets, volume.shape, self.chunk_size, self.shard_size, self.zarr_format)
        grid = BlockGrid(volume.shape, block_size)
        axes = window_axes(volume.shape, self.roi_size, self.overlap)
        selection = Selection(grid, axes, volume, None if mask is None else InputVolume(mask), bbox)
        manifest = ProgressManifest(store.folder)
        # in this order: another process writes its settings first
        if (there := store.existing()) and not manifest.is_known:
            raise ConfigError(
                f"{there[0]}: is there already, without the ledger of a prediction beside it; give another output, or "
                "remove it"
            )
        settings = {
            **self._settings,
            "input": volume_identity(input, level, channel, timepoint),
            "mask": None if mask is None else volume_identity(mask),
            "bbox": None if bbox is None else [list(part) for part in bbox],
            **self._geometry(volume.shape, block_size),
            # Once all windows of a block were computed, if any: other batches, and other voxels that are 0.
            **({} if selection.is_all else {"windows": "kept"}),
            **device_settings(self.device, threads_of_each(self.network_threads), self.tf32),
        }
        space = voxel_space(input, level)
        if begin or manifest.begun:
            manifest.begin(settings)
        if begin:
            store.create(space)
        weights = compute_importance_map(self.roi_size, self.mode, device=self.device)
        pin = self.device.type == "cuda"
        steps = Steps(volume, grid, axes, selection, self.batch_size, pin, self.nonfinite_voxels, self.cache_bytes)
        return PredictionJob(
            grid,
            selection,
            steps,
            self.predictor,
            weights,
            store,
            manifest,
            space,
            default_levels(volume.shape) if self.pyramid_levels is None else self.pyramid_levels,
            self.network_threads,
            self.tf32,
            self.progress,
        )

    def _geometry(self, shape: Size, block_size: Size) -> dict[str, Any]:
        return {
            "shape": list(shape),
            "roi_size": list(self.roi_size),
            "overlap": list(self.overlap),
            "mode": self.mode,
            "batch_size": self.batch_size,
            "block_size": list(block_size),
            "chunk_size": list(self.chunk_size),
            "shard_size": None if self.shard_size is None else list(self.shard_size),
            "zarr_format": self.zarr_format,
            "targets": {name: vars(target) for name, target in self.targets.items()},
        }
