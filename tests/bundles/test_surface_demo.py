"""The whole demo of `surface_unet`."""

import json

import numpy as np
import pytest
import zarr
from bundle_helpers import evaluation, only_run, run_demo

from monai_ext.inferers import ZarrPrediction
from monai_ext.networks import network_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One command from made-up data to exports; data and runs."""
    return run_demo("surface_unet", tmp_path_factory.mktemp("demo"))


def test_sheets_and_normals_are_found_in_a_region_that_was_held_out(demo):
    metrics = evaluation(demo[1])["metrics"]
    print({name: round(metrics[name], 3) for name in ("sheet_dice", "normals_angle")})
    assert metrics["sheet_dice"] >= 0.8
    assert metrics["normals_angle"] <= 15


def test_the_whole_volume_is_predicted_and_the_network_exported(demo):
    data, runs = demo
    folder = runs / "inference" / "scroll_1"
    assert ZarrPrediction(folder).missing_blocks() == []
    label = zarr.open_array(str(data / "scroll_1" / "sheet.zarr"), mode="r")[...] > 0
    found = zarr.open_array(str(folder / "sheet.zarr" / "0"), mode="r")[...] >= 128
    # Where there are labels at all: in the boxes of the labelled regions, each sheet and what lies between.
    regions = np.zeros(label.shape, bool)
    for patch in json.loads((runs / "index" / "patches.json").read_text()):
        regions[tuple(slice(s, s + e) for s, e in zip(patch["start_pos"], (32, 48, 48), strict=True))] = True
    overlap = 2 * (label & found & regions).sum() / (label[regions].sum() + found[regions].sum())
    assert overlap >= 0.8
    run = only_run(runs)
    assert network_settings(run / "model.ts") == network_settings(run / "checkpoints" / "best.pt")
    assert (run / "model.onnx").stat().st_size > 0
