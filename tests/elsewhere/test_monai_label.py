"""The bundles in MONAI Label: its own `BundleInferTask` and `BundleTrainTask` run on them (`make test-label`)."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from small_bundles import AFFINE, BUNDLES, MASKS, SMALL

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own: make test-label")
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.train.bundle import BundleTrainTask

from monai_ext.ct_rate import LABELS


def placed(bundle, folder):
    """A copy of a bundle where the app of MONAI Label has its models, with the weights of a small network."""
    root = folder / "model" / (bundle if bundle in MASKS else f"{bundle}_classification")
    shutil.copytree(BUNDLES / bundle, root)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(root), **SMALL[bundle]})
    torch.manual_seed(0)
    content = {"model": parser.get_parsed_content("network_def").state_dict()}
    content["settings"] = parser.get_parsed_content("network_settings")
    weights = [root / "models" / "model.pt"]
    if bundle == "spinal_cord_cascade":
        weights.append(root / "models" / "lesion" / "model.pt")
        weights[1].parent.mkdir()
    for file in weights:
        torch.save(content, file)
    if bundle == "nuclei_vgg3d":  # a run's own metadata have the classes that it was trained with
        file = root / "configs" / "metadata.json"
        metadata = json.loads(file.read_text())
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "a", "1": "b"}
        file.write_text(json.dumps(metadata))
    return root


def voxels_of(bundle):
    rng = np.random.default_rng(0)
    if bundle == "nuclei_vgg3d":
        return rng.integers(0, 255, (50, 44, 48), np.uint8)
    if bundle == "ct_rate_multilabel":
        values = rng.normal(40, 30, (48, 40, 24))
        values[8:22, 10:30] = values[28:42, 10:30] = rng.normal(-850, 40, (14, 20, 24))
        values[:3] = values[-3:] = -1000
        return values.astype(np.int16)
    return rng.random((30, 36, 6) if bundle == "spinal_cord_cascade" else (40, 36, 20), np.float32) + 0.5


def saved(path, values):
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return str(path)


def answer(bundle, folder):
    """File and record with which a client is answered."""
    task = BundleInferTask(str(placed(bundle, folder)), {})
    assert task.is_valid()
    image = saved(folder / "image.nii.gz", voxels_of(bundle))
    return task({"model": bundle, "image": image, "device": "cpu"})


@pytest.mark.parametrize("bundle", MASKS)
def test_a_segmentation_answers_with_a_mask_in_the_geometry_of_the_image(bundle, tmp_path):
    file, record = answer(bundle, tmp_path)
    mask = nib.load(file)
    assert mask.shape == voxels_of(bundle).shape
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-5)
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) == {0, 1}
    assert list(record["label_names"]) == ["sheet" if bundle == "surface_unet" else "lesion"]


@pytest.mark.parametrize(
    ("bundle", "names"),
    [("brats_resnet50", ["lgg", "hgg"]), ("nuclei_vgg3d", ["a", "b"]), ("ct_rate_multilabel", None)],
)
def test_a_classifier_answers_with_a_score_for_each_label(bundle, names, tmp_path):
    file, record = answer(bundle, tmp_path)
    assert file is None
    found = record["prediction"]
    assert [entry["label"] for entry in found] == (names or [name.lower() for name in LABELS])
    assert all(0 < entry["score"] < 1 for entry in found)


class Datastore:
    """The part of MONAI Label's datastore that a training asks."""

    def __init__(self, pairs):
        self.pairs = pairs

    def datalist(self):
        return self.pairs


class SmallTraining(BundleTrainTask):
    """MONAI Label's training, in seconds; an app of one's own changes settings like this, too."""

    def _update_overrides(self, overrides):
        overrides |= {"num_workers": 0, "plot_every": 0, "batch_size": 2, "tracking_uri": "none"}
        return overrides | {"max_train_batches": 1, "max_val_batches": 1}


@pytest.mark.parametrize("bundle", MASKS)
def test_a_training_starts_with_the_images_and_labels_of_the_datastore(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = placed(bundle, tmp_path)
    small = {"surface_unet": {"patch_size": [16, 32, 32], "f_maps": [8, 16]}}.get(bundle, SMALL[bundle])
    file = root / "configs" / "train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **small}))
    shape = (64, 64, 48) if bundle == "surface_unet" else (30, 36, 6)
    rng, pairs = np.random.default_rng(0), []
    for number in range(4):
        mask = np.zeros(shape, np.uint8)
        mask[4:-4, 4:-4, 1:-1] = rng.random(mask[4:-4, 4:-4, 1:-1].shape) > 0.5
        image = saved(tmp_path / f"image_{number}.nii.gz", rng.random(shape, np.float32))
        pairs.append({"image": image, "label": saved(tmp_path / f"label_{number}.nii.gz", mask)})
    task = SmallTraining(str(root), {})
    assert task.is_valid()
    task({"model": bundle, "device": "cpu", "max_epochs": 1, "val_split": 0.25}, Datastore(pairs))
    (metrics,) = tmp_path.glob("runs/**/metrics.json")
    (epoch,) = json.loads(metrics.read_text())["history"]
    assert np.isfinite([epoch["train_loss"], epoch["val_loss"]]).all()
