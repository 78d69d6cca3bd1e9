"""Overrides that match no key, or would change nothing, are refused with the one to use."""

import json
import shutil
from pathlib import Path

import pytest

from monai_ext.errors import ConfigError
from monai_ext.settings.choices import check_choices, choices
from monai_ext.settings.keys import check_effect, check_override, check_overrides, check_reference

CONFIG = {
    "lr": 1e-4,
    "max_epochs": 5,
    "attention": "none",
    "output_dir": "$'runs'",
    "loss": "ldam",
    "losses": {"ldam": {"_target_": "torch.nn.L1Loss"}, "focal": {"_target_": "torch.nn.MSELoss"}},
    "optimizer": "adam",
    "optimizers": {"adam": {"_target_": "torch.optim.Adam", "_mode_": "callable", "weight_decay": 0.0}},
    "chosen": "$@losses[@loss]",
    "train": {
        "optimizer": "$@optimizers[@optimizer]([{'params': [], 'lr': @lr}])",
        "dataset": {"_target_": "monai.data.Dataset", "data": []},
        "handlers": [{"_target_": "int"}],
    },
}


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / "my_bundle" / "configs" / "train.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(CONFIG))
    return file


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("lrr", "did you mean --lr"),
        ("train#datasets#data", "did you mean 'dataset'"),
        ("losses#fokal#gamma", "did you mean 'focal'"),
        ("learning_rate", "did you mean --lr"),
        ("initial_lr", "did you mean --lr"),
        ("epochs", "did you mean --max_epochs"),
        ("use-attention", "did you mean --attention"),
        ("train#handlers#3", "train#handlers has 1 entries, numbered from 0"),
        ("output_dir#x", r"output_dir is computed \(\$'runs'\) and has nothing below it; give --output_dir itself"),
        ("wholly_other", "`python -m monai_ext settings BUNDLE` lists them all"),
    ],
)
def test_a_misspelt_override_names_the_one_that_was_meant(config_file, key, text):
    with pytest.raises(ConfigError, match=f"--{key}: .*{text}"):
        check_overrides(str(config_file), [key])


def test_names_of_the_original_pipeline_are_known():
    schema = {"lr": {"x-original": {"--eta": ""}}}
    with pytest.raises(ConfigError, match=r"--eta: is no setting; did you mean --lr\?"):
        check_override(CONFIG, "eta", schema)


@pytest.mark.parametrize(
    "key", ["lr", "train#dataset#data", "train::dataset::transform", "train#handlers#0", "losses", "losses#mine"]
)
def test_keys_arguments_of_components_and_new_choices_pass(config_file, key):
    check_overrides(str(config_file), [key])


def test_a_key_of_an_overlay_can_be_overridden(config_file, tmp_path):
    overlay = tmp_path / "mine.json"
    overlay.write_text('{"my_decay": 3, "lr": "@my_decay"}')
    check_overrides([str(config_file), str(overlay)], ["my_decay"])


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"los": "focal"}, r"'los': is no setting; did you mean --loss\?"),
        ({"+losess": {"mine": 1}}, r"'\+losess': is no setting; did you mean --losses\?"),
        (
            {"train#additional": 1},
            "'train#additional': the config has no 'additional'; it has dataset, handlers, optimizer",
        ),
    ],
)
def test_what_an_overlay_adds_and_nothing_uses_is_refused(config_file, tmp_path, overlay, message):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(overlay))
    with pytest.raises(ConfigError, match=f"mine.json: {message}"):
        check_overrides([str(config_file), str(file)], [])


@pytest.mark.parametrize(
    "overlay",
    [
        {"+losses": {"mine": {"_target_": "torch.nn.HuberLoss"}}, "losses#other": {"_target_": "torch.nn.HuberLoss"}},
        {"train#dataset#transform": True},
        {"mine": {"rate": 1}, "lr": "@mine#rate"},
        {"train#mine": 1, "lr": "@train::mine"},
        {"_remark": "why", "imports": ["$import math"], "lr": "$math.exp(-7)"},
    ],
)
def test_what_an_overlay_adds_to_a_table_or_uses_itself_passes(config_file, tmp_path, overlay):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(overlay))
    check_overrides([str(config_file), str(file)], [])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("losses#focal#gamma", "changes nothing, as --loss is ldam; add --loss focal"),
        ("losses#mine", "changes nothing, as --loss is ldam; add --loss mine"),
        ("optimizers#adam#lr", "changes nothing, as --lr overrules it; give --lr"),
    ],
)
def test_an_override_that_would_change_nothing_is_refused(key, text):
    with pytest.raises(ConfigError, match=f"--{key}: {text}"):
        check_effect(CONFIG, ["lr", key])


@pytest.mark.parametrize("key", ["losses#ldam#reduction", "losses#ldam", "optimizers#adam#amsgrad", "train#dataset"])
def test_an_override_with_an_effect_passes(key):
    check_effect(CONFIG, [key])


