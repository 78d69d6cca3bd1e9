from __future__ import annotations

import pytest
import torch

from monai_ext.errors import ConfigError
from monai_ext.transforms import RandMultiplicativeNoised


def test_noise_grows_with_the_signal_and_leaves_air_alone() -> None:
    image = torch.cat([torch.zeros(1, 50, 50), torch.ones(1, 50, 50), torch.full((1, 50, 50), 10.0)])
    noisy = RandMultiplicativeNoised("image", prob=1.0, std=0.2).set_random_state(0)({"image": image})["image"]
    assert not noisy[0].any()
    spread = noisy[1].std()
    assert 0.001 < spread <= 0.21
    assert noisy[2].std() == pytest.approx(10 * float(spread), rel=0.1)
    assert noisy[1].mean() == pytest.approx(1, abs=0.02)


def test_keys_get_the_same_factors_and_the_same_seed_the_same_noise() -> None:
    item = {"a": torch.ones(1, 8, 8), "b": 2 * torch.ones(1, 8, 8)}
    noise = RandMultiplicativeNoised(["a", "b", "c"], prob=1.0, allow_missing_keys=True)
    first, second = (noise.set_random_state(3)(item) for _ in range(2))
    assert torch.equal(first["b"], 2 * first["a"])
    assert torch.equal(first["a"], second["a"])
    assert torch.equal(RandMultiplicativeNoised("a", prob=0.0)(item)["a"], item["a"])


def test_a_negative_deviation_is_refused() -> None:
    with pytest.raises(ConfigError, match="std must be 0 or more, got -1"):
        RandMultiplicativeNoised("image", std=-1)
