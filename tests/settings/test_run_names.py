import pytest

from monai_ext.io import write_json
from monai_ext.settings.run_names import run_title

SHIPPED = {
    **{
        "output_dir": "runs",
        "fold": 1,
        "max_epochs": 50,
        "lr": 1e-4,
        "modality": "flair",
        "dilated": False,
        "patience": 7,
        "max_m": 0.5,
    },
    **{"pretrained_path": None, "targets": {"sheet": {}}, "task": "grading", "a": 1, "b": 1, "c": 1},
}


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "brats_resnet50"
    write_json(folder / "configs" / "train.json", SHIPPED)
    return folder


@pytest.mark.parametrize(
    ("changed", "title"),
    [
        ({}, "brats"),
        ({"modality": "t1ce", "lr": 5e-4, "fold": 2, "output_dir": "elsewhere"}, "brats t1ce lr=5e-4"),
        (
            {"max_epochs": 3, "dilated": True, "patience": None, "max_m": 0.25},
            "brats dilated=true patience=null max_m=0.25 max_epochs=3",
        ),
        ({"pretrained_path": "/data/med3d.pth", "lr": 1.25e-05}, "brats pretrained_path=med3d.pth lr=1.25e-5"),
        ({"targets": {"sheet": {"weight": 2}}, "task": "$'x'"}, "brats targets=…"),
        (
            {"lr": 0.1, "modality": "t2", "dilated": True, "patience": 1, "max_m": 0.1, "a": 2, "b": 2, "c": 2},
            "brats t2 lr=0.1 dilated=true patience=1 max_m=0.1 a=2 +2",
        ),
    ],
    ids=["nothing", "example", "kinds", "path", "table and expression", "many"],
)
def test_a_run_s_name_tells_what_was_set(bundle, changed, title):
    assert run_title(bundle, {**SHIPPED, **changed, "added": 1}) == title


def test_bundles_of_others_have_their_names_too(tmp_path):
    names = ("ct_rate_multilabel", "surface_unet", "mine")
    assert [run_title(tmp_path / name, {"lr": 1}) for name in names] == ["ct_rate", "surface", "mine"]
