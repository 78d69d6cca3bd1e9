"""What a config's recipe is, and which changes a resumed run may have."""

import math
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_ext.errors import ConfigError
from monai_ext.io import write_json
from monai_ext.settings import changes_since, check_resume, recipe_key, recipe_of
from monai_ext.settings.recipe import APPLIED, BEGINNING, FREE, PATHS, applied, differences, refused
from monai_ext.settings.resuming import RECIPE

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs").is_dir())
CONFIG = {
    "dataset_dir": "/data",
    "output_dir": "runs",
    "num_workers": 2,
    "fold": 1,
    "lr": 1e-3,
    "max_epochs": 5,
    "size": 8,
    "optimizer": "adam",
    "pretrained_path": None,
    "optimizers": {"adam": {"_target_": "Adam", "betas": [0.9, 0.99]}, "sgd": {"_target_": "SGD"}},
    "network_def": {"_target_": "Net", "size": "@size"},
    "train": {
        "dataset": {"data": [{"case": "a"}]},
        "optimizer": "$@optimizers[@optimizer](@network_def)",
        "loader": {"_target_": "Loader", "workers": "@num_workers", "epochs": "@max_epochs"},
        "items": {"fold": "@fold"},
    },
}


def config_of(bundle):
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / bundle / "configs" / "train.json"))
    return parser


def changed(**values):
    """The recipe of `CONFIG` with other values, by key as on the command line."""
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.update(values)
    return recipe_of(parser.get())


def test_references_become_values_and_what_changes_no_number_is_left_out():
    assert changed() == {
        "dataset_dir": "(a path)",
        "fold": 1,
        "lr": 1e-3,
        "max_epochs": 5,
        "size": 8,
        "optimizer": "adam",
        "pretrained_path": None,
        "optimizers": {"adam": {"_target_": "Adam", "betas": [0.9, 0.99]}},
        "network_def": {"_target_": "Net", "size": 8},
        "train": {
            "dataset": {"data": "(a data list)"},
            "optimizer": "$@optimizers[@optimizer](@network_def)",
            "loader": {"_target_": "Loader", "workers": "@num_workers", "epochs": "@max_epochs"},
            "items": {"fold": "@fold"},
        },
    }


@pytest.mark.parametrize(
    "values",
    [
        {"dataset_dir": "/elsewhere", "num_workers": 0},
        {"optimizers#sgd#momentum": 0.9},
        {"network_def#size": 8},
        {"_remark": "none"},
    ],
    ids=["free", "not chosen", "the same value in place of its reference", "remark"],
)
def test_equal_recipes_are_equal_however_they_came_together(values):
    assert differences(changed(), changed(**values)) == []
    assert recipe_key(changed()) == recipe_key(changed(**values))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"lr": 0.5}, "lr: 0.001 → 0.5"),
        ({"size": 16}, "size: 8 → 16"),
        ({"optimizers#adam#betas": [0.5, 0.9]}, "optimizers#adam#betas: [0.9, 0.99] → [0.5, 0.9]"),
        ({"optimizers#adam#amsgrad": True}, "optimizers#adam#amsgrad: not there → true"),
        ({"network_def#size": 16}, "network_def#size: 8 → 16"),
        ({"network_def#dropout": math.inf}, "network_def#dropout: not there → inf"),
        ({"dataset_dir": "/elsewhere", "fold": 2}, "fold: 1 → 2"),
    ],
)
def test_what_differs_is_named_once_by_its_key(values, text):
    assert [str(one) for one in refused(differences(changed(), changed(**values)))] == [text]


def test_what_is_below_a_table_is_named_once_whatever_refers_to_the_table():
    old, new = (
        recipe_of({"targets": {"sheet": {"weight": weight}}, "loss": {"_target_": "Loss", "targets": "@targets"}})
        for weight in (1.0, 3.0)
    )
    assert [str(one) for one in refused(differences(old, new))] == ["targets#sheet#weight: 1.0 → 3.0"]


