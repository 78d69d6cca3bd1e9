import ast
import json
import shlex

import pytest

from monai_ext.errors import ConfigError
from monai_ext.handlers.handing_on import inference_command, inference_config, next_command, run_metadata
from monai_ext.predictions import Classification

SHIPPED = {
    "bundle_root": {"_target_": "root"},
    "dataset_dir": {"_target_": "data", "bundle_root": "@bundle_root"},
    "inputs": "@dataset_dir",
    "num_workers": 2,
    "checkpoint": "$@bundle_root + '/models/model.pt'",
    "dropout": 0.5,
    "saved": {"_target_": "saved", "defaults": {"size": 80}},
    "size": "$@saved['size']",
    "classes": {"_target_": "classes", "checkpoint": "@checkpoint"},
    "network_settings": {"size": "@size", "names": "@classes"},
    "network_def": {"_target_": "Net", "dropout": "@dropout"},
    "thresholds": {"_target_": "thresholds", "checkpoint": "@checkpoint"},
    "precision": "fp32",
}
TRAINING = {
    **{name: SHIPPED[name] for name in ("bundle_root", "dataset_dir", "num_workers", "dropout", "network_def")},
    "network_settings": SHIPPED["network_settings"],
    "size": 80,
    "precision": "auto",
}
SETTINGS = {"size": 48, "names": [(1, "x")]}


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "my bundle"
    (folder / "configs").mkdir(parents=True)
    formats = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 2}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "1", "network_data_format": formats}))
    (folder / "configs" / "inference.json").write_text(json.dumps(SHIPPED))
    (folder / "configs" / "train.json").write_text(json.dumps(TRAINING))
    return folder


def test_the_config_of_a_run_has_its_network_and_settings_and_nothing_of_the_bundle(bundle):
    network = {"_target_": "Other", "width": "@width", "dropout": "@dropout"}
    run = {
        **TRAINING,
        "num_workers": 9,
        "dropout": 0.1,
        "precision": "bf16",
        "network_def": network,
        "width": "@x",
        "x": 3,
    }
    found = inference_config(bundle, run, SETTINGS, "checkpoints/best_f1.pt", {"thresholds": [0.25]})
    expected = {
        **SHIPPED,
        "dataset_dir": {"_target_": "data", "bundle_root": "my bundle"},
        "checkpoint": "$@bundle_root + '/checkpoints/best_f1.pt'",
        "dropout": 0.1,
        "size": 48,
        "classes": [[1, "x"]],
        "network_def": network,
        "thresholds": {**SHIPPED["thresholds"], "default": {"thresholds": [0.25]}},
        "width": "@x",
        "x": 3,
    }
    del expected["saved"]
    assert found == expected


def test_where_each_stage_has_a_checkpoint_that_of_the_run_is_its_default(bundle):
    stages = {
        "checkpoint": "$@checkpoints[@stage]",
        "checkpoints": {"a": "@a_pt", "b": "@b_pt"},
        "a_pt": "a",
        "b_pt": "b",
    }
    for stage, key in (("b", "b_pt"), ("only trained", "checkpoint")):
        shipped = {**SHIPPED, **stages, "stage": "a"}
        (bundle / "configs" / "inference.json").write_text(json.dumps(shipped))
        (bundle / "configs" / "train.json").write_text(json.dumps({**TRAINING, "stage": "a"}))
        found = inference_config(bundle, {**TRAINING, "stage": stage}, SETTINGS, "checkpoints/best.pt", {})
        assert found[key] == "$@bundle_root + '/checkpoints/best.pt'"
        assert found["saved"]["defaults"]["size"] == SETTINGS["size"], "of this stage; other checkpoints have their own"
        assert [name for name in ("checkpoint", "a_pt", "b_pt") if found[name] != shipped[name]] == [key]


def test_the_command_names_the_config_of_the_run_and_what_to_predict(bundle):
    config = bundle / "configs" / "inference.json"
    words = shlex.split(inference_command(config))
    assert words == ["python", "-m", "monai.bundle", "run", "--config_file", str(config), "--inputs", "FILE_OR_FOLDER"]
    config.write_text("{}")
    assert shlex.split(inference_command(config))[-2:] == ["--dataset_dir", "FOLDER"]


def test_a_folder_without_metadata_is_no_bundle(tmp_path):
    with pytest.raises(ConfigError, match=f"--bundle_root {tmp_path}: is no bundle, .* no configs/metadata.json; give"):
        run_metadata(tmp_path, (1, 8), None, {})


def test_metadata_are_those_of_the_bundle_made_true_for_the_run(bundle):
    found = run_metadata(bundle, (4, 8, 16, 32), Classification(["x", "y", "z"]), {"size": 8})
    assert found["version"] == "1"
    assert found["network_data_format"]["inputs"]["image"] == {"num_channels": 4, "spatial_shape": [8, 16, 32]}
    assert found["network_data_format"]["outputs"]["pred"] == {
        "type": "probabilities",
        "format": "classification",
        "num_channels": 3,
        "spatial_shape": [1],
        "channel_def": {"0": "x", "1": "y", "2": "z"},
    }
    assert found["settings"] == {"size": 8}
    assert run_metadata(bundle, (1, 8), None, {})["network_data_format"]["outputs"]["pred"] == {"num_channels": 2}


def test_after_one_of_several_stages_the_next_command_is_one_that_needs_no_other_stage(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "inference.json").write_text('{"checkpoint": "$@files[@stage]"}')
    (tmp_path / "config" / "config.json").write_text('{"bundle_root": "/some bundle"}')
    purpose, command = next_command(tmp_path, "checkpoints/best.pt")
    assert purpose == "evaluate"
    *_, files, option, checkpoint = shlex.split(command)
    assert ast.literal_eval(files) == [str(tmp_path / "config" / "config.json"), "/some bundle/configs/evaluate.json"]
    assert (option, checkpoint) == ("--checkpoint", str(tmp_path / "checkpoints" / "best.pt"))
    (tmp_path / "config" / "inference.json").write_text('{"checkpoint": "$@bundle_root + \'/model.pt\'"}')
    assert next_command(tmp_path, "checkpoints/best.pt")[0] == "infer"
