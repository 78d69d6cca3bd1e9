"""CutMix and MixUp of whole batches, with labels mixed accordingly.

Papers: Yun et al., CutMix, arXiv:1905.04899; Zhang et al., mixup, arXiv:1710.09412.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from monai_ext.errors import ConfigError


class MixedBatches:
    """``prepare_batch`` that mixes the samples of a training batch among each other, images as well as labels.

    With λ drawn from Beta(alpha, alpha), once per batch as in the authors' programs, sample i becomes λ · i +
    (1 − λ) · j (MixUp), or gets a box of j that covers 1 − λ of the image in Y and X, through all slices of a volume
    (CutMix; the box is cut off at the border, and λ is then what really remains). The label is the same mixture.

    Numbers come from torch's generator on the CPU, which `monai_ext.handlers.StandardTraining` seeds by seed and
    iteration: a resumed run mixes as an uninterrupted one. Where we differ from MONAI's ``CutMixd`` and ``MixUpd``:
    these draw from a state of their own that no checkpoint holds, want full batches, and refuse labels (B, C) (MixUp)
    or replace them by j's (CutMix).

    Args:
        cutmix_prob: probability of CutMix for a batch.
        mixup_prob: probability of MixUp for a batch; the rest stays as it is.
        alpha: of the beta distribution; 1 is uniform.

    Shapes: the batch's ``image`` (B, ..., Y, X) and ``label`` (B, C), which comes back as float32, 0 to 1.

    Raises:
        ConfigError: when an argument is out of range.
    """

    def __init__(self, cutmix_prob: float = 0.5, mixup_prob: float = 0.0, alpha: float = 1.0) -> None:
        if not (cutmix_prob >= 0 and mixup_prob >= 0 and cutmix_prob + mixup_prob <= 1):
            raise ConfigError(
                f"--cutmix_prob {cutmix_prob} --mixup_prob {mixup_prob}: must be at least 0 and at most 1 together"
            )
        if not alpha > 0:
            raise ConfigError(f"MixedBatches: alpha must be > 0, got {alpha!r}")
        self.cutmix_prob = cutmix_prob
        self.mixup_prob = mixup_prob
        self.alpha = alpha

    def __call__(
        self, batch: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = (batch[key].to(device=device, non_blocking=non_blocking, **kwargs) for key in ("image", "label"))
        label = label.float()
        chance = torch.rand(()).item()
        if chance >= self.cutmix_prob + self.mixup_prob:
            return image, label
        kept = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        partner = torch.randperm(len(image)).to(image.device, non_blocking=True)  # no wait for the device
        other = image.index_select(0, partner)
        if chance < self.cutmix_prob:
            image, kept = _with_box(image, other, kept)
        else:
            image = kept * image + (1 - kept) * other
        return image, kept * label + (1 - kept) * label.index_select(0, partner)


def _with_box(image: torch.Tensor, other: torch.Tensor, kept: float) -> tuple[torch.Tensor, float]:
    """``image`` with a box of ``other``, and the fraction of it that remains."""
    inside = torch.ones((), dtype=torch.bool)
    for length in image.shape[-2:]:
        side = length * math.sqrt(1 - kept)
        centre = torch.rand(()).item() * length
        place = torch.arange(length) + 0.5
        inside = inside.unsqueeze(-1) & ((place - centre).abs() <= side / 2)
    remains = 1 - inside.float().mean().item()
    return torch.where(inside.to(image.device, non_blocking=True), other, image), remains
