import pytest
from trainings import BRATS, CT, NUCLEI, SPINE, SURFACE, Training

from monai_ext.brats import demo as brats
from monai_ext.ct_rate import demo as ct_rate
from monai_ext.nuclei import demo as nuclei
from monai_ext.spine import demo as spine
from monai_ext.surface import demo as surface


@pytest.fixture(scope="session")
def brats_data(tmp_path_factory):
    return brats.make_demo(tmp_path_factory.mktemp("brats"), counts=(5, 8))


@pytest.fixture(scope="session")
def nuclei_data(tmp_path_factory):
    return nuclei.make_demo(tmp_path_factory.mktemp("nuclei") / "data", counts=(4, 4, 4, 4, 1))


@pytest.fixture(scope="module")
def training(brats_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    return Training("brats_resnet50", {**BRATS, "dataset_dir": brats_data, "cache_dir": folder / "cache"}, folder)


@pytest.fixture(scope="module")
def nuclei_training(nuclei_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nuclei_faults")
    return Training("nuclei_vgg3d", {**NUCLEI, "dataset_dir": nuclei_data}, folder)


@pytest.fixture(scope="module")
def surface_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("surface_faults")
    data = surface.make_demo(folder / "data")
    return Training("surface_unet", {**SURFACE, "dataset_dir": data, "index_dir": folder / "index"}, folder)


@pytest.fixture(scope="module")
def ct_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct_faults")
    data = ct_rate.make_demo(folder / "data", counts=(10, 3))
    return Training("ct_rate_multilabel", {**CT, "dataset_dir": data, "cache_dir": folder / "cache"}, folder)


@pytest.fixture(scope="module")
def spine_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spine_faults")
    data = spine.make_demo(folder / "data", patients=5)
    return Training("spinal_cord_cascade", {**SPINE, "dataset_dir": data, "cache_dir": folder / "cache"}, folder)
