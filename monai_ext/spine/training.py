"""Training of all stages of `spinal_cord_cascade`, one after the other."""

from __future__ import annotations

import gc
import logging
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ext import runs
from monai_ext.engines.kept_runs import newest_same
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.data_summary import dataset_hash
from monai_ext.handlers.load_checkpoint import best_checkpoint
from monai_ext.handlers.signals import interrupted_by_sigterm
from monai_ext.io import atomic_path, write_json
from monai_ext.settings import read_bundle_config, recipe_key, recipe_of
from monai_ext.spine.cascade.stages import CLASSIFIERS, SEGMENTATIONS
from monai_ext.spine.class_map import FILE as CLASS_MAP
from monai_ext.spine.heads import SHARING
from monai_ext.spine.split_heads import split_heads

logger = logging.getLogger("monai_ext")

STAGES = (
    "foundation",
    "anatomy",
    "location_view",
    "sequence",
    "cord",
    "cord_visible",
    "lesion_synthetic",
    "lesion",
)
# The three trained together as one network.
SHARED = "classifiers"
_CHOICES = (STAGES[0], SHARED, *STAGES[1:])
# The stage whose best network initialises each stage.
_BEGINS_WITH = {
    **dict.fromkeys((*SHARING, SHARED, "cord_visible"), "foundation"),
    # the cord is where lesions are: from random weights, a network on few small blobs may settle for finding none
    "lesion_synthetic": "cord",
    "lesion": "lesion_synthetic",
}
_ONLY_FOR_TRAINING = ("foundation", "lesion_synthetic")
# Settings that each stage has from here.
_OWN = {"dataset_dir", "output_dir", "resume", "stage"}


