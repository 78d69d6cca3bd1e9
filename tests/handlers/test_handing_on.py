import json
import shlex

import pytest

from monai_ext.handlers.handing_on import inference_command, run_metadata
from monai_ext.predictions import Classification

DEFAULTS = {"size": 80, "range": None, "names": ["a", "b"], "device": "$1", "classes": {"_target_": "x"}, "lr": 0.1}


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "my bundle"
    (folder / "configs").mkdir(parents=True)
    formats = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 2}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "1", "network_data_format": formats}))
    (folder / "configs" / "inference.json").write_text(json.dumps(DEFAULTS))
    return folder


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": 80, "range": None, "names": ["a", "b"]}, []),
        ({"size": 40, "range": [1, 99]}, ["--size", "40", "--range", "[1, 99]"]),
        ({"names": ["b"], "classes": [[1, "x"]], "device": "cpu", "unknown": 1}, ["--names", "['b']"]),
    ],
    ids=["defaults", "changed", "only-plain-ones"],
)
def test_the_command_names_what_differs_from_the_defaults(bundle, tmp_path, settings, told):
    words = shlex.split(inference_command(bundle, tmp_path / "best.pt", settings))
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    assert words[4:10] == [
        *("--config_file", str(bundle / "configs" / "inference.json")),
        *("--checkpoint", str(tmp_path / "best.pt"), "--inputs", "FILE_OR_FOLDER"),
    ]
    assert words[10:] == told


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
