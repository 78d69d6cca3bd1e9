import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensity

from monai_ext.errors import ConfigError
from monai_ext.transforms import NormalizeVolume

CT = {"lower": 10.0, "upper": 200.0, "mean": 90.0, "std": 25.0}


@pytest.fixture
def batch():
    values = np.random.default_rng(0).normal(100, 40, (2, 2, 5, 6, 7))
    return torch.from_numpy(values.clip(0, 255).astype(np.float32))


def test_zscore_is_monai_s_image_by_image(batch):
    normalised = NormalizeVolume()(batch)
    for image, expected in zip(normalised, batch, strict=True):
        torch.testing.assert_close(image, torch.as_tensor(NormalizeIntensity(channel_wise=True)(expected)))


def test_an_image_alone_and_in_a_batch_are_the_same(batch):
    assert torch.equal(NormalizeVolume()(batch[1]), NormalizeVolume()(batch)[1])


def test_ct_clips_and_takes_the_numbers_given(batch):
    expected = (batch.clamp(10, 200) - 90) / 25
    torch.testing.assert_close(NormalizeVolume("ct", CT)(batch), expected)


@pytest.mark.parametrize("scheme", ["zscore", "ct"])
def test_kinds_stay_what_they_are_and_a_uniform_image_is_finite(scheme):
    for image in (
        np.full((1, 3, 3, 3), 90, np.uint8),
        torch.full((1, 3, 3, 3), 90),
        MetaTensor(torch.zeros(1, 3, 3, 3) + 90),
    ):
        result = NormalizeVolume(scheme, CT)(image)
        assert type(result) is type(image)
        assert str(result.dtype).endswith("float32")
        assert float(abs(result).max()) == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="choices: zscore, ct"):
        NormalizeVolume("minmax")
    with pytest.raises(ConfigError, match="needs mean, std"):
        NormalizeVolume("ct", {"lower": 0, "upper": 1})
