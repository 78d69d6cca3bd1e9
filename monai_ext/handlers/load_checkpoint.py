"""An evaluator's network from a file."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.errors import ConfigError, DataError
from monai_ext.handlers.checkpoint import LAST, PREVIOUS
from monai_ext.io import read_json
from monai_ext.networks import load_model
from monai_ext.provenance import saved_provenance

logger = logging.getLogger("monai_ext")

_BEST = "checkpoints/best.pt"


class LoadCheckpoint:
    """Loads an evaluator's network when it starts, so that a bundle without weights can still be inspected.

    MONAI's `CheckpointLoader` takes no exported files, fails on a GPU's checkpoint without ``map_location`` and loads
    weights that were trained under other settings.

    Args:
        network: network of the right architecture; receives the weights of a ``.pt``.
        path: one of our ``.pt`` files or an exported ``.ts``.
        settings: what changes the network's function without changing its keys; must be as in training.
        ensemble: ``cross_validation.json`` of a cross-validation, whose fold networks are averaged instead of ``path``.
        engine, precision: see `monai_ext.inferers.prepare_for_inference`.
        example: shape of an input (1, C, ...), by which faster engines are made and compared.

    What the networks say of the cases that they were trained on is put into ``engine.state.provenances``.

    Raises:
        WeightsError: when the evaluator starts, for a file that is missing, damaged or of other settings.
        ConfigError: when it starts, for an ``ensemble`` that is no cross-validation, or an ``engine`` or ``precision``
            that doesn't fit.
        DataError: when it starts, for an ``ensemble`` that can't be read or has no finished fold.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        path: str | Path,
        settings: Mapping[str, Any] | None = None,
        ensemble: str | Path | None = None,
        engine: str = "eager",
        precision: str = "fp32",
        example: tuple[int, ...] | None = None,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.settings = dict(settings or {})
        self.ensemble = Path(ensemble) if ensemble else None
        self.engine = engine
        self.precision = precision
        self.example = example

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator.

        Args:
            engine: the evaluator.
        """
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Any) -> None:
        """Put the loaded network into the engine.

        Args:
            engine: the evaluator.
        """
        from monai_ext.inferers import FoldEnsemble, prepare_for_inference

        device = engine.state.device
        if self.ensemble is None:
            paths = [self.path]
            network = load_model(self.network, self.path, self.settings, device)
            logger.info("checkpoint: %s", self.path)
        else:
            paths = fold_checkpoints(self.ensemble)
            folds = [load_model(copy.deepcopy(self.network), path, self.settings, device) for path in paths]
            network = FoldEnsemble(folds)
            logger.info("ensemble of %d folds: %s", len(paths), self.ensemble)
        engine.state.provenances = [saved_provenance(path) for path in paths]
        for path, provenance in zip(paths, engine.state.provenances, strict=True):
            if provenance is not None and Path(path).name in (LAST, PREVIOUS):
                provenance["selection"] = "last"
        if None in engine.state.provenances:
            logger.warning("%s says nothing of the cases that it was trained on", self.ensemble or self.path)
        generator = torch.Generator().manual_seed(0)
        example = torch.randn(self.example, generator=generator).to(device) if self.example else None
        engine.network = prepare_for_inference(network, device, self.engine, self.precision, example, paths)


def fold_checkpoints(cross_validation: Path) -> list[Path]:
    """Best checkpoints of the folds that a ``cross_validation.json`` names, relative to the file.

    Args:
        cross_validation: path of the file.

    Raises:
        ConfigError: when it isn't the record of a cross-validation.
        DataError: when the file is missing or damaged, or lists no finished fold.
    """
    content = read_json(cross_validation)
    try:
        paths = [fold.get("checkpoint") or f"{fold['run_dir']}/{_BEST}" for fold in content["folds"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"--ensemble {cross_validation}: is no cross_validation.json (it has no folds)") from error
    if not paths:
        raise DataError("lists no finished fold", cross_validation)
    return [cross_validation.parent / path for path in paths]


def evaluated_checkpoint(output_dir: str | Path, fold: int, default: str | Path) -> str:
    """The main best checkpoint of the newest finished run of a fold, which its ``run.json`` names; where there is no
    finished run, ``default``.

    Args:
        output_dir: folder of the runs.
        fold: number of the fold, from 1.
        default: path of a checkpoint to use without a finished run.
    """
    finished = runs.finished_runs(output_dir, fold)
    return str(best_checkpoint(finished[0]) if finished else default)


def best_checkpoint(run_dir: Path) -> Path:
    """The main best checkpoint of a run, which its ``run.json`` names.

    Args:
        run_dir: the run folder.

    Raises:
        DataError: for a run in which no epoch could be the best.
    """
    named = read_json(run_dir / "run.json").get("best_checkpoint", _BEST)
    if named is None:
        raise DataError("has no best checkpoint, as its metric could not be computed in any epoch", run_dir)
    return run_dir / str(named)
