"""Demo data and small settings of each bundle, and its commands on a device."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import zarr
from cascade_files import CLASSES, settings_of, write_series
from monai.bundle import ConfigParser, run
from trainings import BRATS, BUNDLES, COMMON, CT, NUCLEI, SPINE, SURFACE, Training

from monai_ext.brats import demo as brats
from monai_ext.ct_rate import demo as ct_rate
from monai_ext.networks import CordUNet, SliceClassifier, load_model
from monai_ext.nuclei import demo as nuclei
from monai_ext.spine import demo as spine
from monai_ext.surface import demo as surface


@dataclass(frozen=True)
class Bundle:
    """What is particular to a bundle.

    Attributes:
        demo: writes data into a folder.
        small: settings of a small training, those of the fault tests.
        large: settings of a training whose memory grows with the batch.
        image: shape of a batch with one image.
        best: name of its best checkpoint.
        inference: settings of its inference.
    """

    demo: Callable[[Path], Path]
    small: dict[str, Any]
    large: dict[str, Any]
    image: tuple[int, ...]
    best: str = "best"
    cache: str = "cache_dir"
    inference: dict[str, Any] = field(default_factory=dict)


# The real network, not the small one of the fault tests; for comparisons with feature maps and steps that don't make
# something large of a difference in rounding (a map of one voxel under batch norm does).
_STEADY = {"dilated": True, "lr": 1e-6}
_RESNET50 = {key: value for key, value in BRATS.items() if key != "network_def"}
ALL = {
    "brats_resnet50": Bundle(
        lambda folder: brats.make_demo(folder, counts=(5, 8)),
        {**BRATS, **_STEADY},
        {**_RESNET50, "image_size": 96, "batch_size": 8},
        (1, 1, 32, 32, 32),
    ),
    "nuclei_vgg3d": Bundle(
        lambda folder: nuclei.make_demo(folder, counts=(4, 4, 4, 4, 1)),
        NUCLEI,
        {**NUCLEI, "crop_size": 80, "fmaps": 24, "batch_size": 8},
        (1, 1, 32, 32, 32),
        best="best_f1",
        cache="",
    ),
    "ct_rate_multilabel": Bundle(
        lambda folder: ct_rate.make_demo(folder, counts=(10, 3)),
        CT,
        {**CT, "num_slices": 12, "slice_size": 224, "batch_size": 4},
        (1, 3, 1, 32, 32),
    ),
    "surface_unet": Bundle(
        surface.make_demo,
        SURFACE,
        {**SURFACE, "f_maps": [32, 64], "patch_size": [32, 64, 64], "batch_size": 4},
        (1, 1, 16, 32, 32),
        cache="index_dir",
        inference={
            "patch_size": [16, 32, 32],
            "chunk_size": 32,
            "bbox": [[0, 32], [0, 64], [64, 128]],
            "dtypes": {"sheet": "float32"},
        },
    ),
    "spinal_cord_cascade": Bundle(
        lambda folder: spine.make_demo(folder, patients=5),
        SPINE,
        {**SPINE, "image_size": 320, "features": 16, "batch_size": 16},
        (1, 1, 32, 32),
    ),
}
_SHORT = {"max_epochs": 3, "plot_every": 0, "tracking_uri": "none"}


class Workspace:
    """One bundle with its data, on one device."""

    def __init__(self, name: str, device: torch.device, folder: Path) -> None:
        self.name, self.bundle, self.device, self.folder = name, ALL[name], device, folder
        self.configs = BUNDLES / name / "configs"

    @cached_property
    def data(self) -> Path:
        return self.bundle.demo(self.folder / "data")

    def has(self, setting: str, config: str = "train.json") -> bool:
        """Whether a config has a setting."""
        return setting in json.loads((self.configs / config).read_text())

    def settings(self, **changed: Any) -> dict[str, Any]:
        """Those of a small training with the real network."""
        small = {key: value for key, value in self.bundle.small.items() if key != "network_def"}
        return {**COMMON, **small, **_SHORT, **self._places(), **changed}

    def launched(self) -> Training:
        """Trainings in processes of their own, as the fault tests start them."""
        place = {} if self.device.type == "cuda" else {"device": "cpu"}
        places = {key: value for key, value in self._places().items() if key != "device"}
        return Training(self.name, {**self.bundle.small, **places, **place}, self.folder)

    def train(self, output: Path, overlays: tuple[str, ...] = (), **changed: Any) -> Path:
        """Train (or evaluate) in this process; returns the run folder."""
        files = [str(self.configs / name) for name in ("train.json", *overlays)]
        run(config_file=files, output_dir=str(output), **self.settings(**changed))
        (folder,) = output.glob("evaluation/fold_1/run_*" if overlays else "fold_1/run_*")
        return folder

    def best(self, folder: Path) -> Path:
        return folder / "checkpoints" / f"{self.bundle.best}.pt"

    def infer(self, checkpoint: Path, output: Path, device: torch.device, **changed: Any) -> np.ndarray:
        """All numbers that an inference with an engine predicts, in one row."""
        words = {"device": str(device), "output_dir": str(output), **self.bundle.inference, **changed}
        if self.has("tf32", "inference.json"):
            words["tf32"] = False
        if self.name == "spinal_cord_cascade":
            words |= self._cascade()
        else:
            words |= {"checkpoint": str(checkpoint), "inputs": str(self.data), **self._architecture()}
        if self.has("num_workers", "inference.json"):
            words["num_workers"] = 0
        run(config_file=str(self.configs / "inference.json"), **words)
        return numbers(output)

    def network(self, checkpoint: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
        """The trained network on the CPU, and the arguments that name it to ``ckpt_export``."""
        config = str(self.configs / "inference.json")
        parser = ConfigParser()
        parser.read_config(config)
        words = {"checkpoint": str(checkpoint), **self._architecture()}
        parser.update({"bundle_root": str(self.configs.parent), **words})
        network = load_model(parser.get_parsed_content("network_def"), checkpoint).eval()
        words |= {"net_id": "network_def", "config_file": config, "ckpt_file": str(checkpoint), "key_in_ckpt": "model"}
        return network, words

    def _architecture(self) -> dict[str, Any]:
        """Settings of the small network that an inference isn't told by the checkpoint."""
        names = {"brats_resnet50": ("image_size",), "nuclei_vgg3d": ("crop_size", "margin", "fmaps", "classifier_size")}
        return {name: self.bundle.small[name] for name in names.get(self.name, ())}

    def _places(self) -> dict[str, Any]:
        cache = {self.bundle.cache: str(self.folder / "cache")} if self.bundle.cache else {}
        return {"dataset_dir": str(self.data), "device": str(self.device), **cache}

    def _cascade(self) -> dict[str, Any]:
        """A series, and untrained stages that all let it pass."""
        models, series = self.folder / "models", self.folder / "series"
        if not models.exists():
            write_series(series / "ann" / "t2.nii.gz", "nifti")
            torch.manual_seed(0)
            for stage, classes in CLASSES.items():
                network = SliceClassifier("resnet18", len(classes)) if classes else CordUNet(features=4)
                (models / stage).mkdir(parents=True)
                content = {"model": network.state_dict(), "settings": settings_of(stage, features=4, image_size=64)}
                torch.save(content, models / stage / "model.pt")
        admitted = {f"{stage}_admit": names for stage, names in CLASSES.items() if names}
        passing = {f"{stage}_threshold": 0.0 for stage in CLASSES}
        where = {"dataset_dir": str(series), "models_dir": str(models)}
        return {**where, **admitted, **passing, "min_cord_area": 0.0, "intermediate": True, "previews": False}


def numbers(output: Path) -> np.ndarray:
    """Probabilities in tables, in masks and in Zarr images below a folder."""
    found = []
    for path in sorted(output.rglob("*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found += [float(value) for row in rows for name, value in row.items() if name.startswith("prob_")]
    arrays = [np.asarray(nib.load(path).dataobj) for path in sorted(output.rglob("*_prob.nii.gz"))]
    arrays += [zarr.open_array(str(path / "0"), mode="r")[...] for path in sorted(output.rglob("sheet.zarr"))]
    row = np.concatenate([np.asarray(found), *(np.asarray(array, dtype=np.float64).ravel() for array in arrays)])
    assert row.size
    return row
