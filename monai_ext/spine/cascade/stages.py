"""The stages of a cascade, loaded from their files with the bundle's config."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn

from monai_ext.errors import ConfigError, WeightsError
from monai_ext.inferers.acceleration import prepare_for_inference
from monai_ext.networks import load_model, network_settings
from monai_ext.spine import load_class_map
from monai_ext.spine.cascade.stage import SliceStage
from monai_ext.workflow import find_parser

logger = logging.getLogger("monai_ext")

CLASSIFIERS = ("anatomy", "location_view", "sequence")
VISIBLE = "cord_visible"
SEGMENTATIONS = ("cord", "lesion")
STAGES = (*CLASSIFIERS, VISIBLE, *SEGMENTATIONS)
HOW_TO_TRAIN = "train it with configs/train.json (see docs/spinal_cord_cascade.md), or give --{stage}_checkpoint FILE"


class CascadeStages:
    """Load each stage with the surrounding config, in which ``stage`` is set to its name.

    So a config defines one network and one preparation, in terms of the settings in the checkpoint of ``stage``, for
    all stages (and for ``ckpt_export --stage NAME``). An exported ``.ts`` contains its network: the config's is then
    not built.

    Args:
        checkpoints: file (``.pt`` or ``.ts``) of each stage by name. None or "" leaves a classifier out: every series
            passes it. ``cord_visible`` is also left out when its file doesn't exist.
        batch_size: slices per batch, see `SliceStage`.
        device: device of the networks, see `SliceStage`.
        engine: see `monai_ext.inferers.prepare_for_inference`.
        precision: see `monai_ext.inferers.prepare_for_inference`.

    Raises:
        ConfigError: outside a config, for an unknown stage, or when a segmentation is left out.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, str | None],
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        engine: str = "eager",
        precision: str = "fp32",
    ) -> None:
        parser = find_parser()
        if parser is None:
            raise ConfigError("CascadeStages reads the config that it is used in; without one, make each SliceStage")
        unknown = sorted(set(checkpoints) - set(STAGES))
        if unknown:
            raise ConfigError(f"CascadeStages: there is no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
        left_out = [stage for stage in SEGMENTATIONS if not checkpoints.get(stage)]
        if left_out:
            raise ConfigError(f"--{left_out[0]}_checkpoint: is empty, but there is no result without this stage")
        self.files = {stage: Path(checkpoints[stage]) for stage in STAGES if checkpoints.get(stage)}  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.engine = engine
        self.precision = precision
        self._config = parser.get()

    def load(self) -> dict[str, SliceStage]:
        """The stages by name, in the order of the cascade.

        Raises:
            ConfigError: for an engine, precision or device that can't be used.
            WeightsError: before anything is loaded, when a file is missing; when one can't be read, or is from another
                stage or other settings.
        """
        missing = [stage for stage, file in self.files.items() if not file.exists() and stage != VISIBLE]
        if missing:
            more = f" (also missing: {', '.join(missing[1:])})" if missing[1:] else ""
            raise WeightsError(
                f"{self.files[missing[0]]}: no weights of the stage {missing[0]!r}{more}; "
                + HOW_TO_TRAIN.format(stage=missing[0])
            )
        for stage in STAGES:
            if stage not in self.files:
                logger.warning("stage %s: left out, because it has no weights; every series passes it", stage)
            elif not self.files[stage].exists():
                logger.info("stage %s: has no weights at %s; every slice passes it", stage, self.files[stage])
        preparations: dict[int, Compose] = {}
        return {stage: self._load(stage, file, preparations) for stage, file in self.files.items() if file.exists()}

    def _load(self, stage: str, file: Path, preparations: dict[int, Compose]) -> SliceStage:
        saved = network_settings(file)
        if not saved or "image_size" not in saved:
            raise WeightsError(f"{file}: lacks its settings (image_size, classes); export or train it again")
        known, name = self._config.get("networks"), saved.get("architecture")
        if file.suffix != ".ts" and isinstance(known, Mapping) and name is not None and name not in known:
            raise WeightsError(
                f"{file}: its network is {name!r}, which this config doesn't have (networks: {', '.join(known)}); "
                "add it to the config's networks, or export the stage and give its .ts"
            )
        config = self._definition(stage, file)
        # An exported file contains its network, so that none has to be built.
        placeholder = nn.Identity()
        network = placeholder if file.suffix == ".ts" else config.get_parsed_content("network_def")
        network = load_model(network, file, config.get_parsed_content("network_settings"), self.device)
        size = int(saved["image_size"])
        example = torch.rand((1, 1, size, size), generator=torch.Generator().manual_seed(0))
        if size not in preparations:
            preparations[size] = config.get_parsed_content("slice_preparation")
        logger.info("stage %s: %s", stage, file)
        return SliceStage(
            prepare_for_inference(network, self.device, self.engine, self.precision, example),
            preparations[size],
            () if stage in SEGMENTATIONS else _classes(saved, file),
            self.batch_size,
            self.device,
            stage,
            str(file),
        )

    def _definition(self, stage: str, file: Path) -> ConfigParser:
        config = copy.deepcopy(self._config)
        config.update(stage=stage, checkpoint=str(file))
        return ConfigParser(config)


def _classes(saved: Mapping[str, Any], file: Path) -> list[str]:
    names = list(saved.get("classes") or [])
    beside = file.with_name("class_map.json")
    if beside.is_file() and load_class_map(beside) != names:
        raise WeightsError(
            f"{beside}: has the classes {', '.join(load_class_map(beside))}, but {file.name} beside it "
            f"{', '.join(names)}; copy both from one training"
        )
    return names
