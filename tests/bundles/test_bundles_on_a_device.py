"""Validation, evaluation and inference of each bundle with a network whose outputs refuse numpy, as a GPU's do."""

import json

import numpy as np
import pytest
import torch
from bundle_helpers import rows_of
from cascade_files import CLASSES, settings_of, write_series
from device_tensor import emulated_device
from monai.bundle import ConfigParser, run

from monai_ext.networks import CordUNet, SliceClassifier

pytestmark = pytest.mark.slow

BUNDLES = {"brats_resnet50": "brats", "nuclei_vgg3d": "nuclei", "ct_rate_multilabel": "ct", "surface_unet": "surface"}
BEST = {"nuclei_vgg3d": "best_f1"}
WINDOWS = {"patch_size": [16, 32, 32], "batch_size": 2, "chunk_size": 32, "bbox": [[0, 32], [0, 64], [64, 128]]}


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def trained(request, brats_cache, tmp_path_factory, monkeypatch_module):
    """Of a bundle: configs, settings and run folder of a training whose validation was on the emulated device."""
    runs = {}

    def of(bundle):
        if bundle not in runs:
            short = BUNDLES.get(bundle, "spine")
            configs = request.getfixturevalue(f"{short}_configs")
            settings = request.getfixturevalue(f"{short}_settings")
            output = tmp_path_factory.mktemp(short) / "runs"
            with emulated_device(monkeypatch_module) as met:
                run(config_file=str(configs / "train.json"), output_dir=str(output), **{**settings, "plot_every": 1})
            assert met
            (folder,) = output.glob("fold_1/run_*")
            runs[bundle] = configs, settings, folder
        return runs[bundle]

    return of


def metrics_of(folder):
    return json.loads((folder / "metrics" / "metrics.json").read_text())


@pytest.mark.parametrize("bundle", [*BUNDLES, "spinal_cord_cascade"])
def test_a_validation_on_a_device_ends_in_metrics_files_and_plots(trained, bundle):
    _, _, folder = trained(bundle)
    assert metrics_of(folder)["history"][0]["val_loss"] is not None
    assert list((folder / "predictions").glob("*.csv"))
    assert list((folder / "plots").glob("*.png"))


@pytest.mark.parametrize("bundle", [*BUNDLES, "spinal_cord_cascade"])
def test_an_evaluation_on_a_device_gives_the_metrics_of_the_validation(trained, bundle, monkeypatch):
    configs, settings, folder = trained(bundle)
    section = {} if bundle == "brats_resnet50" else {"section": "val"}
    known = ConfigParser.load_config_files([configs / "train.json", configs / "evaluate.json"])
    section = {key: value for key, value in section.items() if key in known}
    best = folder / "checkpoints" / f"{BEST.get(bundle, 'best')}.pt"
    output = folder.parents[1]
    files = [str(configs / name) for name in ("train.json", "evaluate.json")]
    with emulated_device(monkeypatch) as met:
        run(config_file=files, output_dir=str(output), checkpoint=str(best), **settings, **section)
    assert met
    (evaluated,) = output.glob("evaluation/fold_1/run_*")
    assert metrics_of(evaluated)["metrics"]["val_loss"] == pytest.approx(
        metrics_of(folder)["metrics"]["val_loss"], rel=1e-4
    )


def infer(bundle, trained, output, **settings):
    configs, known, folder = trained(bundle)
    config = ConfigParser.load_config_files([configs / "inference.json"])
    given = {key: value for key, value in known.items() if key in config and key not in ("cache_dir", "output_dir")}
    best = folder / "checkpoints" / f"{BEST.get(bundle, 'best')}.pt"
    words = {**given, "checkpoint": str(best), "output_dir": str(output), **settings}
    run(config_file=str(configs / "inference.json"), **words)
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and "ledger" not in path.parts
    }


@pytest.mark.parametrize("bundle", BUNDLES)
def test_inference_on_a_device_writes_the_files_of_the_cpu(trained, bundle, tmp_path, monkeypatch):
    settings = WINDOWS if bundle == "surface_unet" else {}
    expected = infer(bundle, trained, tmp_path / "cpu", **settings)
    with emulated_device(monkeypatch) as met:
        found = infer(bundle, trained, tmp_path / "device", **settings)
    assert met
    assert expected
    assert found == expected


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Checkpoints of all stages of the cascade, narrow and untrained."""
    root = tmp_path_factory.mktemp("stages")
    torch.manual_seed(0)
    for stage, classes in CLASSES.items():
        network = SliceClassifier("resnet18", len(classes)) if classes else CordUNet(features=2)
        settings = settings_of(stage, features=2, image_size=32)
        (root / stage).mkdir()
        torch.save({"model": network.state_dict(), "settings": settings}, root / stage / "model.pt")
    return root


def test_a_series_goes_through_the_whole_cascade_on_a_device(spine_configs, stages, tmp_path, monkeypatch):
    import nibabel as nib

    write_series(tmp_path / "data" / "ann" / "t2.nii.gz", "nifti")
    everything = {
        **{f"{stage}_admit": names for stage, names in CLASSES.items() if names},
        **{f"{stage}_threshold": 0.0 for stage in CLASSES},
        "min_cord_area": 0.0,
        "dataset_dir": str(tmp_path / "data"),
        "models_dir": str(stages),
        "device": "cpu",
        "intermediate": True,
    }
    config = str(spine_configs / "inference.json")
    run(config_file=config, output_dir=str(tmp_path / "cpu"), **everything)
    with emulated_device(monkeypatch) as met:
        run(config_file=config, output_dir=str(tmp_path / "device"), **everything)
    assert {"CordUNet", "SliceClassifier"} <= set(met)
    cpu, device = (tmp_path / name / "ann" / "t2.nii.gz" for name in ("cpu", "device"))
    cpu, device = (folder if folder.exists() else folder.with_name("t2") for folder in (cpu, device))
    for name in ("lesion_prob.nii.gz", "cord_prob.nii.gz"):
        np.testing.assert_array_equal(*(np.asarray(nib.load(folder / name).dataobj) for folder in (cpu, device)))
    assert rows_of(cpu / "slices_anatomy.csv") == rows_of(device / "slices_anatomy.csv")
    assert list((device / "previews").glob("*.png"))
