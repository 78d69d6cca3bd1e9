"""Multi-label classification of volumes, processed slice by slice.

Paper: Ilse et al., Attention-based Deep Multiple Instance Learning, arXiv:1802.04712.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from monai_ext.networks.slice_classifier import SliceClassifier

_POOLINGS = ("mean", "max", "attention")
_HIDDEN = 128


class VolumeClassifier(nn.Module):
    """Pools the features of a volume's slices, then applies the slice network's head; trained end to end.

    ``"mean"`` and ``"max"`` work on each feature; ``"attention"`` is the paper's gated attention with 128 hidden
    units: the weight of slice k is the softmax over the slices of w·(tanh(V h) ⊙ sigmoid(U h)).

    Args:
        slice_network: network applied to each slice; used, not copied.
        pooling: ``"mean"``, ``"max"`` or ``"attention"``.

    Shapes: input (B, S, C, Y, X), S slices per volume; logits (B, num_classes). ``mask`` (B, S), bool, is False where a
    volume has fewer slices and the rest is padding: these are not computed, so they don't reach the statistics of
    batch norms either.

    Attributes:
        stages: as `SliceClassifier.stages`.

    Raises:
        ValueError: for an unknown pooling; in the call for another shape, or a volume without any slice.
    """

    head_prefixes: ClassVar[tuple[str, ...]] = ("attention.", "slice_network.head.", "slice_network.attention.")
    ignored_prefixes: ClassVar[tuple[str, ...]] = SliceClassifier.ignored_prefixes

    def __init__(self, slice_network: SliceClassifier, pooling: str = "attention") -> None:
        super().__init__()
        if pooling not in _POOLINGS:
            raise ValueError(f"VolumeClassifier: pooling must be one of {', '.join(_POOLINGS)}, got {pooling!r}")
        self.slice_network = slice_network
        self.pooling = pooling
        self.attention = _GatedAttention(slice_network.num_features) if pooling == "attention" else nn.Identity()
        self.stages = [[f"slice_network.{name}" for name in stage] for stage in slice_network.stages]

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        features = self.slice_features(x, mask)
        if self.pooling == "max":
            if mask is not None:
                features = features.masked_fill(~mask[:, :, None], -torch.inf)
            pooled = features.amax(1)
        else:
            pooled = (self.slice_weights(features, mask)[:, :, None] * features).sum(1)
        return self.slice_network.head(pooled)

    def slice_answers(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of each slice alone (B, S, num_classes), and its weight in the volume's prediction (B, S).

        The weights sum to 1; for ``"max"`` they are the fractions of the features whose maximum is in the slice. Where
        ``mask`` is False the weight is 0, and the logits are meaningless.

        Args:
            x: slices (B, S, C, Y, X).
            mask: bool (B, S), False for padding; default none.

        Raises:
            ValueError: see `slice_features`.
        """
        features = self.slice_features(x, mask)
        return self.slice_network.head(features), self.slice_weights(features, mask)

    def slice_features(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Slices (B, S, C, Y, X) to their features (B, S, F), 0 where ``mask`` is False.

        Args:
            x: slices (B, S, C, Y, X).
            mask: bool (B, S), False for padding; default none.

        Raises:
            ValueError: for another shape, a mask of another shape or type, or one that leaves a volume without any
                slice.
        """
        if x.ndim != 5:
            raise ValueError(f"VolumeClassifier: expected slices (B, S, C, Y, X), got {list(x.shape)}")
        slices = x.flatten(0, 1)
        if mask is None:
            return self.slice_network.forward_features(slices).unflatten(0, [x.shape[0], x.shape[1]])
        if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"VolumeClassifier: mask must be bool of shape {list(x.shape[:2])}, got {mask.dtype} of shape "
                f"{list(mask.shape)}"
            )
        if not bool(mask.any(dim=1).all()):
            raise ValueError("VolumeClassifier: the mask leaves a volume without any slice; leave the volume out")
        present = self.slice_network.forward_features(slices[mask.flatten()])
        features = torch.zeros(len(slices), present.shape[1], dtype=present.dtype, device=present.device)
        features[mask.flatten()] = present
        return features.unflatten(0, [x.shape[0], x.shape[1]])

    def slice_weights(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Weights (B, S) of features (B, S, F); see `slice_answers`.

        Args:
            features: (B, S, F), of `slice_features`.
            mask: bool (B, S), False for padding; default none.
        """
        present = torch.ones_like(features[:, :, 0], dtype=torch.bool) if mask is None else mask
        if self.pooling == "max":
            strongest = features.masked_fill(~present[:, :, None], -torch.inf).argmax(1)
            return torch.nn.functional.one_hot(strongest, features.shape[1]).to(features.dtype).mean(1)
        if self.pooling == "mean":
            return present.to(features.dtype) / present.sum(1, keepdim=True)
        return self.attention(features).squeeze(-1).masked_fill(~present, -torch.inf).softmax(1)

    def adapt_state_dict(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Put a file of the slice network, or of its backbone, in its place (called by `load_pretrained`).

        Args:
            state: weights of the file by name, without wrappers such as ``module.``.
        """
        if any(key.startswith("slice_network.") for key in state):
            return state
        own = self.slice_network.state_dict()
        adapted = self.slice_network.adapt_state_dict(state)
        return {f"slice_network.{key}" if key in own else key: value for key, value in adapted.items()}


class _GatedAttention(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.value = nn.Linear(features, _HIDDEN)
        self.gate = nn.Linear(features, _HIDDEN)
        self.score = nn.Linear(_HIDDEN, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.score(torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features)))
