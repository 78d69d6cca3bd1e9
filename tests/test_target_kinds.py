import pytest

from monai_ext.errors import ConfigError
from monai_ext.targets import network_targets, target_kind, vector_targets


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ({"channels": 1}, "labels"),
        ({"channels": 1, "activation": "sigmoid", "loss": "bce_dice"}, "labels"),
        ({"channels": 4, "activation": "sigmoid"}, "labels"),
        ({"channels": 4, "activation": "softmax"}, "classes"),
        ({"channels": 3}, "vectors"),
        ({"channels": 3, "vector": False}, "values"),
        ({"channels": 2}, "values"),
        ({"channels": 1, "loss": "smooth_l1"}, "values"),
        ({"channels": 1, "activation": "none", "loss": "bce_dice"}, "labels"),
        ({"channels": 3, "activation": "none", "loss": "bce_dice"}, "labels"),
        ({"channels": 3, "activation": "none", "loss": "cross_entropy_dice"}, "classes"),
        ({"channels": 1, "loss_fn": "BCEDiceLoss", "loss_kwargs": {"alpha": 0.5, "beta": 0.5}}, "labels"),
        ({"channels": 3, "loss_fn": "MaskedCosineLoss"}, "vectors"),
        ({"channels": 3, "kind": "values"}, "values"),
    ],
    ids=[
        "one-channel",
        "sigmoid",
        "several-labels",
        "softmax",
        "three-channels",
        "no-vector",
        "two-channels",
        "height",
        "label-by-loss",
        "labels-by-loss",
        "classes-by-loss",
        "the-original-s-sheet",
        "the-original-s-normals",
        "outright",
    ],
)
def test_the_definition_says_what_a_target_holds(definition, kind):
    assert target_kind(definition) == kind


def test_an_unknown_activation_is_refused():
    with pytest.raises(ConfigError, match="one of none, sigmoid, softmax, got 'tanh'"):
        target_kind({"channels": 1, "activation": "tanh"})


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"channels": 1, "loss_fn": "MSELoss"}, "'MSELoss' is one of the original's losses.*such as smooth_l1"),
        ({"channels": 1, "loss_fn": "BCEDiceLoss", "loss_kwargs": {"alpha": 1}}, "with these loss_kwargs"),
        ({"channels": 1, "loss_fn": "Unheard"}, "give loss instead, such as bce_dice or masked_cosine"),
    ],
    ids=["another loss", "other arguments", "unknown"],
)
def test_losses_of_the_original_that_are_not_here_are_named(definition, words):
    with pytest.raises(ConfigError, match=words):
        target_kind(definition)


def test_vectors_and_what_a_checkpoint_keeps():
    targets = {"sheet": {"channels": 1, "activation": "sigmoid", "weight": 2.0}, "normals": {"channels": 3}}
    assert vector_targets(targets) == ["normals"]
    assert network_targets(targets) == {
        "sheet": {"channels": 1, "activation": "sigmoid"},
        "normals": {"channels": 3, "activation": "none"},
    }
