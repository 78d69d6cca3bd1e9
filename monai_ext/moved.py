"""Old names of modules and their contents, kept for one version with a warning."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# A module, or all below a package.
MODULES = {
    "monai_ext.data.brats": "monai_ext.brats",
    "monai_ext.brats.data": "monai_ext.brats",
    "monai_ext.data.nuclei": "monai_ext.nuclei",
    "monai_ext.data.ct_rate": "monai_ext.ct_rate",
    "monai_ext.data.surface": "monai_ext.surface",
    "monai_ext.data.spine": "monai_ext.spine",
    "monai_ext.inferers.cascade": "monai_ext.spine.cascade",
    "monai_ext.engines.cascade_training": "monai_ext.spine.training",
    "monai_ext.overrides": "monai_ext.settings",
    "monai_ext.reports.document": "monai_ext.pages.document",
    "monai_ext.reports.style": "monai_ext.pages.style",
}
# Translates arguments that have changed with the name.
_OLD = "monai_ext.handlers.old_names"
# Package -> name -> the module it is in now, with the new name where that is another.
NAMES = {
    "monai_ext.transforms": {
        "LoadChestCTd": "monai_ext.ct_rate.transforms",
        "LoadSliced": "monai_ext.spine.load_slice",
    },
    "monai_ext.handlers": {
        "SaveClassMap": "monai_ext.spine.class_map",
        **dict.fromkeys(
            ("ClassificationOutputs", "HeadOutputs", "MultiLabelOutputs", "SegmentationOutputs", "TargetOutputs"), _OLD
        ),
        **dict.fromkeys(("MultiLabelWriter", "PredictionWriter"), _OLD),
    },
    "monai_ext.metrics": {
        **dict.fromkeys(("ClassificationCases", "HeadCases", "MultiLabelCases", "reliability_curve"), _OLD),
        **dict.fromkeys(("MultiTargetPatches", "SegmentationCases"), _OLD),
        "bootstrap_intervals": "monai_ext.metrics.bootstrap:classification_intervals",
    },
    "monai_ext.inferers": {
        "CascadeBatch": "monai_ext.spine.cascade.batch",
        "CascadeResult": "monai_ext.spine.cascade.result",
        "CascadeStages": "monai_ext.spine.cascade.stages",
        "SliceStage": "monai_ext.spine.cascade.stage",
        "SpineCascade": "monai_ext.spine.cascade.cascade",
        "Vote": "monai_ext.spine.voting",
        "series_vote": "monai_ext.spine.voting",
        "surface_predictor": "monai_ext.surface.predictor",
    },
    "monai_ext.spine": {"sample_weights": "monai_ext.spine.balance:class_sample_weights"},
    "monai_ext.reports": {
        "overlay_figure": "monai_ext.spine.overlay",
        "write_batch_report": "monai_ext.spine.report",
    },
}


# Successors of the names in `_OLD`.
SUCCESSORS = {
    **dict.fromkeys(("ClassificationCases", "ClassificationOutputs"), "monai_ext.predictions.Classification"),
    **dict.fromkeys(("HeadCases", "HeadOutputs"), "monai_ext.predictions.Classification with heads=True"),
    **dict.fromkeys(("MultiLabelCases", "MultiLabelOutputs"), "monai_ext.predictions.MultiLabel"),
    **dict.fromkeys(("SegmentationCases", "SegmentationOutputs"), "monai_ext.predictions.Masks"),
    **dict.fromkeys(("MultiTargetPatches", "TargetOutputs"), "monai_ext.predictions.Patches"),
    **dict.fromkeys(("MultiLabelWriter", "PredictionWriter"), "monai_ext.handlers.WritePredictions"),
    "reliability_curve": "sklearn.calibration.calibration_curve",
}


def moved_name(package: str, name: str) -> Any:
    """The object that a package once exported under a name; for its ``__getattr__``.

    Raises:
        AttributeError: when it never did.
    """
    place = NAMES.get(package, {}).get(name)
    if place is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module, _, new = place.partition(":")
    new = new or name
    _warn(f"{package}.{name}", SUCCESSORS[name] if module == _OLD else f"{module}.{new}", stacklevel=4)
    return getattr(importlib.import_module(module), new)


class MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules under their old names: the module of the new name itself, not a copy."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        new = _new_name(name)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        return importlib.util.spec_from_loader(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = _new_name(spec.name)
        assert new is not None
        _warn(spec.name, new, stacklevel=8)
        module = importlib.import_module(new)
        # The import system writes the old spec into the module that it gets; `exec_module` puts this one back.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            module.__spec__ = spec.loader_state


def _new_name(name: str) -> str | None:
    for old, new in MODULES.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next version", DeprecationWarning, stacklevel)
