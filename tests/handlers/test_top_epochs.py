import pytest

from monai_ext.errors import ConfigError
from monai_ext.handlers.best import BestEpoch
from monai_ext.handlers.top_epochs import TopEpochs


def top(count=2):
    return TopEpochs(BestEpoch(["-val_loss"]), count)


def test_the_worst_is_dropped_and_the_earlier_stays_at_a_tie():
    epochs = top()
    losses = [0.5, 0.4, 0.6, 0.4, 0.1]
    dropped = [epochs.update(epoch, {"val_loss": loss}) for epoch, loss in enumerate(losses, start=1)]
    assert dropped == [[], [], [3], [1], [4]]
    assert set(epochs.scores) == {2, 5}


def test_an_epoch_without_the_metric_is_never_kept():
    epochs = top()
    assert epochs.update(1, {"val_loss": float("nan")}) == [1]
    assert epochs.update(2, {"val_loss": None}) == [2]
    assert epochs.scores == {}


def test_its_state_goes_on_as_if_nothing_had_happened():
    first, second = top(), top()
    for epoch, loss in enumerate([0.3, 0.2], start=1):
        first.update(epoch, {"val_loss": loss})
    second.load_state_dict(first.state_dict())
    assert second.update(3, {"val_loss": 0.25}) == first.update(3, {"val_loss": 0.25}) == [1]


def test_the_state_of_a_run_that_ranked_no_epochs_is_taken():
    epochs = top()
    epochs.load_state_dict({})
    assert epochs.update(1, {"val_loss": 0.3}) == []


@pytest.mark.parametrize("count", [0, -1, True, 1.5])
def test_an_impossible_count_is_refused(count):
    with pytest.raises(ConfigError, match="--keep_best"):
        top(count)
