"""Settings in words, for the terminal and the docs."""

import json
import re
from pathlib import Path

import pytest

from monai_ext.errors import ConfigError
from monai_ext.settings.listing import ABSENT, listed_settings, markdown_table, settings_table, stages_note

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/settings.json"))


def listed(bundle="brats_resnet50"):
    return {setting.name: setting for setting in listed_settings(ROOT / "bundles" / bundle)}


@pytest.fixture
def bundle(tmp_path):
    """A sixth bundle of somebody else."""
    contents = {
        "settings": {
            "properties": {
                "lr": {"type": "number", "description": "Learning rate | at the start.", "x-original": ["speed"]},
                "loss": {"type": "string", "description": "Loss."},
                "place": {"type": "string", "description": "Folder."},
                "size": {"type": "integer", "description": "Edge."},
                "part": {"type": "string", "description": "Part.", "x-default": "the larger one"},
            }
        },
        "train": {
            "lr": 0.1,
            "loss": "mse",
            "place": "$@root + '/data'",
            "size": 3,
            "losses": {"mse": {}, "l1": {}},
            "chosen": "$@losses[@loss]",
        },
        "inference": {"place": "$@root + '/data'", "size": "$@saved['size']"},
        "evaluate": {"part": "$max(1, 2)"},
        "stage_two": {"lr": 0.2, "loss": "mse"},
    }
    (tmp_path / "configs").mkdir()
    for name, content in contents.items():
        (tmp_path / "configs" / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_defaults_are_shown_as_they_stand_or_in_words(bundle):
    lr, loss, place, size, part = listed_settings(bundle)
    assert (lr.training, lr.inference, lr.evaluation) == ("0.1", ABSENT, ABSENT)
    assert loss.training == "mse"
    assert (place.training, place.inference) == ("<root>/data", "<root>/data")
    assert (size.training, size.inference) == ("3", "the checkpoint's")
    assert (part.training, part.evaluation) == (ABSENT, "the larger one")


def test_choices_are_read_from_the_table_of_the_config(bundle):
    assert listed_settings(bundle)[1].allowed == "mse or l1"
    assert listed()["optimizer"].allowed == "adam, adamw or sgd"


def test_names_that_only_some_configs_choose_from_a_table_are_text():
    assert listed("spinal_cord_cascade")["stage"].allowed == "text"


@pytest.mark.parametrize("word", ["lr", "LR", "learning", "Learning_Rate", "--learning-rate", "learning_rate"])
def test_a_word_is_found_in_name_description_and_originals_names(word):
    assert listed()["lr"].is_about(word)
    assert not listed()["seed"].is_about(word)


def test_a_setting_is_found_by_what_the_original_calls_it(bundle):
    assert [setting.name for setting in listed_settings(bundle) if setting.is_about("SPEED")] == ["lr"]


def test_stages_with_other_defaults_are_named(bundle):
    note = stages_note(listed_settings(bundle))
    assert "of lr;" in note
    assert "stage_two.json" in note
    assert stages_note(list(listed().values())) == ""


@pytest.mark.parametrize("bundle_root", BUNDLES, ids=lambda path: path.name)
def test_every_computed_default_has_words(bundle_root):
    for setting in listed_settings(bundle_root):
        assert "computed" not in (setting.training, setting.inference, setting.evaluation), setting.name


@pytest.mark.parametrize("bundle_root", BUNDLES, ids=lambda path: path.name)
@pytest.mark.parametrize("width", [100, 140])
def test_the_terminal_table_fits_and_loses_nothing(bundle_root, width):
    settings = listed_settings(bundle_root)
    lines = settings_table(settings, width).splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[2:] if not line.startswith(" ")] == [s.name for s in settings]
    words = " ".join(line[-(width - 73) :] for line in lines)
    for setting in settings:
        assert setting.meaning.split()[-1] in words


def test_the_terminal_table_says_where_defaults_differ():
    table = settings_table([listed()["precision"], listed()["engine"], listed()["tf32"], listed()["checkpoint"]], 200)
    assert re.search(r"auto; inference: fp32", " ".join(table.split()))
    assert re.search(r"^engine +inference: eager +eager", table, flags=re.M)
    assert re.search(r"^tf32 +true +true or false", table, flags=re.M)
    assert "inference, evaluation" in table


def test_the_table_of_the_docs_keeps_signs_of_markdown_as_text(bundle):
    lines = markdown_table(listed_settings(bundle)).splitlines()
    assert lines[2].startswith("| `lr` | `0.1` | – | a number | Learning rate \\| at the start. |")
    assert "| `place` | `<root>/data` | `<root>/data` | text |" in lines[4]
    assert "| `part` | the larger one (evaluate.json) | – |" in lines[6]


def test_a_bundle_without_settings_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"has no settings\.json"):
        listed_settings(tmp_path)
