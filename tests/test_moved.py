"""Old names still work, with a warning that tells the new one; they are the same objects."""

import importlib
import json
import re

import pytest

from monai_ext import moved

# What interfaces and old run folders name.
OLD = [
    "monai_ext.brats.data.fold_items",
    "monai_ext.data.brats.fold_items",
    "monai_ext.data.nuclei.crop_grid",
    "monai_ext.data.nuclei.samples",
    "monai_ext.data.ct_rate.LABELS",
    "monai_ext.data.ct_rate.slice_positions",
    "monai_ext.data.spine.stage_items",
    "monai_ext.data.surface.splits",
    "monai_ext.inferers.cascade.cascade.SpineCascade",
    *(f"{package}.{name}" for package, names in moved.NAMES.items() for name in names),
]


def located(name):
    from pydoc import locate

    return locate(name)


@pytest.mark.parametrize("name", OLD)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_name_gives_what_the_new_one_gives(name):
    found = located(name)
    assert found is not None
    package, _, last = name.rpartition(".")
    new = moved.NAMES.get(package, {}).get(last) or moved._new_name(package) or moved._new_name(name)
    new, _, renamed = new.partition(":")
    module = importlib.import_module(new)
    assert found is getattr(module, renamed or last, module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_is_the_same_under_both_names():
    old = importlib.import_module("monai_ext.data.nuclei.samples")
    new = importlib.import_module("monai_ext.nuclei.samples")
    assert old is new
    assert new.__spec__.name == new.__name__ == "monai_ext.nuclei.samples"


def test_the_warning_tells_the_new_name():
    with pytest.warns(DeprecationWarning, match=r"transforms\.LoadChestCTd is now monai_ext\.ct_rate\.transforms"):
        importlib.import_module("monai_ext.transforms").LoadChestCTd  # noqa: B018


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'monai_ext.transforms' has no attribute 'LoadNothing'"):
        importlib.import_module("monai_ext.transforms").LoadNothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"'monai_ext.nuclei' has no attribute 'nothing'"):
        importlib.import_module("monai_ext.nuclei").nothing  # noqa: B018


def test_no_config_uses_an_old_name():
    from source_lines import REPOSITORY

    old = re.compile(
        "|".join([*map(re.escape, moved.MODULES), *(f"{p}.{n}" for p, ns in moved.NAMES.items() for n in ns)])
    )
    for path in REPOSITORY.glob("bundles/*/configs/*.json"):
        assert not old.search(json.dumps(json.loads(path.read_text(encoding="utf-8")))), path
