"""From a series to its lesions: the series and slices that each stage admits to the next."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from monai.data import MetaTensor

from monai_ext.errors import ConfigError, DataError
from monai_ext.spine import SeriesImage
from monai_ext.spine.cascade.gate import Gate
from monai_ext.spine.cascade.result import CascadeResult, Findings, Lesion, StageDecision, file_slices, find_lesions
from monai_ext.spine.cascade.stage import SliceStage
from monai_ext.spine.cascade.stages import CLASSIFIERS, SEGMENTATIONS, STAGES, VISIBLE
from monai_ext.spine.voting import METHODS, series_vote


class Stages(Protocol):
    """A source of stages that loads them on demand, such as `CascadeStages`."""

    def load(self) -> Mapping[str, SliceStage]: ...


class SpineCascade:
    """The cascade of anatomy, location and view, sequence, cord, and lesion.

    The classifiers vote over all slices of a series (see `monai_ext.spine.series_vote`); the first that doesn't admit
    it ends the cascade. Then the cord is segmented in each slice (where "cord_visible" finds it, if there is that
    stage; else where the network of "cord" itself does, if it has that output), and lesions in the slices with enough
    cord.

    Args:
        stages: stage by name, or a source that loads them.
        admit: classifier → names of the admitted classes.
        thresholds: 0 to 1, by stage: smallest probability of a classifier ("cord_visible" also without that stage), and
            the probability above which a pixel belongs to ``cord`` and ``lesion``; default 0.5.
        vote: ``"mean"`` or ``"majority"``.
        min_slices: series with fewer slices aren't admitted.
        min_cord_area: least cord area of a slice in which lesions are segmented, in mm² (in pixels without geometry).
        min_lesion_size: smallest lesion, in mm³ (in voxels without geometry).

    Raises:
        ConfigError: for a value out of range or an unknown vote.
    """

    def __init__(
        self,
        stages: Mapping[str, SliceStage] | Stages,
        admit: Mapping[str, Sequence[str]],
        thresholds: Mapping[str, float] | None = None,
        vote: str = "mean",
        min_slices: int = 4,
        min_cord_area: float = 20.0,
        min_lesion_size: float = 0.0,
    ) -> None:
        thresholds = thresholds or {}
        if vote not in METHODS:
            raise ConfigError(f"--vote {vote}: must be one of {', '.join(METHODS)}")
        for name, value in (
            ("min_slices", min_slices),
            ("min_cord_area", min_cord_area),
            ("min_lesion_size", min_lesion_size),
        ):
            if value < 0:
                raise ConfigError(f"--{name} {value}: must be 0 or more")
        self.gates = {
            stage: Gate(tuple(admit.get(stage, ())), float(thresholds.get(stage, 0.5)))
            for stage in (*CLASSIFIERS, VISIBLE)
        }
        self.thresholds = {stage: float(thresholds.get(stage, 0.5)) for stage in SEGMENTATIONS}
        for stage, threshold in {**self.thresholds, VISIBLE: self.gates[VISIBLE].threshold}.items():
            if not 0 <= threshold <= 1:
                raise ConfigError(f"--{stage}_threshold: must be from 0 to 1, got {threshold!r}")
        self.vote = vote
        self.min_slices = min_slices
        self.min_cord_area = min_cord_area
        self.min_lesion_size = min_lesion_size
        self._source = stages
        self._stages: Mapping[str, SliceStage] | None = None

    @property
    def stages(self) -> Mapping[str, SliceStage]:
        """The stages by name, loaded at the first access.

        Raises:
            ConfigError: for a stage without admitted classes, a name in ``admit`` that is no class of its stage, or a
                threshold out of range.
            WeightsError: when one can't be loaded.
        """
        if self._stages is None:
            found = self._source if isinstance(self._source, Mapping) else self._source.load()
            for name, gate in self.gates.items():
                if name in found:
                    gate.check(name, found[name].classes)
            self._stages = found
        return self._stages

    def settings(self) -> dict[str, Any]:
        """The settings of the decisions, for reports."""
        return {
            "admit": {stage: ", ".join(gate.admit) for stage, gate in self.gates.items() if stage in self.stages},
            "threshold": {
                stage: self.gates[stage].threshold if stage in self.gates else self.thresholds[stage]
                for stage in self.stages
            },
            "vote": self.vote,
            "min_slices": self.min_slices,
            "min_cord_area": self.min_cord_area,
            "min_lesion_size": self.min_lesion_size,
        }

    def __call__(self, image: SeriesImage) -> CascadeResult:
        """Run the stages on one series, one after the other.

        Args:
            image: the series.

        Returns:
            The decisions of the stages and, of an admitted series, masks and lesions.

        Raises:
            ConfigError: see `stages`.
            DataError: for values or outputs of a stage that are NaN or infinite, or a series with one value everywhere.
            WeightsError: when a stage can't be loaded, or its outputs are wrong.
        """
        _check(image)
        progress = _Progress(image)
        decisions: list[StageDecision] = []
        for stage in STAGES:
            start = time.perf_counter()
            decision = self._decide(stage, progress)
            decisions.append(replace(decision, seconds=time.perf_counter() - start))
            if not decision.admitted:
                return CascadeResult(tuple(decisions))
        masks, probabilities = progress.masks, progress.probabilities
        findings = Findings(
            masks["cord"], masks["lesion"], probabilities["cord"], probabilities["lesion"], progress.lesions
        )
        return CascadeResult(tuple(decisions), findings)

    def _decide(self, stage: str, progress: _Progress) -> StageDecision:
        if stage not in self.stages:
            return StageDecision(stage, True, "left out: it has no weights")
        if stage in CLASSIFIERS:
            return self._vote(stage, progress)
        if stage == VISIBLE:
            return self._see(progress)
        return self._find_cord(progress) if stage == "cord" else self._find_lesions(progress)

    def _vote(self, name: str, progress: _Progress) -> StageDecision:
        stage, gate = self.stages[name], self.gates[name]
        probabilities = stage.class_probabilities(progress.prepared(stage))
        vote = series_vote(probabilities, stage.classes, self.min_slices, gate.threshold, self.vote, gate.admit)
        details = {
            "label": vote.label,
            "probability": vote.probability,
            "votes": vote.votes,
            "slices": len(probabilities),
            "vote": self.vote,
            "min_slices": self.min_slices,
            "threshold": gate.threshold,
            "admit": list(gate.admit),
        }
        return StageDecision(
            name, vote.admitted, vote.reason, details=details, table=progress.table(stage.classes, probabilities)
        )

    def _see(self, progress: _Progress) -> StageDecision:
        stage, gate = self.stages[VISIBLE], self.gates[VISIBLE]
        probabilities = stage.class_probabilities(progress.prepared(stage))
        visible = probabilities[:, [stage.classes.index(name) for name in gate.admit]].sum(axis=1)
        progress.selected = visible >= gate.threshold
        return StageDecision(
            VISIBLE,
            bool(progress.selected.any()),
            "" if progress.selected.any() else f"no slice is {' or '.join(gate.admit)}",
            details={"slices": progress.chosen(), "threshold": gate.threshold, "admit": list(gate.admit)},
            table=progress.table(stage.classes, probabilities),
        )

    def _find_cord(self, progress: _Progress) -> StageDecision:
        count = len(progress.slices)
        if count < self.min_slices:  # no classifier was there to refuse it
            return StageDecision("cord", False, f"has {count} slices, fewer than {self.min_slices}")
        own = None if VISIBLE in self.stages else self.gates[VISIBLE].threshold
        cord = progress.segment("cord", self.stages["cord"], self.thresholds["cord"], own)
        image = progress.image
        areas = cord.sum(axis=(1, 2)) * image.spacing[1] * image.spacing[2]
        progress.selected = (areas > 0) & (areas >= self.min_cord_area)
        unit = "mm2" if image.has_geometry else "pixels"
        admitted = bool(progress.selected.any())
        return StageDecision(
            "cord",
            admitted,
            "" if admitted else f"no slice shows {self.min_cord_area:g} {unit} of cord (most: {areas.max():.1f})",
            details={
                "slices": progress.chosen(),
                "area_unit": unit,
                "threshold": self.thresholds["cord"],
                "min_cord_area": self.min_cord_area,
                **({} if progress.unseen is None else {"visible_threshold": own, "not_visible": progress.unseen}),
            },
            table=progress.table([f"area_{unit}"], areas[:, None], prefix="cord_"),
        )

    def _find_lesions(self, progress: _Progress) -> StageDecision:
        mask = progress.segment("lesion", self.stages["lesion"], self.thresholds["lesion"])
        kept, progress.lesions = find_lesions(mask, progress.image, self.min_lesion_size)
        progress.masks["lesion"] = kept
        return StageDecision(
            "lesion",
            True,
            details={
                "slices": progress.chosen(),
                "threshold": self.thresholds["lesion"],
                "min_lesion_size": self.min_lesion_size,
                "lesion_count": len(progress.lesions),
                "voxels_of_small_ones": int(mask.sum() - kept.sum()),
            },
            table=progress.table(["pixels"], kept.sum(axis=(1, 2))[:, None], prefix="lesion_"),
        )


class _Progress:
    """State of one series in the cascade: selected slices, masks and lesions so far."""

    def __init__(self, image: SeriesImage) -> None:
        self.image = image
        self.slices = image.slices()
        self.numbers = file_slices(image)
        self.selected = np.ones(len(self.slices), dtype=bool)
        self.masks: dict[str, np.ndarray] = {}
        self.probabilities: dict[str, np.ndarray] = {}
        self.lesions: tuple[Lesion, ...] = ()
        self.unseen: list[int] | None = None
        self._prepared: defaultdict[int, dict[int, MetaTensor]] = defaultdict(dict)

    def prepared(self, stage: SliceStage) -> list[MetaTensor]:
        """The selected slices, prepared once for all stages with the same preparation."""
        known = self._prepared[id(stage.preparation)]
        numbers = np.flatnonzero(self.selected).tolist()
        new = [n for n in numbers if n not in known]
        known.update(zip(new, stage.prepare(self.slices[new]), strict=True))
        return [known[n] for n in numbers]

    def segment(
        self, name: str, stage: SliceStage, threshold: float, visible_threshold: float | None = None
    ) -> np.ndarray:
        """Mask of the selected slices. The others stay empty, and with ``visible_threshold`` also those that the
        network's own output rates as without cord (``unseen``).
        """
        size = self.slices.shape[2:]
        found = np.zeros((len(self.slices), *size), np.float32)
        found[self.selected], visible = stage.mask_probabilities(self.prepared(stage), size)
        if visible is not None and visible_threshold is not None:
            unseen = np.flatnonzero(self.selected)[visible < visible_threshold]
            found[unseen] = 0
            self.unseen = sorted(int(number) for number in self.numbers[unseen])
        self.probabilities[name], self.masks[name] = found, found > threshold
        return self.masks[name]

    def chosen(self) -> list[int]:
        """Numbers of the selected slices, as in the file."""
        return sorted(int(number) for number in self.numbers[self.selected])

    def table(self, names: Sequence[str], values: np.ndarray, prefix: str = "prob_") -> list[dict[str, float]]:
        """One row per slice, in the order of the file."""
        return [
            {"slice": int(self.numbers[n]), **{f"{prefix}{k}": float(v) for k, v in zip(names, values[n], strict=True)}}
            for n in np.argsort(self.numbers)
        ]


def _check(image: SeriesImage) -> None:
    values = image.voxels
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise DataError(f"{bad} of {values.size} values are NaN or infinite; repair or leave out the series")
    if values.min() == values.max():
        raise DataError(f"has the value {values.flat[0]:g} everywhere; there is no image")
