from pathlib import Path

import pytest
from bundle_helpers import SMALL_RESNET

from monai_ext.brats import demo as brats
from monai_ext.ct_rate import demo as ct_rate
from monai_ext.nuclei import demo as nuclei
from monai_ext.spine import demo as spine
from monai_ext.surface import demo as surface

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def brats_data(tmp_path_factory):
    """Thirteen subjects in BraTS' own layout."""
    return brats.make_demo(tmp_path_factory.mktemp("brats"), counts=(5, 8))


@pytest.fixture(scope="session")
def brats_configs():
    return ROOT / "bundles" / "brats_resnet50" / "configs"


@pytest.fixture(scope="session")
def brats_cache(tmp_path_factory):
    """Prepared volumes, shared by the tests: preparation is tested elsewhere."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="session")
def brats_settings(brats_data, brats_cache):
    """Overrides of a training with the real network in a few seconds."""
    return {
        "dataset_dir": str(brats_data),
        "cache_dir": str(brats_cache),
        "num_folds": 3,
        "image_size": 32,
        "batch_size": 4,
        "max_epochs": 1,
        "max_train_batches": 1,
        "drw_start_epoch": 1,  # an evaluation's loss has the weights of the later epochs
        "num_workers": 0,
        "plot_every": 0,
        "channels_last": False,
        "tracking_uri": "none",
    }


@pytest.fixture
def short_run(brats_settings, tmp_path):
    """Overrides of a training of two epochs with a small network, and where it goes."""
    changed = {"max_epochs": 2, "drw_start_epoch": 2, "network_def": SMALL_RESNET}
    return {**brats_settings, **changed, "output_dir": str(tmp_path / "runs")}


@pytest.fixture(scope="session")
def nuclei_data(tmp_path_factory):
    """Four nuclei of each of four classes with the ids 1, 2, 4, 5, and one that is unclassified."""
    return nuclei.make_demo(tmp_path_factory.mktemp("nuclei") / "data", counts=(4, 4, 4, 4, 1))


@pytest.fixture(scope="session")
def nuclei_configs():
    return ROOT / "bundles" / "nuclei_vgg3d" / "configs"


@pytest.fixture(scope="session")
def nuclei_settings(nuclei_data):
    """Overrides of a training with a narrow network in a few seconds."""
    return {
        "dataset_dir": str(nuclei_data),
        "num_folds": 2,
        "test_fraction": 0.25,
        "crop_size": 40,
        "margin": 4,
        "fmaps": 4,
        "classifier_size": 16,
        "batch_size": 8,
        "max_epochs": 1,
        "num_workers": 0,
        "plot_every": 0,
        "channels_last": False,
        "tracking_uri": "none",
    }


@pytest.fixture(scope="session")
def surface_data(tmp_path_factory):
    """One volume with eight labelled regions."""
    return surface.make_demo(tmp_path_factory.mktemp("surface") / "data")


@pytest.fixture(scope="session")
def surface_configs():
    return ROOT / "bundles" / "surface_unet" / "configs"


@pytest.fixture(scope="session")
def surface_settings(surface_data, tmp_path_factory):
    """Overrides of a training with a narrow, shallow network in a few seconds."""
    return {
        "dataset_dir": str(surface_data),
        "index_dir": str(tmp_path_factory.mktemp("index")),
        "patch_size": [16, 32, 32],
        "f_maps": [8, 16],
        "batch_size": 2,
        "max_epochs": 1,
        "max_train_batches": 2,
        "max_val_batches": 2,
        "num_workers": 0,
        "plot_every": 0,
        "tracking_uri": "none",
    }


@pytest.fixture(scope="session")
def ct_data(tmp_path_factory):
    """Volumes of ten patients and three of CT-RATE's validation set."""
    return ct_rate.make_demo(tmp_path_factory.mktemp("ct") / "data", counts=(10, 3))


@pytest.fixture(scope="session")
def ct_configs():
    return ROOT / "bundles" / "ct_rate_multilabel" / "configs"


@pytest.fixture(scope="session")
def ct_settings(ct_data, tmp_path_factory):
    """Overrides of a training with a small backbone on few, small slices in some seconds."""
    return {
        "dataset_dir": str(ct_data),
        "cache_dir": str(tmp_path_factory.mktemp("ct_prepared")),
        "backbone": "resnet18",
        "num_folds": 2,
        "num_slices": 3,
        "slice_size": 32,
        "batch_size": 2,
        "max_epochs": 1,
        "max_train_batches": 1,
        "num_workers": 0,
        "plot_every": 0,
        "channels_last": False,
        "tracking_uri": "none",
    }


@pytest.fixture(scope="session")
def spine_data(tmp_path_factory):
    """Training folders of all stages, of five patients."""
    return spine.make_demo(tmp_path_factory.mktemp("spine") / "data", patients=5)


@pytest.fixture(scope="session")
def spine_configs():
    return ROOT / "bundles" / "spinal_cord_cascade" / "configs"


@pytest.fixture(scope="session")
def spine_settings(spine_data, tmp_path_factory):
    """Overrides of a training on few, small slices in some seconds."""
    return {
        "dataset_dir": str(spine_data),
        "cache_dir": str(tmp_path_factory.mktemp("spine_prepared")),
        "num_folds": 2,
        "image_size": 32,
        "synthetic_size": [3, 5],
        "features": 4,
        "batch_size": 8,
        "max_epochs": 1,
        "max_train_batches": 1,
        "max_val_batches": 2,
        "num_workers": 0,
        "plot_every": 0,
        "channels_last": False,
        "tracking_uri": "none",
    }