class CascadeTraining:
    """Train the stages in their order, each as a run of its own, and collect the networks for inference.

    Runs are written to ``<output_dir>/<stage>``, networks to ``<output_dir>/models/<stage>``: ``model.pt``,
    ``metadata.json``, ``inference.json`` (for exports) and, for classifiers, ``class_map.json``. The warnings of
    all stages are in ``models/summary.json``. A stage that has finished with the same recipe and data is kept, an
    interrupted one is resumed. The stage "classifiers" trains anatomy, location_view and sequence as
    one network with a shared backbone; its results are those of the three.

    Args:
        config_file: the bundle's ``train.json``, alone or with overlays, which override those of the stages.
        dataset_dir: folder of the stages' folders.
        output_dir: folder of all outputs.
        stages: names of the stages to train; without a run of the stage that initialises it, a stage starts from random
            weights.
        overrides: other settings, by key; ``<stage>.<key>`` for one stage alone.

    Raises:
        ConfigError: for an unknown stage, none at all, one that is trained twice, or an override that matches no key,
            is for a stage that isn't trained, or names what each stage has from here.
    """

    def __init__(
        self,
        config_file: str | Sequence[str],
        dataset_dir: str | Path,
        output_dir: str | Path,
        stages: Sequence[str] = STAGES,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if not stages:
            raise ConfigError(f"--stages: names no stage (choices: {', '.join(_CHOICES)})")
        for stage in stages:
            if stage not in _CHOICES:
                raise ConfigError(f"--stages {stage}: unknown (choices: {', '.join(_CHOICES)})")
            if SHARED in stages and stage in SHARING:
                raise ConfigError(f"--stages {stage}: is trained within the stage {SHARED}; name one of the two")
        files = [config_file] if isinstance(config_file, str) else config_file
        self.files = [str(Path(file).absolute()) for file in files]
        self.configs = Path(self.files[0]).parent
        self.stages = [stage for stage in _CHOICES if stage in stages]
        self.output_dir = Path(output_dir).absolute()
        _check_stages(overrides or {}, self.stages)
        self.settings = {stage: _of_stage(overrides or {}, stage) for stage in self.stages}
        for stage, settings in self.settings.items():
            settings |= {"dataset_dir": str(dataset_dir), "output_dir": str(self.output_dir / stage)}
            try:  # all stages are checked before the first is trained
                self._parser(stage, settings)
            except ConfigError as error:
                raise ConfigError(_as_given(str(error), stage, overrides or {})) from None

    @interrupted_by_sigterm()
    def run(self) -> Path:
        """Train all stages that haven't finished.

        Returns:
            Folder of the networks, ``<output_dir>/models``.

        Raises:
            ConfigError: for settings that don't fit each other.
            DataError: for training folders that can't be used, or a stage that left no finished run.
            WriteError: when a network can't be written.
        """
        warnings: list[str] = []
        for stage in self.stages:
            run = self._train(stage)
            warnings += [f"{stage}: {text}" for text in runs.record_of(run).get("warnings", [])]
            if stage == SHARED:
                split_heads(run, self.output_dir / "models")
            elif stage not in _ONLY_FOR_TRAINING:
                self._deliver(stage, run)
        for warning in warnings:
            logger.warning(warning)
        write_json(self.output_dir / "models" / "summary.json", {"stages": self.stages, "warnings": warnings})
        return self.output_dir / "models"

    def prediction_command(self) -> str | None:
        """The command that predicts with the networks; stages without one are left out. None without cord or lesion."""
        models = self.output_dir / "models"
        there = {path.parent.name for path in models.glob("*/model.pt")}
        if not there >= set(SEGMENTATIONS):
            return None
        options = ["--config_file", str(self.configs / "inference.json"), "--models_dir", str(models)]
        options += [word for stage in CLASSIFIERS if stage not in there for word in (f"--{stage}_checkpoint", "")]
        return f"python -m monai.bundle run {shlex.join([*options, '--dataset_dir', 'FOLDER'])}"

    def _files(self, stage: str) -> list[str]:
        overlay = self.configs / f"stage_{stage}.json"  # the last stage is train.json itself
        return [self.files[0], *([str(overlay)] if overlay.exists() else []), *self.files[1:]]

    def _train(self, stage: str) -> Path:
        from monai.bundle import run

        settings = {**self._beginning(stage), **self.settings[stage]}
        parser = self._parser(stage, settings)
        recipe, fold = recipe_key(recipe_of(parser.get())), int(parser.get("fold"))
        data = dataset_hash(parser.get_parsed_content("items"))
        del parser
        output = self.output_dir / stage
        finished = newest_same(runs.finished_runs(output, fold), recipe, data)
        if finished is not None:
            logger.info("%s: finished before, kept: %s", stage, finished)
            return finished
        started = newest_same(runs.RunFolder(output, fold).unfinished(), recipe, data)
        logger.info("%s: training", stage)
        run(config_file=self._files(stage), **{**settings, "resume": str(started) if started else None})
        gc.collect()  # a stage's network lives on in reference cycles of its workflow
        result = newest_same(runs.finished_runs(output, fold), recipe, data)
        if result is None:
            raise DataError(f"stage {stage} left no finished run", output)
        return result

    def _parser(self, stage: str, settings: Mapping[str, Any]) -> Any:
        return read_bundle_config(self._files(stage), settings, self.configs.parent)

    def _beginning(self, stage: str) -> dict[str, str]:
        """The setting that initialises a stage with the best network of its source."""
        source = _BEGINS_WITH.get(stage)
        if source is None:
            return {}
        fold = int(self._parser(stage, self.settings[stage]).get("fold"))
        found = runs.finished_runs(self.output_dir / source, fold)
        if not found:
            logger.info("%s: there is no finished run of %s to begin with", stage, source)
            return {}
        return {"pretrained_path": str(best_checkpoint(found[0]))}

    def _deliver(self, stage: str, run: Path) -> None:
        checkpoint = best_checkpoint(run)
        files = {
            "model.pt": checkpoint,
            "metadata.json": run / "config" / "metadata.json",
            CLASS_MAP: checkpoint.with_name(CLASS_MAP),
            "inference.json": run / "config" / "inference.json",
        }
        for name, source in files.items():
            if source.exists():
                with atomic_path(self.output_dir / "models" / stage / name) as temporary:
                    shutil.copyfile(source, temporary)


def _check_stages(overrides: Mapping[str, Any], stages: Sequence[str]) -> None:
    """Refuse overrides that would change nothing, or make a stage another one."""
    for key in overrides:
        stage, _, setting = key.rpartition(".")
        if stage in _CHOICES and stage not in stages:
            raise ConfigError(f"--{key}: changes nothing, as --stages has no {stage} (it has {', '.join(stages)})")
        if setting in _OWN and stage in ("", *_CHOICES):
            raise ConfigError(f"--{key}: train-cascade gives each stage its own; leave it out")


def _as_given(sentence: str, stage: str, overrides: Mapping[str, Any]) -> str:
    """A sentence about the settings of a stage, with those that are its own named as they were given."""
    for key in overrides:
        if key.startswith(f"{stage}."):
            sentence = re.sub(rf"--{re.escape(key.removeprefix(f'{stage}.'))}(?![\w#])", f"--{key}", sentence)
    return sentence


def _of_stage(overrides: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The settings of one stage: common ones, overridden by those with its name as prefix."""
    common = {key: value for key, value in overrides.items() if key.partition(".")[0] not in _CHOICES}
    return common | {
        key.removeprefix(f"{stage}."): value for key, value in overrides.items() if key.startswith(f"{stage}.")
    }
