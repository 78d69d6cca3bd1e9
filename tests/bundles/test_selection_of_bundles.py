"""`--selection inner` in every bundle: the fold is as ever, apart from where the epoch is chosen, evaluated once."""

import json
from pathlib import Path

import pytest
from bundle_helpers import SMALL_RESNET, only_run, rows_of
from monai.bundle import run

from monai_ext.settings import read_bundle_config

ROOT = Path(__file__).parents[2] / "bundles"
SHORT = {
    "brats_resnet50": ("brats", {"network_def": SMALL_RESNET}),
    "ct_rate_multilabel": ("ct", {}),
    "nuclei_vgg3d": ("nuclei", {}),
    "spinal_cord_cascade": ("spine", {"max_val_batches": None}),
    "surface_unet": ("surface", {"max_val_batches": None}),
}


def names(items):
    return {str(item.get("patient", item["case"])) for item in items}


def test_all_bundles_are_here():
    assert set(SHORT) == {path.name for path in ROOT.iterdir() if path.is_dir()}


@pytest.mark.parametrize("bundle", SHORT)
@pytest.mark.slow
def test_the_epoch_is_chosen_on_an_inner_part_and_the_fold_is_reported(bundle, request, tmp_path):
    short, changed = SHORT[bundle]
    settings = {**request.getfixturevalue(f"{short}_settings"), **changed, "max_epochs": 2}
    if bundle == "spinal_cord_cascade":
        settings["dataset_dir"] = str(request.getfixturevalue("spine_data"))
    settings |= {"selection": "inner", "inner_fraction": 0.4, "output_dir": str(tmp_path / "runs")}
    config = str(ROOT / bundle / "configs" / "train.json")
    inner, plain = (
        read_bundle_config(config, {**settings, "selection": rule}, str(tmp_path)).get_parsed_content("items")
        for rule in ("inner", "best")
    )
    assert [item["case"] for item in inner["val"]] == [item["case"] for item in plain["val"]]
    assert "inner" not in plain
    assert names(inner["train"]) | names(inner["inner"]) <= names(plain["train"])
    assert not names(inner["inner"]) & (names(inner["train"]) | names(inner["val"]))

    run(config_file=config, **settings)
    folder = only_run(tmp_path / "runs")
    content = json.loads((folder / "metrics" / "metrics.json").read_text())
    assert content["selection"]["rule"] == "inner"
    assert content["selection"]["optimistic"] is False
    assert "evaluated once" in content["selection"]["sentence"]
    rows = rows_of(folder / content["predictions"])
    assert {row["case"] for row in rows} == {item["case"] for item in inner["val"]}
    sizes = json.loads((folder / "run.json").read_text())["data"]["sizes"]
    assert sizes["inner"] == len({item["case"] for item in inner["inner"]})
