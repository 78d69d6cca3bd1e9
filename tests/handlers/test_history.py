import math

import pytest
import torch
from ignite.engine import Engine, Events

from monai_ext.handlers import History


def trainer(losses):
    def step(engine, batch):
        return {"image": torch.zeros(batch[1], 1), "loss": torch.tensor(batch[0])}

    engine = Engine(step)
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    return engine


def run(history, batches, epochs=1, start=None):
    engine = trainer(batches)
    history.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, history.record)
    engine.run(batches, max_epochs=epochs)
    return history.entries


def test_the_training_loss_is_the_mean_over_samples():
    (entry,) = run(History(), [(1.0, 4), (2.0, 1)])
    assert entry["train_loss"] == pytest.approx(6 / 5)
    assert entry["lr"] == 0.5
    assert entry["epoch"] == 1


def test_skipped_batches_do_not_count():
    (entry,) = run(History(), [(1.0, 4), (math.nan, 4)])
    assert entry["train_loss"] == 1.0


def test_an_epoch_without_any_finite_loss_says_so():
    (entry,) = run(History(), [(math.nan, 4)])
    assert math.isnan(entry["train_loss"])


def test_metrics_are_taken_only_from_epochs_that_validated():
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.metrics = {}
    history = History(evaluator)
    engine = trainer([])
    history.attach(engine)

    def validate():
        evaluator.run([0])
        evaluator.state.metrics = {"loss": 0.25, "auc": 0.75, "table": [1, 2]}

    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), validate)
    engine.add_event_handler(Events.EPOCH_COMPLETED, history.record)
    engine.run([(1.0, 1)], max_epochs=2)
    assert "auc" not in history.entries[0]
    assert history.entries[1]["val_loss"] == 0.25
    assert history.entries[1]["auc"] == 0.75
    assert "table" not in history.entries[1]


def test_a_metric_that_is_no_number_is_left_out_with_a_warning(caplog):
    evaluator = Engine(lambda engine, batch: None)
    history = History(evaluator)
    engine = trainer([])
    history.attach(engine)

    @engine.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run([0])
        evaluator.state.metrics = {"vector": torch.zeros(2), "both": {"f1": 0.5}, "f1": 0.5}
        history.record(engine)

    engine.run([(1.0, 1)], max_epochs=2)
    assert [(entry["f1"], "vector" in entry) for entry in history.entries] == [(0.5, False)] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "metric vector is no number (Tensor): it is not recorded"
    ]


def test_summary_of_the_losses():
    history = History()
    run(history, [(3.0, 1)], epochs=2)
    history.entries[0]["train_loss"] = 1.0
    assert history.summary() == {"train": {"min": 1.0, "max": 3.0, "mean": 2.0, "std": 1.0}}


def with_terms(batches, history, epochs=1, start=0):
    def step(engine, batch):
        loss, size = batch
        return {"image": torch.zeros(size, 1), "loss": loss, "loss_sheet": loss / 4, "loss_normals": 3 * loss / 4}

    engine = Engine(step)
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    history.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, history.record)
    engine.state.iteration, engine.state.epoch_length = start, 2
    engine.run(batches[start:] if start else batches, max_epochs=epochs, epoch_length=2)
    return history


def test_terms_of_the_loss_have_their_own_entries():
    (entry,) = with_terms([(1.0, 4), (math.nan, 4)], History()).entries
    assert (entry["train_loss_sheet"], entry["train_loss_normals"]) == (0.25, 0.75)


def test_a_term_is_the_mean_over_the_batches_in_which_it_counts():
    history = History()
    engine = Engine(lambda engine, batch: {"image": torch.zeros(2, 1), "loss": 1.0, "loss_normals": batch})
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    history.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, history.record)
    engine.run([0.5, math.nan], max_epochs=1)
    (entry,) = history.entries
    assert (entry["train_loss"], entry["train_loss_normals"]) == (1.0, 0.5)


def test_a_checkpoint_whose_terms_share_their_samples_is_still_read():
    history = History()
    history.load_state_dict({"entries": [], "sums": {"loss": 2.0, "loss_sheet": 4.0}, "samples": 2.0})
    assert history._restored["samples"] == {"loss": 2.0, "loss_sheet": 2.0}


def test_sums_within_an_epoch_survive_a_checkpoint():
    history, seen = History(), []
    engine = Engine(lambda engine, batch: {"image": torch.zeros(2, 1), "loss": batch, "loss_sheet": batch})
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    history.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: seen.append(history.state_dict()))
    engine.run([1.0, 3.0], max_epochs=1)
    assert seen == [
        {"entries": [], "sums": {"loss": 2.0, "loss_sheet": 2.0}, "samples": {"loss": 2.0, "loss_sheet": 2.0}}
    ]

    resumed, engine = (
        History(),
        Engine(lambda engine, batch: {"image": torch.zeros(2, 1), "loss": 3.0, "loss_sheet": 3.0}),
    )
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    resumed.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, resumed.record)
    engine.add_event_handler(Events.STARTED, lambda: resumed.load_state_dict(seen[0]))
    engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "iteration", 1))
    engine.run([3.0, 3.0], max_epochs=1, epoch_length=2)
    assert resumed.entries[0]["train_loss_sheet"] == pytest.approx((2.0 + 6.0) / 4)
