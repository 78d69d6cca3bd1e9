from __future__ import annotations

import logging
import re

import pytest
from ignite.engine import Engine, Events

from monai_ext.handlers import console
from monai_ext.handlers.console import Console


@pytest.mark.parametrize(
    ("first", "seconds", "left"),
    [(0, 60, ["about 3 min", "about 2 min", "about 1 min"]), (2, 5400, ["about 1 h 30 min"])],
    ids=["from the beginning", "resumed"],
)
def test_each_epoch_says_how_long_the_rest_of_the_training_takes(monkeypatch, caplog, first, seconds, left) -> None:
    clock = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    trainer, shown = Engine(lambda engine, batch: {"loss": 0.0}), Console()
    shown.attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def end_of_epoch(engine: Engine) -> None:
        clock[0] += seconds
        shown.epoch({"epoch": engine.state.epoch, "lr": 0.1}, 4, is_best=False)

    @trainer.on(Events.STARTED)
    def resume(engine: Engine) -> None:
        engine.state.epoch = engine.state.iteration = first

    with caplog.at_level(logging.INFO, "monai_ext"):
        trainer.run([0], max_epochs=4)
    found = [re.findall(r"\| (about .*) left$", line) for line in caplog.messages]
    assert found == [*([text] for text in left), []]
