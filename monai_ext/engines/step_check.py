"""A training whose step can't work, or can't fit the memory, is refused before anything is written."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

import ignite.distributed as idist
import torch

from monai_ext.allocator import keep_freed_memory
from monai_ext.engines.convolution_check import ConvolutionCheck
from monai_ext.engines.precision import Autocast
from monai_ext.errors import ConfigError
from monai_ext.memory import FullMemoryError, free_memory
from monai_ext.networks.footprint import Footprint, training_footprint

logger = logging.getLogger("monai_ext")
GIB = 2**30
# Gradients, and the two moments of Adam.
_COPIES_OF_WEIGHTS = 3
_SKIP = "--run#0#_disabled_ true leaves this check out"


def check_training_step(
    network: torch.nn.Module,
    input_shape: Sequence[int],
    device: str | torch.device,
    autocast: Autocast | None = None,
    samples: int | None = None,
    max_batches: int | None = None,
) -> None:
    """Try a training step without computing it: whether the network takes such a batch, and what memory it needs.

    For a config's ``run``, in front of the trainer. What the forward pass keeps for the backward pass is counted, see
    `monai_ext.networks.training_footprint`; in mixed precision half of it. The count is a lower bound: a training that
    passes may still be too large; but a backbone that a handler will freeze is counted as if it learnt. On a GPU, where
    `TrainingStep` retries a batch in halves, too large a batch is a warning, and only a single sample that doesn't fit
    is refused.

    Args:
        network: to be trained; it isn't changed.
        input_shape: (batch, channel, spatial axes), or what else the network takes.
        device: where it will be trained.
        autocast: the number format; default float32.
        samples: number of training samples, whose last batch may be smaller; default: all batches are full.
        max_batches: most batches of an epoch; default: all.

    Raises:
        ConfigError: for a batch that the network can't be trained on, or, in half precision on a CPU, a convolution
            whose gradient is wrong there (see `monai_ext.engines.convolution_check`).
        FullMemoryError: for a batch that doesn't fit the free memory, with the batch size that does.
    """
    device, (batch_size, *shape) = torch.device(device), input_shape
    per_process = batch_size if samples is None else -(-samples // idist.get_world_size())
    count = min(batch_size, per_process)
    dtype = autocast.dtype(device) if autocast is not None else None
    check = ConvolutionCheck(dtype) if dtype is not None and device.type == "cpu" else None
    footprint = _tried(network, [count, *shape], check)
    if footprint is None:
        return
    full, rest = divmod(per_process, count)
    if rest and (max_batches is None or max_batches > full):
        _tried(network, [rest, *shape])
    activations = footprint.activations // (2 if dtype is not None else 1)
    fixed = _COPIES_OF_WEIGHTS * footprint.weights
    free = free_memory(device)
    recomputes = any(vars(p).get("use_checkpoint") or vars(p).get("checkpointing") for p in network.modules())
    # Peak of a process that keeps what it frees, over what is counted, which doesn't see what is recomputed.
    if device.type == "cpu" and (3 if recomputes else 1.7) * (fixed + activations) > free:
        keep_freed_memory(False)
        logger.info("freed memory is given back at once, which takes time: a training step may need all of it")
    if fixed + activations <= free:
        return
    fitting = (free - fixed) * count // max(activations, 1)
    sentence = (
        f"a training step of {count} samples needs at least {(fixed + activations) / GIB:.1f} GiB on {device}, where "
        f"{free / GIB:.1f} GiB are free"
    )
    if fitting < 1:
        raise FullMemoryError(f"{sentence}, and one sample doesn't fit either; train on smaller inputs; {_SKIP}")
    advice = f"--batch_size {fitting} fits (with --accumulate {-(-count // fitting)} a step sees as many samples)"
    if device.type == "cpu":
        raise FullMemoryError(f"{sentence}; {advice}; {_SKIP}")
    logger.warning("%s: batches are retried in halves; %s", sentence, advice)


def _tried(network: torch.nn.Module, shape: Sequence[int], check: ConvolutionCheck | None = None) -> Footprint | None:
    """Memory of a step; ``None`` for a network that needs more than shapes."""
    try:
        with check.watching() if check is not None else contextlib.nullcontext():
            return training_footprint(network, shape)
    except ConfigError:
        raise
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error).lower():
            logger.debug("%s can't be tried on torch's meta device: %s", type(network).__name__, error)
            return None
        raise ConfigError(
            f"{type(network).__name__} can't be trained on a batch of shape {list(shape)}: {error}; change "
            "--batch_size or the settings of sizes"
        ) from error
