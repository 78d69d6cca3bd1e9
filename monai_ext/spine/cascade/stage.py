"""One stage of the cascade: a network, the preparation of its input, and its output at the size of the slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.transforms.utils import convert_applied_interp_mode
from torch import nn

from monai_ext.errors import DataError, WeightsError
from monai_ext.memory import in_halves

_KEY = "image"
# Key of the logits, as of networks with further outputs, which return a dict.
_LOGITS = "cord"


class SliceStage:
    """Probabilities of slices at their own size, whatever the input size of the network.

    Stages with the same ``preparation`` can share the results of `prepare`.

    Args:
        network: from prepared slices (B, 1, S, S) to logits: (B, classes), (B, 1, S, S) of a mask, or a mask and its
            visibility, as `monai_ext.networks.CordUNet` returns them. A `torch.jit.ScriptModule` works too.
        preparation: transforms of a slice (1, Y, X) under the key "image", as in training.
        classes: names of the outputs of a classifier; none for a mask.
        batch_size: slices per batch.
        device: device of the network.
        name: name of the stage, for messages.
        source: file of the weights, for reports.
    """

    def __init__(
        self,
        network: nn.Module,
        preparation: Compose,
        classes: Sequence[str] = (),
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        name: str = "stage",
        source: str = "",
    ) -> None:
        self.network = network
        self.preparation = preparation
        self.classes = tuple(classes)
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.name = name
        self.source = source

    def prepare(self, slices: np.ndarray) -> list[MetaTensor]:
        """Prepare slices for the network.

        Args:
            slices: (N, 1, Y, X), float32.

        Returns:
            N tensors (1, S, S).
        """
        return [self.preparation({_KEY: MetaTensor(torch.from_numpy(one))})[_KEY] for one in slices]

    def class_probabilities(self, prepared: Sequence[MetaTensor]) -> np.ndarray:
        """Class probabilities of each slice: (N, classes), float64, each row with the sum 1.

        Args:
            prepared: slices from `prepare`.

        Raises:
            FullMemoryError: when a single slice doesn't fit the device's memory.
            DataError: when the network's output isn't finite.
            WeightsError: when the network has another number of outputs than class names.
        """
        logits = self._outputs(prepared)[_LOGITS]
        if logits.shape[1:] != (len(self.classes),):
            raise WeightsError(
                f"stage {self.name!r}: its network gives {tuple(logits.shape[1:])} values per slice, but its class map "
                f"has {len(self.classes)} names; give the weights and the class map of one training"
            )
        return torch.softmax(logits.double(), dim=1).numpy()

    def mask_probabilities(
        self, prepared: Sequence[MetaTensor], size: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Probability of each pixel, at its position before the preparation, and of each slice to show the structure.

        Args:
            prepared: slices of one series, from `prepare`.
            size: (Y, X) of the slices before the preparation.

        Returns:
            (N, Y, X), float32, 0 where the preparation cropped the slices; and (N,), float32, or None for a network
            with a mask only.

        Raises:
            FullMemoryError: when a single slice doesn't fit the device's memory.
            DataError: when the network's output isn't finite.
            WeightsError: when the network's output is no mask.
        """
        outputs = self._outputs(prepared)
        logits, visible = outputs[_LOGITS], outputs.get("visible")
        if logits.shape[1:] != prepared[0].shape:
            raise WeightsError(
                f"stage {self.name!r}: its network gives {tuple(logits.shape[1:])} values for a slice of "
                f"{tuple(prepared[0].shape)}; a mask of one channel is needed"
            )
        masks = self._in_place(torch.sigmoid(logits[:, 0]), prepared[0], size)
        return masks, None if visible is None else torch.sigmoid(visible[:, 0]).numpy()

    def _outputs(self, prepared: Sequence[MetaTensor]) -> dict[str, torch.Tensor]:
        def compute(start: int, stop: int) -> dict[str, torch.Tensor]:
            batch = torch.stack([one.as_tensor() for one in prepared[start:stop]])
            output = self.network(batch.to(self.device))
            named = output if isinstance(output, Mapping) else {_LOGITS: output}
            return {name: value.float().cpu() for name, value in named.items()}

        with torch.inference_mode():
            parts = in_halves(compute, len(prepared), self.batch_size, "take another --device")
        outputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if not all(values.isfinite().all() for values in outputs.values()):
            raise DataError(
                f"stage {self.name!r}: its network gives values that are no numbers; look at the series, run it with "
                "--precision fp32, or train the stage again"
            )
        return outputs

    def _in_place(self, masks: torch.Tensor, like: MetaTensor, size: Sequence[int]) -> np.ndarray:
        """Masks (N, S, S) at the size of their slices, by inverting the preparation.

        All slices of a series had the same preparation, so that they can be inverted together, as channels of one
        image.
        """
        # "area" would enlarge in steps; for reduction it averages all pixels.
        mode = "area" if max(masks.shape[1:]) > max(size) else "bilinear"
        steps = convert_applied_interp_mode(like.applied_operations, mode=mode)
        image = MetaTensor(masks, affine=like.affine, applied_operations=steps)
        restored = self.preparation.inverse({_KEY: image})[_KEY]
        return np.clip(restored.numpy(), 0, 1).astype(np.float32)
