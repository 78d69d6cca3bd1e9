"""A schedule that becomes longer or shorter when its run is resumed."""

import copy

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, PolynomialLR

from monai_ext.handlers.schedule import follow, lengths

KINDS = {
    "cosine": lambda optimizer, n: CosineAnnealingLR(optimizer, T_max=n, eta_min=1e-5),
    "polynomial": lambda optimizer, n: PolynomialLR(optimizer, total_iters=n, power=0.9),
}


def begun(kind, length):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]], "lr": 0.02}])
    return optimizer, KINDS[kind](optimizer, length)


def rates_of(optimizer, scheduler, epochs):
    found = []
    for _ in range(epochs):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def resumed(kind, before, after, at):
    """Rates of the epochs before and after a resume with another length."""
    optimizer, scheduler = begun(kind, before)
    used = rates_of(optimizer, scheduler, at)
    states = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    optimizer, scheduler = begun(kind, after)
    planned = lengths(scheduler)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    follow(scheduler, planned, used[-1])
    return used + rates_of(optimizer, scheduler, after - at)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after", "at"), [(10, 20, 4), (10, 20, 10), (20, 10, 4), (10, 11, 10), (4, 8, 1)])
def test_no_rate_rises_and_the_new_length_is_followed_to_its_end(kind, before, after, at):
    rates = resumed(kind, before, after, at)
    for group in range(2):
        course = [rate[group] for rate in rates]
        assert course == sorted(course, reverse=True)
        assert course[-1] > 0
        assert course[-1] < course[at - 1] or at == 1
        shape = rates_of(*begun(kind, after), after)
        scale = (course[-1] - course[at]) / (shape[-1][group] - shape[at][group]) if after - at > 1 else 1
        assert 0 < scale <= 1 + 1e-6 or after < before


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_length_changes_nothing(kind):
    assert resumed(kind, 10, 10, 4) == rates_of(*begun(kind, 10), 10)


def test_a_schedule_without_a_length_goes_on():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    follow(ConstantLR(optimizer, factor=1.0), lengths(ConstantLR(optimizer, factor=1.0)), [0.1])
    follow(None, {}, None)
    assert optimizer.param_groups[0]["lr"] == 0.1
