from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.data import PreparedDataset, SeededDataset
from monai_ext.transforms import RandAugmentSlicesd

SHAPES = {"slice": (1, 24, 24), "neighbours": (3, 24, 24), "bag": (5, 3, 24, 24), "volume": (1, 9, 24, 24)}


def blob(shape: tuple[int, ...]) -> torch.Tensor:
    image = torch.zeros(shape)
    image[..., 6:12, 10:20] = 0.6
    return image


def augmented(image: torch.Tensor, seed: int, **settings) -> torch.Tensor:
    return RandAugmentSlicesd("image", **settings).set_random_state(seed)({"image": image})["image"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shape_type_and_range_stay_and_all_planes_change_alike(shape: tuple[int, ...]) -> None:
    image = blob(shape)
    before = image.clone()
    results = [augmented(image, seed) for seed in range(4)]
    assert torch.equal(image, before)
    for result in results:
        assert type(result) is torch.Tensor
        assert (result.shape, result.dtype) == (image.shape, torch.float32)
        assert 0 <= result.min() <= result.max() <= 1
        planes = result.reshape(-1, 24, 24)
        assert torch.equal(planes, planes[:1].expand_as(planes))
    assert any(not torch.equal(result, image) for result in results)


def test_the_same_seed_gives_the_same_change_and_another_seed_another() -> None:
    image = blob((1, 24, 24))
    assert torch.equal(augmented(image, 3), augmented(image, 3))
    assert len({augmented(image, seed).numpy().tobytes() for seed in range(6)}) == 6


def test_mirroring_alone_swaps_left_and_right() -> None:
    image = blob((1, 24, 24))
    still = {"rotate": 0, "translate": 0, "scale": 0, "contrast": 0, "brightness": 0}
    assert torch.allclose(augmented(image, 0, flip_prob=1.0, **still), image.flip(-1), atol=1e-6)
    assert torch.allclose(augmented(image, 0, flip_prob=0.0, **still), image, atol=1e-6)


def test_shifts_and_angles_stay_within_their_limits() -> None:
    image = torch.zeros(1, 65, 65)
    image[0, 30:35, 30:35] = 1
    only_shift = {"rotate": 0, "scale": 0, "flip_prob": 0, "contrast": 0, "brightness": 0, "prob": 1.0}
    axis = torch.arange(65.0)
    for seed in range(10):
        moved = augmented(image, seed, translate=6, **only_shift)[0]
        centre = [float((moved.sum(1 - i) * axis).sum() / moved.sum()) for i in (0, 1)]
        assert np.abs(np.subtract(centre, 32)).max() <= 6.1
    line = torch.zeros(1, 65, 65)
    line[0, 32, 12:53] = 1
    only_turn = {**only_shift, "rotate": 10, "translate": 0}
    angles = []
    for seed in range(10):
        y, x = np.nonzero(augmented(line, seed, **only_turn)[0].numpy() > 0.3)
        angles.append(np.degrees(np.arctan(np.polyfit(x, y, 1)[0])))
    assert max(np.abs(angles)) <= 11
    assert max(np.abs(angles)) > 3


def test_a_seeded_dataset_repeats_an_epoch_and_varies_the_next() -> None:
    items = [{"case": "a", "image": blob((1, 24, 24))}]
    dataset = SeededDataset(PreparedDataset(items, [RandAugmentSlicesd("image")]), seed=7)
    first, again, later = (dataset[(epoch, 0)]["image"] for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
