"""Predictions that version 7824e8e began go on: names and content of what lies in their folder ``ledger``."""

import json
import shutil

import torch
from zarr_helpers import TwoHeads, predictor, tree, volume

from monai_ext.inferers import ZarrPrediction

FIRST = {
    "chunks": {
        "sheet": ["0/c/0/0/0", "0/c/0/0/1", "0/c/0/1/0", "0/c/0/1/1"],
        "normals": ["0/c/0/0/0/0", "0/c/0/0/0/1", "0/c/0/0/1/0", "0/c/0/0/1/1"],
    }
}
WITH_VALUES = {"name": "sheet", "channels": 1, "activation": "sigmoid", "kind": "scores", "dtype": "uint8"}
WITH_VECTORS = {"name": "normals", "channels": 3, "activation": "none", "kind": "vectors", "dtype": "uint16"}
SETTINGS = {
    "sha256": "not compared",
    "network": {
        "type": "TwoHeads",
        "weights": "ca66cf489b0113dae22c147ba5dfa0b5197761b188f3beb486c3729f8294cd1a",
    },
    "engine": "eager",
    "precision": "fp32",
    "normalize": None,
    "test_time_flips": [],
    "mask": None,
    "bbox": None,
    "shape": [16, 16, 16],
    "roi_size": [8, 12, 12],
    "overlap": [0.25, 0.25, 0.25],
    "mode": "gaussian",
    "batch_size": 4,
    "block_size": [8, 16, 16],
    "chunk_size": [8, 8, 8],
    "shard_size": None,
    "zarr_format": 3,
    "targets": {"sheet": WITH_VALUES, "normals": WITH_VECTORS},
    "device": "cpu",
    "torch": torch.__version__,
}


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def test_an_earlier_prediction_goes_on(tmp_path):
    """The block that is recorded isn't computed again, and the result has the same bytes as an undisturbed one."""
    source, output = tmp_path / "in.zarr", tmp_path / "out"
    volume(source, (16, 16, 16))
    predictor(device="cpu", pyramid_levels=1)(source, tmp_path / "whole")
    # Sizes and times of the input's files, which the test can't know beforehand.
    written = json.loads((tmp_path / "whole/ledger/settings.json").read_text())
    earlier = {**SETTINGS, "input": written["input"], "threads": written["threads"]}
    assert set(written["input"]) == {"path", "shape", "dtype", "chunks"}
    shutil.copytree(tmp_path / "whole", output)
    shutil.rmtree(output / "ledger")
    for second_block in ("sheet.zarr/0/c/1", "normals.zarr/0/c/0/1", "sheet.zarr/1", "normals.zarr/1"):
        shutil.rmtree(output / second_block)
    write(output / "ledger/settings.json", earlier)
    write(output / "ledger/blocks/00000000.json", FIRST)
    assert ZarrPrediction(output).missing_blocks() == [1]
    assert ZarrPrediction(output).verify() == []
    network = TwoHeads()
    done = predictor(network, device="cpu", pyramid_levels=1)(source, output)
    assert (done.blocks, done.ready, done.complete) == (1, 1, True)
    settings = "ledger/settings.json"
    found, expected = tree(output), tree(tmp_path / "whole")
    assert json.loads(found.pop(settings)) == earlier
    assert {**json.loads(expected.pop(settings)), "sha256": "not compared"} == earlier
    assert found == expected


def test_one_of_a_gpu_from_before_tf32_was_a_setting_goes_on_with_tf32(tmp_path, on_gpu):
    volume(tmp_path / "in.zarr")
    on_gpu(True).job(tmp_path / "in.zarr", tmp_path / "out")
    file = tmp_path / "out" / "ledger" / "settings.json"
    settings = json.loads(file.read_text())
    assert settings.pop("tf32") is True
    file.write_text(json.dumps(settings))
    on_gpu(True).job(tmp_path / "in.zarr", tmp_path / "out")
