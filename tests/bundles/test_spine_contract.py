"""`spinal_cord_cascade` end to end: the lesions' network is trained, the other stages go by rules."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_helpers import rows_of
from cascade_files import RULES, write_series, write_stages
from contract import BundleContract
from monai.bundle import ConfigParser, run

from monai_ext.errors import IncompleteError


@pytest.mark.slow
class TestSpine(BundleContract):
    bundle = "spinal_cord_cascade"
    seen_in_inference = frozenset()
    short = "spine"
    recipe = {"max_epochs": 2, "previews": 2}
    model = "lesion/model.pt"
    files = (
        "predictions/val_slices.csv",
        "predictions/val_patients.csv",
        *(f"previews/epoch_000{epoch}.png" for epoch in (1, 2)),
    )
    scores = ("dice", "iou", "pooled_dice", "val_loss")
    other = ({"image_size": 64}, "image_size: checkpoint 32, configured 64")
    nan_error = IncompleteError
    not_conforming = {"inference": "anatomy"}

    def infer(self, data, checkpoint, output, **settings):
        given = {**self.given(Path(output).with_name(f"{Path(output).name} in")), **settings}
        checkpoints = {"lesion_checkpoint": str(checkpoint), "output_dir": str(output)}
        run(config_file=self.config("inference"), device="cpu", previews=False, **checkpoints, **given)
        return self.predictions(Path(output))

    def given(self, folder):
        """A series that is admitted, and the stages that admit it."""
        write_series(folder / "data" / "ann" / "t2.nii.gz", "nifti")
        write_stages(folder / "models", leave_out=("lesion",), image_size=32)
        stages = {f"{name}_checkpoint": str(folder / f"models/{name}/model.ts") for name in RULES if name != "lesion"}
        return {"dataset_dir": str(folder / "data"), **stages}

    def predictions(self, folder):
        """Name of the file → its values: nothing outside the cord."""
        found = {path.name: nib.load(path).get_fdata() for path in folder.rglob("lesion_prob.nii.gz")}
        assert len(found) == 1
        assert np.ptp(found["lesion_prob.nii.gz"]) > 0
        return found

    def words(self, data, bundle):
        return self.given(bundle.with_name("given"))

    def written(self, folder):
        return sorted(path.name for path in folder.rglob("lesion*.nii.gz"))

    def test_inference_repeats_the_validation_with_nothing_but_the_checkpoint(
        self, trained, data, settings, checkpoint, tmp_path
    ):
        """No series has the slices of the training's folders: it is network and preparation that are compared."""
        training, inference = ConfigParser(), ConfigParser()
        training.read_config(self.config("train"))
        training.update({**settings, "output_dir": str(tmp_path), "bundle_root": str(tmp_path)})
        inference.read_config(self.config("inference"))
        inference.update({"checkpoint": checkpoint})
        prepare, network = inference.get_parsed_content("slice_preparation"), self.eager(checkpoint)
        loss, (load,) = (training.get_parsed_content(key) for key in ("train#loss_function", "loading"))
        items = {item["case"]: item for item in training.get_parsed_content("items")["val"]}
        rows = rows_of(trained / "predictions" / "val_slices.csv")
        assert rows
        for row in rows:
            sample = prepare(load(dict(items[row["case"]])))
            image, label = (torch.as_tensor(sample[key])[None] for key in ("image", "mask"))
            with torch.inference_mode():
                logits = network(image)
                assert float(loss(logits, label)) == pytest.approx(float(row["loss"]), rel=1e-4)
            assert int((logits > 0).sum()) == pytest.approx(int(row["predicted_pixels"]), abs=1)
