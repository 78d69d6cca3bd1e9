"""Two processes over gloo train what one would, skip together, end together, and notice when they differ."""

import json

import pytest
import torch
import two_ranks
from two_processes import run_two

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_two(two_ranks.rank_main, folder)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", two_ranks.combinations(), ids=lambda case: two_ranks.name_of(*case))
def test_replicas_stay_equal_and_are_what_one_process_trains(found, case):
    first, second = (each[two_ranks.name_of(*case)] for each in found)
    assert first == second
    for ours, alone in zip(first["parameters"], two_ranks.trained_alone(*case), strict=True):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [name for name, where in two_ranks.BAD.items() if where])
def test_all_ranks_count_a_batch_that_one_of_them_skips(found, bad):
    epochs = 3
    for each in found:
        assert each[two_ranks.name_of(2, bad, "nothing")]["skipped"] == epochs * len(two_ranks.BAD[bad])


def test_a_gradient_that_is_not_finite_on_one_rank_is_used_by_none(found):
    assert [each["exploding"] for each in found] == [{"untouched": True, "skipped": 2}] * 2


@pytest.mark.parametrize("accumulate", two_ranks.ACCUMULATE)
def test_a_signal_to_one_rank_ends_all_after_the_same_iteration(found, accumulate):
    assert [each[f"signal, accumulate {accumulate}"] for each in found] == [{"code": 143, "iteration": 3}] * 2


def test_a_signal_in_validation_ends_all_after_it(found):
    assert [each["validation"] for each in found] == [{"code": 143, "iteration": 3 + rank} for rank in range(2)]


def test_replicas_that_differ_are_noticed_on_all_ranks(found):
    for each in found:
        assert "after epoch 4" in each["drifted"]["message"]
        assert "second.bias" in each["drifted"]["message"]


def test_gradients_are_averaged_where_any_rank_has_one(found):
    assert [each["averaged"] for each in found] == [[[2.0, 2.0], [1.5, 1.5], None]] * 2
