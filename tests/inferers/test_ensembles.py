from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from monai_ext.inferers import FlipEnsembleInferer, FoldEnsemble


class Corner(nn.Module):
    """Logits from one corner, so that every flip gives another answer; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        corner = x[(slice(None), 0, *(0,) * (x.ndim - 2))]
        return torch.stack([corner, -corner], dim=1)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_flips_average_probabilities_over_all_corners(dimensions) -> None:
    x = torch.randn(2, 1, *(4, 5, 6)[:dimensions], generator=torch.Generator().manual_seed(0))
    network = Corner()
    probabilities = torch.softmax(FlipEnsembleInferer()(x, network), dim=1)
    corners = [x[(slice(None), 0, *index)] for index in product((0, -1), repeat=dimensions)]
    expected = torch.stack([torch.softmax(torch.stack([c, -c], dim=1), dim=1) for c in corners]).mean(dim=0)
    assert network.calls == 2**dimensions
    torch.testing.assert_close(probabilities, expected)


def test_the_result_does_not_depend_on_how_the_input_is_flipped() -> None:
    x = torch.randn(2, 1, 4, 5, 6)
    inferer = FlipEnsembleInferer()
    torch.testing.assert_close(inferer(x.flip(2, 4), Corner()), inferer(x, Corner()))


def test_without_flips_it_is_a_plain_forward() -> None:
    x, network = torch.randn(2, 1, 4, 5, 6), Corner()
    assert torch.equal(FlipEnsembleInferer(flips=False)(x, network), Corner()(x))
    assert network.calls == 1


def test_further_arguments_reach_the_network() -> None:
    seen = []
    FlipEnsembleInferer()(
        torch.zeros(1, 1, 2, 2), lambda x, *args, **kwargs: seen.append((args, kwargs)) or x[:, :, 0, 0], 3, a=4
    )
    assert seen == [((3,), {"a": 4})] * 4


def test_a_mask_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"needs a classifier with output \(B, C\), got \(1, 1, 4, 4, 4\); set flips=False"
    ):
        FlipEnsembleInferer()(torch.zeros(1, 1, 4, 4, 4), nn.Identity())


def test_folds_average_probabilities() -> None:
    networks = [nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(5, 3)]
    x = torch.randn(4, 5)
    expected = torch.stack([torch.softmax(network(x), dim=1) for network in networks]).mean(dim=0)
    torch.testing.assert_close(torch.softmax(FoldEnsemble(networks)(x), dim=1), expected)


def test_one_fold_keeps_its_probabilities() -> None:
    network, x = nn.Linear(5, 3), torch.randn(4, 5)
    torch.testing.assert_close(FoldEnsemble([network])(x).softmax(1), network(x).softmax(1))


def test_extreme_logits_stay_finite() -> None:
    class Certain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1000.0, 0.0]])

    assert FoldEnsemble([Certain(), Certain()])(torch.zeros(1)).tolist() == [[0.0, -1000.0]]


def test_half_precision_is_averaged_in_float32() -> None:
    networks = [nn.Linear(5, 3).bfloat16() for _ in range(2)]
    assert FoldEnsemble(networks)(torch.randn(4, 5).bfloat16()).dtype == torch.float32


def test_fold_ensemble_scripts() -> None:
    ensemble, x = FoldEnsemble([nn.Linear(5, 3), nn.Linear(5, 3)]), torch.randn(4, 5)
    assert torch.equal(torch.jit.script(ensemble)(x), ensemble(x))


def test_no_fold_is_an_error() -> None:
    with pytest.raises(ValueError, match="FoldEnsemble: needs at least one network"):
        FoldEnsemble([])
