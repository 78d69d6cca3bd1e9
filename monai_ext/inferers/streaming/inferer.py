"""Zarr-to-Zarr inference as the inferer of a MONAI evaluator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import Inferer
from torch import nn

from monai_ext.errors import ConfigError
from monai_ext.inferers.streaming.folder import LocalFolder, OutputFolder
from monai_ext.inferers.streaming.selection import Box
from monai_ext.inferers.streaming.sliding_window import ZarrSlidingWindow

logger = logging.getLogger("monai_ext")


class ZarrInferer(Inferer):
    """Calls `ZarrSlidingWindow` with the network that an evaluator has loaded, for each volume of a batch.

    Args:
        output_dir: folder that gets one folder per volume, ``<case>/<target>.zarr``.
        test_time_flips: mean over all flips of the axes: eight passes.
        level, channel, timepoint, mask, bbox, part, parts: see `ZarrSlidingWindow.__call__`; mask and box are for a
            single volume.
        options: other arguments of `ZarrSlidingWindow`.

    Raises:
        ConfigError: for a URL as ``output_dir``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        test_time_flips: bool = False,
        level: int = 0,
        channel: int | None = None,
        timepoint: int | None = None,
        mask: str | Path | None = None,
        bbox: Box | None = None,
        part: int | None = None,
        parts: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(OutputFolder.of(output_dir), LocalFolder):
            raise ConfigError(f"output_dir {output_dir}: an evaluator writes to a folder; predict-zarr writes to URLs")
        self.output_dir = Path(output_dir)
        self.options = {**options, "test_time_flips": "zyx" if test_time_flips else ""}
        chosen = {"level": level, "channel": channel, "timepoint": timepoint}
        self.call: dict[str, Any] = {**chosen, "mask": mask, "bbox": bbox, "part": part, "parts": parts}

    def __call__(
        self, inputs: Mapping[str, Sequence[str]], network: nn.Module, *args: Any, **kwargs: Any
    ) -> list[Path]:
        """Predict the volumes at ``inputs["image"]`` (paths or URLs), called ``inputs["case"]``.

        Returns:
            the folder of each volume.

        Raises:
            ConfigError, DataError, WriteError: see `ZarrSlidingWindow`.
        """
        predict = ZarrSlidingWindow(network, **self.options)
        folders = []
        for place, case in zip(inputs["image"], inputs["case"], strict=True):
            folder = self.output_dir / case
            done = predict(place, folder, **self.call)
            state = "complete" if done.complete else "not complete yet: other blocks are missing"
            logger.info("%s: %d blocks now, %d before; %s", folder, done.blocks, done.ready, state)
            folders.append(folder)
        return folders
