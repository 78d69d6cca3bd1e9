"""``new-bundle`` writes a package with a bundle that works as it is, under the name one gives."""

import csv
import importlib
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from installed import forget, install
from monai.bundle import run
from typer.testing import CliRunner

from monai_ext.cli import new_bundle
from monai_ext.cli.app import app
from monai_ext.errors import ConfigError, DataError
from monai_ext.task import find_tasks

ROOT = Path(__file__).parents[2]
# Of no package that may be installed, as `shapes` of docs/extending.md may be.
NAME = "outlines_of_a_test"


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A new bundle of the name ``NAME``, installed, with demo data; the current folder is its own."""
    folder = tmp_path / "new"
    assert call("new-bundle", NAME, "--output", folder).exit_code == 0
    install(folder, monkeypatch)
    monkeypatch.chdir(folder)
    assert call("demo-data", NAME, "--output", "images").exit_code == 0
    yield folder
    forget(NAME)


def test_a_new_bundle_trains_and_predicts(project):
    configs = project / "bundles" / NAME / "configs"
    run(
        config_file=[str(configs / "train.json"), str(configs / "demo.json")],
        dataset_dir="images",
        max_epochs=1,
        plot_every=0,
        tracking_uri="none",
    )
    (best,) = project.glob(f"runs/{NAME}/fold_1/run_*/checkpoints/best.pt")
    run(config_file=str(configs / "inference.json"), checkpoint=str(best), inputs="images", num_workers=0)
    with open(f"runs/{NAME}/inference/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert {row["prediction"] for row in rows} <= {"circle", "square"}


def test_check_names_an_image_that_is_cut_off(project):
    assert call("check", NAME, "--dataset_dir", "images").exit_code == 0
    image = project / "images" / "circle" / "circle_003.png"
    image.write_bytes(image.read_bytes()[:300])
    done = call("check", NAME, "--dataset_dir", "images")
    assert done.exit_code == 1
    assert "circle_003.png" in done.output


def test_demo_data_of_other_classes_are_not_taken_for_these(project, monkeypatch):
    monkeypatch.setattr(f"{NAME}.data.CLASS_NAMES", ("circle", "square", "star"))
    with pytest.raises(DataError, match="exists already and is not this demo; delete it"):
        call("demo-data", NAME, "--output", "images")


def test_two_images_of_one_case_name_are_refused_and_both_are_named(project):
    data = importlib.import_module(f"{NAME}.data")
    again = Path("images", "square", "circle_003.png")
    shutil.copy(Path("images", "circle", "circle_003.png"), again)
    named = f"{again}: has the case name 'circle_003' of .*images/circle/circle_003.png; rename one"
    with pytest.raises(DataError, match=named):
        data.inference_items("images", ".png")
    with pytest.raises(DataError, match=named):
        data.find_items("images", data.CLASS_NAMES)


def test_nothing_keeps_the_name_of_the_template(project):
    files = [path for path in project.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert not [path for path in files if "my_bundle" in path.name or b"my_bundle" in path.read_bytes()]


def test_the_wheel_holds_all_files_of_the_template():
    """What ``package-data`` in pyproject.toml matches: patterns with ``*`` leave out names that begin with a dot."""
    import tomllib

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["monai_ext"]
    files = [path for path in new_bundle.TEMPLATE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    hidden = [path for path in files if path.name.startswith(".")]
    assert "cli/template/**/*" in patterns
    assert hidden
    assert all(f"cli/template/**/{path.name}" in patterns for path in hidden)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("My-Bundle", "lower-case letters", id="no-package-name"),
        pytest.param("class", "a word of Python", id="keyword"),
        pytest.param("data", "another folder of this name", id="folder-of-data"),
        pytest.param("runs", "another folder of this name", id="folder-of-runs"),
        pytest.param("json", "of this name", id="package-that-exists"),
        pytest.param(next(iter(find_tasks())), "of this name", id="bundle-that-exists"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name, reason, tmp_path):
    with pytest.raises(ConfigError, match=f"new-bundle {name}: .*{reason}"):
        call("new-bundle", name, "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="is not an empty folder"):
        call("new-bundle", NAME, "--output", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_make_hands_on_names_with_spaces_as_they_are():
    words = ["make", "--no-print-directory", "--dry-run", "new-bundle", "NAME=my bundle", "OUTPUT=/a folder/of mine"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert shlex.split(done.stdout.splitlines()[-1])[-3:] == ["my bundle", "--output", "/a folder/of mine"]


def test_the_next_steps_can_be_typed_where_the_folder_has_a_space(tmp_path):
    done = call("new-bundle", NAME, "--output", tmp_path / "with space")
    assert shlex.split(done.output.split("`")[1]) == ["cd", str(tmp_path / "with space")]


def test_metadata_tells_the_classes_of_the_configs():
    configs = new_bundle.TEMPLATE / "bundles" / "my_bundle" / "configs"
    metadata, train = (json.loads((configs / name).read_text()) for name in ("metadata.json", "train.json"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(channels.values()) == train["class_names"]
