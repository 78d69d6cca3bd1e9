"""``python -m monai_ext settings``."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import ConfigError

ROOT = Path(__file__).parents[2]


def invoke(*words):
    return CliRunner().invoke(app, ["settings", *words], catch_exceptions=False).output


def names(output):
    rows = output.split("\n\n")[0].splitlines()[2:]
    return [row.split()[0] for row in rows if not row.startswith(" ")]


def test_lists_all_settings_of_a_bundle():
    found = names(invoke("surface_unet"))
    assert len(found) > 80
    assert {"lr", "patch_size", "zarr_format", "section"} <= set(found)


def test_a_word_of_the_original_finds_the_setting():
    assert names(invoke("surface_unet", "initial_lr")) == ["lr"]
    assert names(invoke("ct_rate_multilabel", "use-attention")) == ["attention"]


def test_the_stages_of_the_cascade_are_mentioned():
    assert "stage_cord.json" in invoke("spinal_cord_cascade")
    assert "stage_" not in invoke("spinal_cord_cascade", "seed")


def test_a_bundle_in_another_folder_is_found_by_its_path(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "bundles" / "nuclei_vgg3d", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for place in ("mine", str(tmp_path / "mine")):
        assert names(invoke(place, "min_nucleus")) == ["min_nucleus"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["brats_resnet5"], r"^no bundle 'brats_resnet5'; did you mean 'brats_resnet50'\?; or give its folder$"),
        (["brats_resnet50", "learnig_rat"], r"none has 'learnig_rat' in its name or description; did you mean --lr\?$"),
        (["brats_resnet50", "qqqqq"], r"none has 'qqqqq' .*lists them all$"),
    ],
)
def test_an_unknown_bundle_or_word_is_one_sentence(words, message):
    with pytest.raises(ConfigError, match=message):
        invoke(*words)
