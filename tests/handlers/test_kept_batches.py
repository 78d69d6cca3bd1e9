"""What a training keeps of its engines' outputs."""

import torch
from ignite.engine import Engine, Events

from monai_ext import runs
from monai_ext.engines import TrainingStep
from monai_ext.handlers import StandardTraining


def test_no_engine_keeps_its_last_batch_while_the_other_one_works(tmp_path):
    network = torch.nn.Linear(1, 1)
    image = torch.zeros(2, 1, 4)
    validation = Engine(lambda engine, batch: {"pred": image})

    def step(engine, batch):
        engine.state.batch = {"image": image}
        return {"loss": torch.tensor(1.0), "image": image}

    trainer = Engine(step)
    trainer.state.device = torch.device("cpu")
    trainer.network, trainer.loss_function = network, None
    trainer.optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: validation.run([0]))
    StandardTraining(
        runs.RunFolder(tmp_path),
        evaluator=validation,
        plot_every=0,
        network=network,
        optimizer=trainer.optimizer,
        step=TrainingStep(),
    ).attach(trainer)
    kept = []
    validation.add_event_handler(Events.ITERATION_COMPLETED, lambda: kept.append(trainer.state.output))
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: kept.append(validation.state.output))
    trainer.run([0], max_epochs=2)
    assert kept == [None] * 4
