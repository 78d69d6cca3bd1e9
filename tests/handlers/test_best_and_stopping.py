import logging
import math

import pytest

from monai_ext.errors import ConfigError
from monai_ext.handlers import BestEpoch, EarlyStopping


def follow(best, values):
    return [best.update(epoch, value) for epoch, value in enumerate(values, 1)]


def test_ties_are_broken_by_the_second_metric():
    best = BestEpoch(["auc", "f1"])
    assert follow(best, [{"auc": 0.9, "f1": 0.5}, {"auc": 0.9, "f1": 0.6}, {"auc": 0.9, "f1": 0.6}]) == [
        True,
        True,
        False,
    ]
    assert best.epoch == 2


def test_less_is_better_with_a_minus():
    assert follow(BestEpoch(["-val_loss"]), [{"val_loss": 2.0}, {"val_loss": 3.0}, {"val_loss": 1.0}]) == [
        True,
        False,
        True,
    ]


def test_nan_is_never_best_and_that_is_said_once(caplog):
    best = BestEpoch(["auc", "f1"])
    with caplog.at_level(logging.WARNING):
        result = follow(best, [{"auc": math.nan, "f1": 1}, {"auc": None, "f1": 1}, {"auc": 0.1, "f1": math.nan}])
    assert result == [False, False, True]
    assert len(caplog.records) == 1
    assert "auc can't be computed" in caplog.text


@pytest.mark.parametrize(("monitor", "value"), [("auc", math.inf), ("-own", -math.inf), ("-own", math.inf)])
def test_what_is_infinite_is_never_best(monitor, value):
    assert follow(BestEpoch([monitor]), [{monitor.removeprefix("-"): number} for number in (value, 0.1)]) == [
        False,
        True,
    ]


def test_a_finite_tie_breaker_beats_a_missing_one():
    assert follow(BestEpoch(["auc", "f1"]), [{"auc": 0.5, "f1": math.nan}, {"auc": 0.5, "f1": 0.1}]) == [True, True]


def test_min_delta_asks_for_more():
    assert follow(BestEpoch(["auc"], min_delta=0.1), [{"auc": 0.5}, {"auc": 0.55}, {"auc": 0.65}]) == [
        True,
        False,
        True,
    ]


def test_an_unknown_metric_is_named():
    with pytest.raises(ConfigError, match="metric 'auk' does not exist, or is no number; did you mean 'auc'"):
        BestEpoch(["auk"]).update(1, {"auc": 0.5, "f1": 0.5})


def stop_at(values, patience, min_epochs):
    best = BestEpoch(["auc"])
    stopping = EarlyStopping(best, patience, min_epochs)
    for epoch, value in enumerate(values, 1):
        best.update(epoch, {"auc": value})
        if stopping.should_stop(epoch):
            return epoch
    return None


@pytest.mark.parametrize(
    ("patience", "min_epochs", "expected"), [(3, 1, 4), (3, 10, 10), (7, 10, 10), (None, 1, None), (0, 1, None)]
)
def test_stops_after_patience_and_never_before_the_minimum(patience, min_epochs, expected):
    assert stop_at([0.5] * 20, patience, min_epochs) == expected


def test_an_improvement_starts_the_count_anew():
    assert stop_at([0.5, 0.5, 0.6, 0.6, 0.6], 2, 1) == 5


def test_state_survives():
    best = BestEpoch(["auc"])
    stopping = EarlyStopping(best, 2, 1)
    for epoch, value in enumerate([0.9, 0.5], 1):
        best.update(epoch, {"auc": value})
        stopping.should_stop(epoch)
    other_best = BestEpoch(["auc"])
    other = EarlyStopping(other_best, 2, 1)
    other_best.load_state_dict(best.state_dict())
    other.load_state_dict(stopping.state_dict())
    other_best.update(3, {"auc": 0.7})
    assert other.should_stop(3)
    assert other.stopped(3)


def test_a_monitor_looks_the_way_in_which_its_metric_is_better():
    with pytest.raises(ConfigError, match="of normals_angle less is better; write '-normals_angle'"):
        BestEpoch(["auc", "normals_angle"])
    BestEpoch(["-val_loss", "-my_own"])
