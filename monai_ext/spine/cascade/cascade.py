"""From a series to its lesions: which series and slices each stage lets through to the next."""

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
    """Something that has stages when they are needed, such as `CascadeStages`."""

    def load(self) -> Mapping[str, SliceStage]: ...


class SpineCascade:
    """Anatomy, location and view, sequence, cord, lesion.

    The classifiers vote over all slices of a series (see `monai_ext.spine.voting.series_vote`); the first that doesn't
    admit it ends the cascade. Then the cord is segmented in each slice (where "cord_visible" sees it, if there is that
    stage; else where the network of "cord" itself does, if it answers that), and lesions in the slices that show enough
    of it.

    Args:
        stages: by name, or what loads them.
        admit: names of the classes that go on, by classifier.
        thresholds: smallest probability by classifier ("cord_visible" also without that stage), and above which a pixel
            belongs to ``cord`` and ``lesion``; 0.5 where nothing else is said.
        vote: ``"mean"`` or ``"majority"``.
        min_slices: series with fewer aren't admitted.
        min_cord_area: of a slice that goes on to the lesions, in mm² (pixels, for a series without geometry).
        min_lesion_size: smallest lesion, in mm³ (voxels, for a series without geometry).

    Raises:
        ConfigError: for a value out of range, an unknown vote, and, when the stages are loaded, for a name in
            ``admit`` that is no class of its stage.
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
        """The stages by name, loaded when they are first asked for.

        Raises:
            ConfigError: for a name in ``admit`` that is no class of its stage.
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
        """What decides, for reports."""
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
        """Ask the stages about one series, one after the other.

        Raises:
            DataError: for values that are no numbers, and a series that is the same everywhere.
        """
        _check(image)
        passage = _Passage(image)
        decisions: list[StageDecision] = []
        for stage in STAGES:
            start = time.perf_counter()
            decision = self._ask(stage, passage)
            decisions.append(replace(decision, seconds=time.perf_counter() - start))
            if not decision.admitted:
                return CascadeResult(tuple(decisions))
        masks, probabilities = passage.masks, passage.probabilities
        findings = Findings(
            masks["cord"], masks["lesion"], probabilities["cord"], probabilities["lesion"], passage.lesions
        )
        return CascadeResult(tuple(decisions), findings)

    def _ask(self, stage: str, passage: _Passage) -> StageDecision:
        if stage not in self.stages:
            return StageDecision(stage, True, "left out: it has no weights")
        if stage in CLASSIFIERS:
            return self._vote(stage, passage)
        if stage == VISIBLE:
            return self._see(passage)
        return self._find_cord(passage) if stage == "cord" else self._find_lesions(passage)

    def _vote(self, name: str, passage: _Passage) -> StageDecision:
        stage, gate = self.stages[name], self.gates[name]
        probabilities = stage.class_probabilities(passage.prepared(stage))
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
            name, vote.admitted, vote.reason, details=details, table=passage.table(stage.classes, probabilities)
        )

    def _see(self, passage: _Passage) -> StageDecision:
        stage, gate = self.stages[VISIBLE], self.gates[VISIBLE]
        probabilities = stage.class_probabilities(passage.prepared(stage))
        visible = probabilities[:, [stage.classes.index(name) for name in gate.admit]].sum(axis=1)
        passage.looked_at = visible >= gate.threshold
        return StageDecision(
            VISIBLE,
            bool(passage.looked_at.any()),
            "" if passage.looked_at.any() else f"no slice is {' or '.join(gate.admit)}",
            details={"slices": passage.chosen(), "threshold": gate.threshold, "admit": list(gate.admit)},
            table=passage.table(stage.classes, probabilities),
        )

    def _find_cord(self, passage: _Passage) -> StageDecision:
        own = None if VISIBLE in self.stages else self.gates[VISIBLE].threshold
        cord = passage.segment("cord", self.stages["cord"], self.thresholds["cord"], own)
        image = passage.image
        areas = cord.sum(axis=(1, 2)) * image.spacing[1] * image.spacing[2]
        passage.looked_at = (areas > 0) & (areas >= self.min_cord_area)
        unit = "mm2" if image.has_geometry else "pixels"
        admitted = bool(passage.looked_at.any())
        return StageDecision(
            "cord",
            admitted,
            "" if admitted else f"no slice shows {self.min_cord_area:g} {unit} of cord (most: {areas.max():.1f})",
            details={
                "slices": passage.chosen(),
                "area_unit": unit,
                "threshold": self.thresholds["cord"],
                "min_cord_area": self.min_cord_area,
                **({} if passage.unseen is None else {"visible_threshold": own, "not_visible": passage.unseen}),
            },
            table=passage.table([f"area_{unit}"], areas[:, None], prefix="cord_"),
        )

    def _find_lesions(self, passage: _Passage) -> StageDecision:
        mask = passage.segment("lesion", self.stages["lesion"], self.thresholds["lesion"])
        kept, passage.lesions = find_lesions(mask, passage.image, self.min_lesion_size)
        passage.masks["lesion"] = kept
        return StageDecision(
            "lesion",
            True,
            details={
                "slices": passage.chosen(),
                "threshold": self.thresholds["lesion"],
                "min_lesion_size": self.min_lesion_size,
                "lesion_count": len(passage.lesions),
                "voxels_of_small_ones": int(mask.sum() - kept.sum()),
            },
            table=passage.table(["pixels"], kept.sum(axis=(1, 2))[:, None], prefix="lesion_"),
        )


class _Passage:
    """One series on its way through the stages."""

    def __init__(self, image: SeriesImage) -> None:
        self.image = image
        self.slices = image.slices()
        self.numbers = file_slices(image)
        self.looked_at = np.ones(len(self.slices), dtype=bool)
        self.masks: dict[str, np.ndarray] = {}
        self.probabilities: dict[str, np.ndarray] = {}
        self.lesions: tuple[Lesion, ...] = ()
        self.unseen: list[int] | None = None
        self._prepared: defaultdict[int, dict[int, MetaTensor]] = defaultdict(dict)

    def prepared(self, stage: SliceStage) -> list[MetaTensor]:
        """The slices that are looked at, prepared once for all stages that want them the same way."""
        known = self._prepared[id(stage.preparation)]
        numbers = np.flatnonzero(self.looked_at).tolist()
        new = [n for n in numbers if n not in known]
        known.update(zip(new, stage.prepare(self.slices[new]), strict=True))
        return [known[n] for n in numbers]

    def segment(
        self, name: str, stage: SliceStage, threshold: float, visible_threshold: float | None = None
    ) -> np.ndarray:
        """Mask of the slices that are looked at; the others stay empty, and with ``visible_threshold`` those in which
        the network itself says that there is nothing (``unseen``).
        """
        size = self.slices.shape[2:]
        found = np.zeros((len(self.slices), *size), np.float32)
        found[self.looked_at], visible = stage.mask_probabilities(self.prepared(stage), size)
        if visible is not None and visible_threshold is not None:
            unseen = np.flatnonzero(self.looked_at)[visible < visible_threshold]
            found[unseen] = 0
            self.unseen = sorted(int(number) for number in self.numbers[unseen])
        self.probabilities[name], self.masks[name] = found, found > threshold
        return self.masks[name]

    def chosen(self) -> list[int]:
        """Numbers of the slices that are looked at, as in the file."""
        return sorted(int(number) for number in self.numbers[self.looked_at])

    def table(self, names: Sequence[str], values: np.ndarray, prefix: str = "prob_") -> list[dict[str, float]]:
        """A row a slice, in the order of the file."""
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
