"""Gamma acts on the range of the normalisation, whatever an image holds of it."""

from __future__ import annotations

import json

import pytest
import torch

from monai_ext.errors import ConfigError
from monai_ext.settings import find_bundle
from monai_ext.transforms import RandGammad


def changed(image: torch.Tensor, gamma: tuple[float, float], seed: int = 0, prob: float = 1.0) -> torch.Tensor:
    return RandGammad("image", prob, gamma).set_random_state(seed)({"image": image})["image"]


def test_each_value_becomes_its_power_whatever_else_is_in_the_image() -> None:
    dim = torch.tensor([[0.1, 0.2, 0.3]])
    torch.testing.assert_close(changed(dim, (2, 2)), torch.tensor([[0.01, 0.04, 0.09]]))
    bright = torch.tensor([[0.1, 0.2, 0.3, 1.0]])  # MONAI's would leave 0.1 and, without the 1, 0.3
    torch.testing.assert_close(changed(bright, (2, 2)), torch.tensor([[0.01, 0.04, 0.09, 1.0]]))
    torch.testing.assert_close(changed(dim, (0.5, 0.5)), dim.sqrt())


def test_black_and_white_stay_and_nothing_leaves_the_range() -> None:
    image = torch.tensor([[0.0, 1.0, -0.2, 1.3]])
    for seed in range(5):
        assert changed(image, (0.8, 1.2), seed).tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_the_power_is_drawn_by_seed_between_its_limits_for_all_keys() -> None:
    image = torch.full((1, 2), 0.5)
    powers = [
        float(torch.log(changed(image, (0.8, 1.2), seed)[0, 0]) / torch.log(torch.tensor(0.5))) for seed in range(40)
    ]
    assert 0.8 <= min(powers) < 0.85
    assert 1.15 < max(powers) <= 1.2
    both = RandGammad(["image", "other"], 1.0).set_random_state(3)({"image": image, "other": image})
    assert torch.equal(both["image"], both["other"])
    assert torch.equal(both["image"], changed(image, (0.8, 1.2), 3))
    untouched = sum(torch.equal(changed(image, (0.8, 1.2), seed, prob=0.5), image) for seed in range(100))
    assert 30 < untouched < 70
    assert torch.equal(image, torch.full((1, 2), 0.5))


@pytest.mark.parametrize("gamma", [(0, 1), (1.2, 0.8)])
def test_impossible_powers_are_refused(gamma: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="RandGammad: gamma must be two ascending numbers above 0"):
        RandGammad("image", 1.0, gamma)


def test_nuclei_are_augmented_in_the_range_of_their_normalisation() -> None:
    text = (find_bundle("nuclei_vgg3d") / "configs" / "train.json").read_text(encoding="utf-8")
    targets = [transform["_target_"] for transform in json.loads(text)["augmentation"]]
    assert "monai_ext.transforms.RandGammad" in targets
    assert "RandAdjustContrastd" not in targets
