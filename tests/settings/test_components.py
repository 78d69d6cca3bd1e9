"""Arguments of components are held against signatures before anything is made of them."""

import pytest

from monai_ext.errors import ConfigError
from monai_ext.settings.components import check_components, converted_arguments

DATASET = {"_target_": "monai_ext.data.PreparedDataset", "data": "@items", "transform": []}


def refusal(component):
    with pytest.raises(ConfigError) as caught:
        check_components({"train": {"dataset": component}})
    return str(caught.value)


def test_an_unknown_argument_names_the_nearest():
    assert refusal({**DATASET, "transform_x": 1}) == (
        "train#dataset#transform_x: unknown argument of PreparedDataset; did you mean 'transform'?"
    )


def test_a_missing_argument_is_named():
    assert refusal({"_target_": "monai_ext.data.PreparedDataset", "data": []}) == (
        "train#dataset: PreparedDataset needs transform"
    )


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        ("prob", "often", 'prob: is "often", but RandFlipd takes float'),
        ("prob", None, "prob: is null, but RandFlipd takes float"),
        ("allow_missing_keys", 3, "allow_missing_keys: is 3, but RandFlipd takes bool"),
    ],
)
def test_another_plain_type_than_the_signature_s_is_named(argument, value, text):
    assert refusal({"_target_": "RandFlipd", "keys": "image", argument: value}) == f"train#dataset#{text}"


def test_a_class_that_does_not_exist_is_named():
    assert refusal({"_target_": "monai_ext.data.PreparedDatasett"}) == (
        "train#dataset: there is no monai_ext.data.PreparedDatasett"
    )


def test_everything_wrong_is_in_one_sentence():
    assert refusal({**DATASET, "a_b": 1, "cache_dirr": 2}).count("unknown argument") == 2


@pytest.mark.parametrize(
    "component",
    [
        DATASET,
        {**DATASET, "cache_dir": "@cache_dir", "_desc_": "of cases", "_requires_": "@other"},
        {"_target_": "RandFlipd", "keys": "image", "prob": 1},
        {"_target_": "RandFlipd", "keys": "image", "prob": "$0.5 / 2"},
        {"_target_": "torch.optim.Adam", "_mode_": "callable", "weight_decay": "@weight_decay"},
        {"_target_": "RandFlipd", "_disabled_": True, "nonsense": 1},
        {"_target_": "$@chosen", "nonsense": 1},
        {"_target_": "collections.OrderedDict", "anything": 1},
    ],
    ids=["whole", "monai-s-own", "int-for-float", "expression", "partial", "disabled", "computed", "any-keyword"],
)
def test_what_a_component_takes_passes(component):
    check_components({"train": [component]})


def test_words_and_numbers_in_quotes_get_the_type_of_their_argument():
    adam = {"_target_": "torch.optim.Adam", "_mode_": "callable", "amsgrad": "true", "eps": "1e-8", "lr": "$1e-3"}
    flip = {"_target_": "RandFlipd", "keys": "image", "prob": "0.5", "allow_missing_keys": "off"}
    assert converted_arguments({"optimizers": {"adam": adam}, "augmentation": [flip]}) == {
        "optimizers#adam#amsgrad": True,
        "optimizers#adam#eps": 1e-8,
        "augmentation#0#prob": 0.5,
        "augmentation#0#allow_missing_keys": False,
    }
