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
    ],
)
def test_the_definition_says_what_a_target_holds(definition, kind):
    assert target_kind(definition) == kind


def test_an_unknown_activation_is_refused():
    with pytest.raises(ConfigError, match="one of none, sigmoid, softmax, got 'tanh'"):
        target_kind({"channels": 1, "activation": "tanh"})


def test_vectors_and_what_a_checkpoint_keeps():
    targets = {"sheet": {"channels": 1, "activation": "sigmoid", "weight": 2.0}, "normals": {"channels": 3}}
    assert vector_targets(targets) == ["normals"]
    assert network_targets(targets) == {
        "sheet": {"channels": 1, "activation": "sigmoid"},
        "normals": {"channels": 3, "activation": "none"},
    }
