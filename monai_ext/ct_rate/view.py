"""The input of a network: slices or volume of a chest CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext.ct_rate.decoding import without_undecodable
from monai_ext.ct_rate.finding import volume_name
from monai_ext.ct_rate.indexing import VolumeIndex, volumes
from monai_ext.ct_rate.inference import inference_items
from monai_ext.ct_rate.items import Items, slice_items, volume_items
from monai_ext.ct_rate.slice_table import extracted_slices
from monai_ext.ct_rate.volume import Volume
from monai_ext.data.splits import Splits
from monai_ext.errors import ConfigError

ARCHITECTURES = ("slice", "volume", "densenet3d", "resnet3d")


class View:
    """Single slices, the slices of a volume together, or the whole volume, depending on the architecture.

    Args:
        architecture: "slice", "volume" (the slices of a volume together), "densenet3d" or "resnet3d" (whole volumes).
        in_channels: 3 for a slice with its neighbours, else 1; whole volumes have 1.
        num_slices: slices per volume, see `monai_ext.ct_rate.slice_positions`.
        slice_size: edge length of a slice in pixels.
        clahe: whether local contrast is raised in slices, see `monai_ext.ct_rate.extract_slices`.
        volume_size: voxels of a whole volume along Z, Y, X.

    Attributes:
        whole: whether the network is 3-D.
        neighbours: whether a slice has three channels.
        slices_read: number of slices read from a volume's file; None for the whole volume.
        input_shape: of an item: (C, Y, X), (slice, C, Y, X) or (1, Z, Y, X).

    Raises:
        ConfigError: for an unknown architecture, channels that it doesn't take, or not three ``volume_size``.
    """

    def __init__(
        self,
        architecture: str = "volume",
        in_channels: int = 1,
        num_slices: int = 12,
        slice_size: int = 224,
        clahe: bool = False,
        volume_size: Sequence[int] = (240, 480, 480),
    ) -> None:
        if architecture not in ARCHITECTURES:
            raise ConfigError(f"--architecture {architecture}: must be one of {', '.join(ARCHITECTURES)}")
        self.architecture = architecture
        self.whole = architecture in ("densenet3d", "resnet3d")
        if in_channels not in ((1,) if self.whole else (1, 3)):
            allowed = "1" if self.whole else "1 or 3"
            raise ConfigError(f"--in_channels {in_channels}: must be {allowed} for --architecture {architecture}")
        if len(volume_size) != 3:
            raise ConfigError(f"--volume_size {list(volume_size)}: must be three numbers, along Z, Y and X")
        self.num_slices = num_slices
        self.slice_size = slice_size
        self.clahe = clahe
        self.neighbours = in_channels == 3
        self.slices_read = None if self.whole else num_slices
        shapes = {
            "slice": (in_channels, slice_size, slice_size),
            "volume": (num_slices, in_channels, slice_size, slice_size),
        }
        self.input_shape = shapes.get(architecture, (1, *volume_size))

    def index(
        self,
        slices_dir: str | Path | None = None,
        index_dir: str | Path | None = None,
        on_bad_volume: str = "error",
        **settings: Any,
    ) -> VolumeIndex:
        """The volumes, or those whose slices were extracted to ``slices_dir`` with the settings of this view.

        Args:
            slices_dir: see `extracted_slices`; None to read the volumes themselves.
            index_dir: folder of ``decoded.json``, which remembers what could be decoded; None remembers nothing.
            on_bad_volume: "error", or "skip" to decode everything once and leave out and report volumes with a problem.
            settings: other arguments of `volumes`; not used with extracted slices.

        Raises:
            ConfigError: for an architecture that can't use these data, or slices extracted with other settings.
            DataError: as `volumes` and `extracted_slices`; when no volume can be decoded.
        """
        if slices_dir is None:
            if self.architecture == "slice":
                raise ConfigError(
                    "--architecture slice learns from extracted slices; make them by `python -m monai_ext "
                    "extract-slices --dataset_dir DIR --output SLICES`, then pass `--slices_dir SLICES`"
                )
            found = volumes(**settings, on_bad_volume=on_bad_volume)
        else:
            self._refuse_slices()
            found = extracted_slices(slices_dir, self.num_slices, self.slice_size, self.clahe, on_bad_volume)
        return without_undecodable(found, index_dir) if on_bad_volume == "skip" else found

    def items(
        self, splits: Mapping[str, Sequence[Volume]], classes: Sequence[str] | None = None
    ) -> Splits[dict[str, Any]]:
        """Items of volumes that `index` found; see `slice_items` and `volume_items`.

        Args:
            splits: the volumes of each set, see `monai_ext.ct_rate.splits`.
            classes: labels in the order of the network's outputs; default all of `LABELS`.

        Returns:
            The items of each set.

        Raises:
            ConfigError: for unknown classes, or ``num_slices`` below 1.
        """
        extracted = any(volume.slices for members in splits.values() for volume in members)
        found = (
            slice_items(splits, classes, self.neighbours, self._together)
            if extracted
            else volume_items(splits, classes)
        )
        found.left_out = getattr(splits, "left_out", ())
        return found

    def inference_items(
        self,
        inputs: str | Path | Sequence[str | Path],
        classes: Sequence[str] | None = None,
        metadata: str | Path | None = None,
    ) -> Items:
        """Items to predict; see `monai_ext.ct_rate.inference_items`.

        Args:
            inputs: volumes or extracted slices, or folders of them.
            classes: labels in the order of the network's outputs; default all of `LABELS`.
            metadata: CSV with slope and intercept of the volumes; None without one.

        Raises:
            ConfigError: for slices where the network takes whole volumes, or unknown classes.
            DataError: as `monai_ext.ct_rate.inference_items`.
        """
        items = inference_items(inputs, classes, self.neighbours, self._together, metadata)
        if any(volume_name(str(item["image"])) is None for item in items):
            self._refuse_slices()
        return items

    @property
    def _together(self) -> int | None:
        return None if self.architecture == "slice" else self.num_slices

    def _refuse_slices(self) -> None:
        if self.whole:
            raise ConfigError(f"--architecture {self.architecture} takes whole volumes, not slices")


def levels(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Names of cases and instances in results: ``cases``, ``parts`` and ``part_columns``.

    Items of slices are instances of volumes; items of volumes have no instances.

    Args:
        items: of one set, as `View.items` or `View.inference_items` returns them.

    Returns:
        Arguments of `monai_ext.predictions.MultiLabel`.
    """
    if items and "slice" in items[0]:
        return {"cases": "volumes", "parts": "slices", "part_columns": ["slice"]}
    return {"cases": None, "parts": None, "part_columns": []}
