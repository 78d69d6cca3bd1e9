from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import ConfigError
from monai_ext.settings import find_bundle


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    config = {"bundle_root": "$@nowhere", "strange": {"_target_": "os.system", "command": "true"}}
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "train.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path / "bundle"


def test_commands_for_unknown_bundles_suggest_the_nearest(run, tmp_path: Path) -> None:
    for words in (
        ("demo-data", "brats_resnet", "--output", tmp_path),
        ("check", "brats_resnet", "--dataset_dir", tmp_path),
        ("prepare", "brats_resnet", "--dataset_dir", tmp_path, "--output", tmp_path),
    ):
        result = run(*words)
        assert isinstance(result.exception, ConfigError)
        assert "did you mean 'brats_resnet50'?" in str(result.exception)


def test_demo_data_passes_its_options_on(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "monai_ext.brats.demo.make_demo", lambda *args, **kwargs: calls.append((args, kwargs)) or args[0]
    )
    result = run("demo-data", "brats_resnet50", "--output", tmp_path / "x", "--seed", 3, "--size", "full")
    assert result.exit_code == 0
    assert calls == [((tmp_path / "x",), {"seed": 3, "size": "full"})]
    assert result.stdout.strip() == str(tmp_path / "x")


def test_check_exits_with_0_for_good_and_1_for_bad_data(run, brats_dir: Path, tmp_path: Path) -> None:
    result = run("check", "brats_resnet50", "--dataset_dir", brats_dir)
    assert result.exit_code == 0, result.output
    assert "0 errors, 0 warnings" in result.output

    bad = next(brats_dir.rglob("*_t2.nii.gz"))
    bad.write_bytes(b"")
    result = run("check", "brats_resnet50", "--dataset_dir", brats_dir, "--output", tmp_path / "list.json")
    assert result.exit_code == 1
    assert f"error    {bad}\n         is empty" in result.output
    (problem,) = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))["problems"]
    assert (problem["path"], problem["severity"]) == (str(bad), "error")


def test_check_lists_what_a_config_can_run(run, brats_dir: Path, bundle: Path) -> None:
    result = run("check", "brats_resnet50", "--dataset_dir", brats_dir, "--bundle_root", bundle)
    assert result.exit_code == 0
    assert "target   train.json: strange#_target_\n         os.system" in result.output
    assert "code     train.json: bundle_root\n         $@nowhere" in result.output


def test_prepare_fills_the_cache_that_training_reads(run, brats_dir: Path, tmp_path: Path) -> None:
    words = ("prepare", "brats_resnet50", "--dataset_dir", brats_dir, "--output", tmp_path / "cache", "--workers", 1)
    words += ("--num_folds", 2, "--image_size", 32)
    assert "13 cases prepared, 0 were ready" in run(*words).output
    assert "0 cases prepared, 13 were ready" in run(*words).output
    assert "13 cases prepared" in run(*words, "--pad_to_cube", True).output

    parser = ConfigParser()
    parser.read_config(f=str(find_bundle("brats_resnet50") / "configs" / "train.json"))
    given = {"bundle_root": "x", "dataset_dir": str(brats_dir), "cache_dir": str(tmp_path / "cache")}
    parser.update({**given, "num_folds": 2, "image_size": 32})
    dataset = parser.get_parsed_content("train#dataset")
    assert all(dataset.cache_file(index).exists() for index in range(len(dataset)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--image_sise", "5"), "did you mean --image_size"),
        (("--image_size",), "--image_size: has no value"),
        (("5",), "expected --key value"),
    ],
    ids=["misspelt", "no value", "no key"],
)
def test_prepare_refuses_wrong_overrides(run, brats_dir: Path, tmp_path: Path, words, message) -> None:
    result = run("prepare", "brats_resnet50", "--dataset_dir", brats_dir, "--output", tmp_path / "c", *words)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_command_modules_import_nothing_heavy() -> None:
    program = (
        "import sys, monai_ext.cli.app\n"
        "print([name for name in ('torch', 'monai', 'numpy', 'nibabel') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def nuclei_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from monai_ext.nuclei.demo import make_demo

    return make_demo(tmp_path_factory.mktemp("nuclei") / "demo", counts=(3, 3, 0, 0, 1))


@pytest.fixture
def nuclei_bundle(tmp_path: Path) -> Path:
    """What a bundle's config says of its data, and no more."""

    config = {
        "bundle_root": "$None",
        "dataset_dir": "$None",
        "crop_size": 48,
        "index": {"_target_": "monai_ext.nuclei.index", "dataset_dir": "@dataset_dir", "crop_size": "@crop_size"},
        "class_map": {"_target_": "monai_ext.nuclei.class_map", "index": "@index"},
        "splits": {
            "_target_": "monai_ext.nuclei.splits",
            "index": "@index",
            "class_map": "@class_map",
            "num_folds": 2,
            "test_fraction": 0,
        },
        "preparation": [{"_target_": "monai_ext.transforms.LoadCropd", "crop_size": "@crop_size", "margin": 4}],
        "train": {"dataset": {"data": "$@splits['train']"}},
        "validate": {"dataset": {"data": "$@splits['val']"}},
    }
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "train.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path / "bundle"


def test_check_passes_on_only_the_options_of_the_data(run, brats_dir: Path, nuclei_dir: Path, tmp_path: Path) -> None:
    table = nuclei_dir / "classes.csv"
    words = ("--class_csv", table, "--workers", 1, "--num_folds", 2, "--test_fraction", 0)
    result = run("check", "nuclei_vgg3d", "--dataset_dir", nuclei_dir, *words)
    assert result.exit_code == 0, result.output
    assert "0 errors, 2 warnings" in result.output  # three samples in each of two classes: too few for five folds
    for words in (
        ("check", "nuclei_vgg3d", "--dataset_dir", nuclei_dir, "--modality", "t1"),
        ("check", "brats_resnet50", "--dataset_dir", brats_dir, "--class_csv", table),
    ):
        error = run(*words).exception
        assert isinstance(error, ConfigError)
        assert f"{words[-2]}: is no setting" in str(error)
    assert "0 errors" in run("check", "brats_resnet50", "--dataset_dir", brats_dir, "--modality", "t1").output


def test_prepare_fills_the_cache_with_crops(run, nuclei_dir: Path, nuclei_bundle: Path, tmp_path: Path) -> None:
    words = ("prepare", "nuclei_vgg3d", "--dataset_dir", nuclei_dir, "--bundle_root", nuclei_bundle, "--workers", 1)
    words += ("--output", tmp_path / "cache")
    result = run(*words)
    done = len(list((tmp_path / "cache").glob("*.pt")))
    assert done >= 6
    assert f"{done} cases prepared, 0 were ready" in result.output
    assert f"0 cases prepared, {done} were ready" in run(*words).output
    assert "0 were ready" in run(*words, "--crop_size", 40).output