def test_an_entry_added_to_a_table_can_be_chosen():
    losses = {**CONFIG["losses"], "mine": {"_target_": "torch.nn.HuberLoss"}}
    check_effect({**CONFIG, "loss": "mine", "losses": losses}, ["loss", "losses#mine"])
    check_choices({**CONFIG, "loss": "mine", "losses": losses})


def test_an_unknown_choice_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"--loss fokal: unknown; did you mean 'focal'\? \(choices: ldam, focal\)"):
        check_choices({**CONFIG, "loss": "fokal"})


def test_a_choice_that_is_an_expression_is_left_to_the_run():
    check_choices({**CONFIG, "loss": "$@saved['loss']"})


def test_choices_are_read_from_the_tables():
    assert choices(CONFIG) == {"loss": ["ldam", "focal"], "optimizer": ["adam"]}


USED = {
    "lr": 1e-4,
    "fold": 1,
    "batch_size": 4,
    "num_workers": 2,
    "groups": {"_target_": "dict", "lr": "@lr"},
    "items": {"_target_": "dict", "fold": "@fold"},
    "network_settings": {"lr": "@lr"},
    "run_folder": {"fold": "@fold"},
    "train": {"loader": {"batch_size": "@batch_size", "num_workers": "@num_workers"}},
    "validate": {"loader": {"batch_size": "@batch_size"}},
}
SCHEMA = {name: {"type": "number"} for name in ("lr", "fold", "batch_size", "num_workers")}


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("groups#lr", "lr"),
        ("items#fold", "fold"),
        ("items::fold", "fold"),
        ("network_settings#lr", "lr"),
        ("train#loader#batch_size", "batch_size"),
    ],
)
def test_a_nested_key_in_which_a_setting_is_used_is_refused_as_the_setting_would_be_recorded(key, setting):
    with pytest.raises(ConfigError, match=f"--{key}: is --{setting}, .*; give --{setting}"):
        check_reference(USED, key, SCHEMA)


@pytest.mark.parametrize("key", ["validate#loader#batch_size", "train#loader#num_workers", "groups", "lr"])
def test_validation_may_use_another_value_and_what_changes_no_number_is_free(key):
    check_reference(USED, key, SCHEMA)


@pytest.mark.parametrize("overlay", [{"items#fold": 2}, {"+items": {"fold": 2}}])
def test_an_overlay_is_held_to_the_same(tmp_path, overlay):
    files = [tmp_path / "configs" / name for name in ("train.json", "settings.json", "mine.json")]
    files[0].parent.mkdir()
    for file, content in zip(files, [USED, {"properties": {"fold": {}}}, overlay], strict=True):
        file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"mine\.json: 'items#fold': is --fold, .*; give --fold"):
        check_overrides([str(files[0]), str(files[2])], [])
    check_overrides([str(files[0])], ["fold"])


def test_a_rate_that_a_setting_overrules_is_refused_in_a_file_too():
    config = {**CONFIG, "optimizers": {"adam": {**CONFIG["optimizers"]["adam"], "lr": 0.1}, "sgd": {"lr": 0.1}}}
    with pytest.raises(ConfigError, match="optimizers#adam#lr: changes nothing, as --lr overrules it; give --lr"):
        check_effect(config, [])
    check_effect({**config, "optimizers": {**config["optimizers"], "adam": {"lr": "@lr"}}}, [])


TARGETS = {
    "targets": {
        "type": "object",
        "additionalProperties": {"type": "object", "properties": {"channels": {}, "vector": {"type": "boolean"}}},
    }
}


@pytest.mark.parametrize("key", ["targets#mask", "targets#sheet#vector"])
def test_a_name_that_the_schema_allows_may_be_added(key):
    check_override({"targets": {"sheet": {"channels": 1}}}, key, TARGETS)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("targets#mask#channels", "targets has no 'mask'; give --targets#mask with all it needs"),
        ("targets#sheet#chanels", "did you mean 'channels'"),
    ],
)
def test_a_name_that_it_does_not_allow_or_that_lacks_what_it_needs_is_refused(key, told):
    with pytest.raises(ConfigError, match=told):
        check_override({"targets": {"sheet": {"channels": 1}}}, key, TARGETS)


def test_a_copied_config_has_the_settings_of_the_bundle_that_is_named(tmp_path):
    bundle = Path(__file__).parents[2] / "bundles" / "brats_resnet50"
    copied = shutil.copy(bundle / "configs" / "train.json", tmp_path / "train.json")
    check_overrides(copied, ["train#trainer#max_epochs"])  # nothing beside it says that this is a setting
    with pytest.raises(ConfigError, match=r"^--train#trainer#max_epochs: is --max_epochs"):
        check_overrides(copied, ["train#trainer#max_epochs"], bundle)