def test_true_is_not_one():
    assert differences({"a": True}, {"a": 1})
    assert not differences({"a": 1.0}, {"a": 1})


def test_a_longer_run_is_applied_and_new_weights_to_begin_with_are_neither():
    found = differences(changed(), changed(max_epochs=9, pretrained_path="x.pt"))
    assert [str(one) for one in applied(found)] == ["max_epochs: 5 → 9"]
    assert refused(found) == []
    assert recipe_key(changed()) != recipe_key(changed(pretrained_path="x.pt")) != recipe_key(changed(max_epochs=9))


def test_weights_to_begin_with_count_by_their_content(tmp_path):
    for name, content in (("a", "1"), ("copy of a", "1"), ("b", "2")):
        (tmp_path / name).write_text(content)
    keys = [recipe_key(changed(pretrained_path=str(tmp_path / name))) for name in ("a", "copy of a", "b")]
    assert keys[0] == keys[1] != keys[2]


def test_folds_of_one_recipe_have_one_key():
    assert recipe_key(changed()) == recipe_key(changed(fold=2))


def test_a_run_without_a_recipe_is_compared_by_its_settings_and_that_is_said(tmp_path, caplog):
    write_json(
        tmp_path / "run.json", {"status": "killed", "parameters": {"lr": 1e-3, "size": 8, "max_epochs": 5, "gone": 1}}
    )
    check_resume(tmp_path, changed(max_epochs=9))
    assert "recorded no recipe: its settings are compared" in caplog.text
    with pytest.raises(ConfigError, match=r"\(lr: 0.001 → 0.5; size: 8 → 16\)"):
        check_resume(tmp_path, changed(lr=0.5, size=16))
    (change,) = changes_since(tmp_path, changed(max_epochs=9), 4)
    assert change == {"from_epoch": 4, "setting": "max_epochs", "old": 5, "new": 9}


def test_a_run_is_compared_by_its_recipe_and_the_way_out_names_its_best_checkpoint(tmp_path, caplog):
    write_json(tmp_path / "run.json", {"status": "killed", "best_checkpoint": "checkpoints/best_f1.pt"})
    write_json(tmp_path / RECIPE, changed())
    check_resume(tmp_path, changed(num_workers=9))
    assert not caplog.text
    with pytest.raises(ConfigError, match=f"--pretrained_path {tmp_path}/checkpoints/best_f1.pt"):
        check_resume(tmp_path, changed(lr=0.5))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_recipe_has_no_paths_and_leaves_only_components_and_free_settings_unresolved(bundle):
    config = config_of(bundle).get()
    recipe = recipe_of(config)
    assert recipe["train"]["trainer"]["max_epochs"] == "@max_epochs"
    # ct_rate_multilabel computes it from the architecture, which is in the recipe
    assert recipe["train"]["dataloader"]["batch_size"] in (config["batch_size"], "@batch_size")
    assert recipe["train"]["step"]["grad_clip"] == config["grad_clip"]
    assert not recipe.keys() & FREE
    assert not re.search(r'"/', str(recipe))
    assert list(recipe["optimizers"]) == [config["optimizer"]]


def test_every_setting_named_in_the_tables_is_one_of_a_bundle():
    known = {name for bundle in BUNDLES for name in config_of(bundle).get()} | {"debug", "is_not_rank0"}
    assert {name for table in (FREE, PATHS, BEGINNING) for name in table} <= known
    assert {name for name in APPLIED if "#" not in name} <= known


def test_the_page_lists_the_tables():
    page = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (free|paths|applied|beginning) \|.*\| (.*) \|$", page, re.MULTILINE))
    tables = {"free": FREE - {"is_not_rank0"}, "paths": PATHS, "applied": APPLIED, "beginning": BEGINNING}
    assert {name: set(re.findall(r"`([\w#]+)`", text)) for name, text in rows.items()} == tables
