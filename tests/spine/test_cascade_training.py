"""Stages trained one after the other, and again."""

import json
import shlex
import shutil

import pytest
import torch
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_ext import runs
from monai_ext.cli.app import app
from monai_ext.errors import ConfigError
from monai_ext.networks import load_model, network_settings
from monai_ext.settings import find_bundle
from monai_ext.spine import demo
from monai_ext.spine.training import CascadeTraining

pytestmark = pytest.mark.slow

SETTINGS = {
    "num_folds": 2,
    "image_size": 32,
    "synthetic_size": [3, 5],
    "features": 4,
    "batch_size": 8,
    "max_epochs": 1,
    "max_train_batches": 1,
    "max_val_batches": 1,
    "num_workers": 0,
    "plot_every": 0,
    "channels_last": False,
    "tracking_uri": "none",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demo.make_demo(tmp_path_factory.mktemp("cascade") / "data", patients=5)


def train(data, output, *words, **changed):
    """The command line; gives the folders of all runs."""
    settings = {**SETTINGS, **changed}
    command = ["train-cascade", "--dataset_dir", data, "--output_dir", output, *words]
    command += [word for key, value in settings.items() for word in (f"--{key}", value)]
    done = CliRunner().invoke(app, [str(word) for word in command], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"networks: {output / 'models'}"
    return sorted(output.glob("*/fold_1/run_*"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Both stages of the lesions."""
    output = tmp_path_factory.mktemp("output")
    return output, train(data, output, "--stages", "lesion lesion_synthetic", **{"lesion.max_epochs": 2})


def parameters(run):
    return json.loads((run / "run.json").read_text())["parameters"]


def test_a_stage_begins_with_the_best_network_of_its_source(trained):
    _, (lesion, synthetic) = trained
    assert parameters(lesion)["pretrained_path"] == str(synthetic / "checkpoints" / "best.pt")
    assert (parameters(lesion)["max_epochs"], parameters(synthetic)["max_epochs"]) == (2, 1)


def test_networks_for_inference_are_put_together(trained):
    output, (lesion, synthetic) = trained
    models = output / "models"
    assert {str(path.relative_to(models)) for path in models.rglob("*.*")} == {
        "lesion/model.pt",
        "lesion/metadata.json",
        "lesion/inference.json",
        "summary.json",
    }
    assert json.loads((models / "summary.json").read_text())["warnings"] == [
        f"{run.parts[-3]}: {text}"
        for run in (synthetic, lesion)
        for text in json.loads((run / "run.json").read_text())["warnings"]
    ]
    assert network_settings(models / "lesion" / "model.pt")["stage"] == "lesion"
    assert (models / "lesion" / "model.pt").read_bytes() == (lesion / "checkpoints" / "best.pt").read_bytes()


def test_finished_stages_are_kept_and_an_interrupted_one_goes_on(trained, data, tmp_path):
    before, _ = trained
    output = tmp_path / "output"
    shutil.copytree(before, output)
    for run in output.glob("*/fold_1/run_*"):
        record = json.loads((run / "run.json").read_text())
        if run.parts[-3] == "lesion":
            record["status"] = runs.KILLED
        (run / "run.json").write_text(json.dumps(record))
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*.pt")}
    folders = train(data, output, "--stages", "lesion lesion_synthetic", **{"lesion.max_epochs": 2})
    assert len(folders) == 2
    changed = {path.relative_to(output).parts[0] for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"models"}
    assert [json.loads((run / "run.json").read_text())["status"] for run in folders] == ["finished"] * 2


def test_another_setting_trains_anew(trained, data, tmp_path):
    output = tmp_path / "output"
    shutil.copytree(trained[0], output)
    folders = train(data, output, "--stages", "lesion_synthetic", lr=1e-4)
    assert [run.parts[-3] for run in folders] == ["lesion", "lesion_synthetic", "lesion_synthetic"]


def test_a_classifier_begins_with_the_foundation_and_brings_its_class_map(data, tmp_path):
    output = tmp_path / "output"
    anatomy, foundation = train(data, output, "--stages", "foundation,anatomy", freeze_backbone=True)
    models = output / "models" / "anatomy"
    assert json.loads((models / "class_map.json").read_text()) == {"classes": ["brain", "knee", "spine"]}
    assert not (output / "models" / "foundation").exists()
    mine, source = (
        torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model"] for run in (anatomy, foundation)
    )
    assert torch.equal(mine["backbone.conv1.weight"], source["backbone.conv1.weight"])


def test_three_classifiers_with_one_backbone_are_delivered_as_three_networks(data, tmp_path):
    output = tmp_path / "output"
    words = ("--stages", "foundation classifiers")
    shared, foundation = train(data, output, *words, max_val_batches="None", freeze_backbone=True)
    models = output / "models"
    names = ("anatomy", "location_view", "sequence")
    kinds = ("model.pt", "class_map.json", "metadata.json", "inference.json")
    files = {f"{stage}/{file}" for stage in names for file in kinds}
    assert {str(path.relative_to(models)) for path in models.rglob("*.*")} == {*files, "summary.json"}
    source = torch.load(foundation / "checkpoints" / "best.pt", weights_only=True)["model"]
    backbone = [key for key in source if key.startswith("backbone.")]
    for stage in names:
        metadata = json.loads((models / stage / "metadata.json").read_text())
        classes = json.loads((models / stage / "class_map.json").read_text())["classes"]
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        saved = torch.load(models / stage / "model.pt", weights_only=True)
        assert list(channels.values()) == classes == saved["settings"]["classes"] == metadata["settings"]["classes"]
        assert list(saved["metrics"]) == [f"f1_{stage}"]
        assert len(saved["model"]["head.4.bias"]) == len(classes)
        assert all(torch.equal(saved["model"][key], source[key]) for key in backbone)
        parser = ConfigParser()
        parser.read_config(str(models / stage / "inference.json"))
        assert parser.get_parsed_content("network_settings") == saved["settings"]
        load_model(parser.get_parsed_content("network_def"), models / stage / "model.pt")
    stamps = {path: path.stat().st_mtime_ns for path in shared.rglob("*.pt")}
    assert train(data, output, *words, max_val_batches="None", freeze_backbone=True) == [shared, foundation]
    assert stamps == {path: path.stat().st_mtime_ns for path in shared.rglob("*.pt")}, "finished, so kept"


@pytest.mark.parametrize(
    ("stages", "overrides", "text"),
    [
        (["lesions"], {}, "--stages lesions: unknown"),
        (["classifiers", "anatomy"], {}, "--stages anatomy: is trained within the stage classifiers"),
        ([], {}, "--stages: names no stage .choices: foundation"),
        (["lesion"], {"cord.lr": 0.1}, "--cord.lr: changes nothing, as --stages has no cord .it has lesion"),
        (["lesion"], {"lesion.output_dir": "there"}, "--lesion.output_dir: train-cascade gives each stage its own"),
        (["lesion"], {"resume": "auto"}, "--resume: train-cascade gives each stage its own; leave it out"),
        (["lesion"], {"stage": "cord"}, "--stage: train-cascade gives each stage its own; leave it out"),
        (["lesion"], {"max_epoch": 3}, "--max_epoch: .*did you mean --max_epochs"),
        (["lesion"], {"lesion.max_epoch": 3}, "--lesion.max_epoch: .*did you mean --max_epochs"),
        (["lesion"], {"lesion.lr": float("nan"), "max_epochs": 3}, "--lesion.lr nan: must be a number"),
        (["lesion"], {"lesion.lr": 0.1, "max_epochs": 0}, "--max_epochs 0: must be a whole number"),
    ],
    ids=[
        "stage",
        "twice",
        "none",
        "stage-left-out",
        "folder",
        "resume",
        "name",
        "override",
        "override-of-a-stage",
        "nan",
        "common",
    ],
)
def test_what_can_t_be_understood_is_told_before_anything_runs(tmp_path, stages, overrides, text):
    from monai_ext.settings import find_bundle

    config = find_bundle("spinal_cord_cascade") / "configs" / "train.json"
    with pytest.raises(ConfigError, match=text):
        CascadeTraining(str(config), tmp_path, tmp_path / "out", stages, overrides)
    assert not (tmp_path / "out").exists()


def test_the_command_that_predicts_leaves_out_what_was_not_trained(data, tmp_path):
    (config,) = (path for path in find_bundle("spinal_cord_cascade").glob("configs/train.json"))
    training = CascadeTraining(str(config), data, tmp_path, ["cord", "lesion"])
    for stage in ("sequence", "cord"):
        (tmp_path / "models" / stage).mkdir(parents=True)
        (tmp_path / "models" / stage / "model.pt").touch()
    assert training.prediction_command() is None  # there is no result without lesion
    (tmp_path / "models" / "lesion").mkdir()
    (tmp_path / "models" / "lesion" / "model.pt").touch()
    words = shlex.split(training.prediction_command())
    assert words[words.index("--models_dir") + 1] == str(tmp_path / "models")
    assert [words[n - 1] for n, word in enumerate(words) if word == ""] == [
        "--anatomy_checkpoint",
        "--location_view_checkpoint",
    ]
