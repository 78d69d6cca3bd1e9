import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn

from monai_ext.engines import TrainingStep
from monai_ext.errors import ConfigError
from monai_ext.handlers import StandardTraining
from monai_ext.io import read_json, write_json
from monai_ext.networks import read_checkpoint
from monai_ext.runs import RunFolder


def trainer_of(network, folder, step):
    return SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": torch.ones(2, 3), "label": torch.tensor([0, 1]), "case": ["a", "b"]}],
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        iteration_update=step,
        train_handlers=[StandardTraining(RunFolder(folder), plot_every=0)],
        decollate=False,
    )


def test_network_optimizer_and_step_are_the_trainer_s(tmp_path):
    network = nn.Linear(3, 2)
    trainer = trainer_of(network, tmp_path, TrainingStep(amp=False))
    trainer.run()
    (file,) = tmp_path.glob("**/last.pt")
    saved = read_checkpoint(file)
    assert torch.equal(saved["model"]["weight"], network.weight)
    assert saved["optimizer"]["state"][0]["step"] == 2
    assert saved["step"] == trainer._process_function.state_dict()


def test_a_trainer_with_monai_s_own_step_is_refused_before_there_is_a_run_folder(tmp_path):
    with pytest.raises(ConfigError, match="iteration_update must be a TrainingStep"):
        trainer_of(nn.Linear(3, 2), tmp_path / "runs", None).run()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("monai_ext.reports.write_report", "the report"),
        ("monai_ext.reports.save_all", "the plots"),
        ("monai_ext.handlers.standard_training.inference_command", "the hint on what to do next"),
        ("monai_ext.handlers.standard_training.key_metric", "the sentence on the selection"),
    ],
)
def test_what_is_only_to_be_looked_at_does_not_fail_a_training(tmp_path, monkeypatch, caplog, broken, what):
    def fail(*_, **__):
        raise KeyError("colour")

    monkeypatch.setattr(broken, fail)
    trainer = trainer_of(nn.Linear(3, 2), tmp_path, TrainingStep(amp=False))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: hint(tmp_path))
    trainer.run()
    (record,) = tmp_path.glob("**/run.json")
    assert read_json(record)["status"] == "finished"
    assert f"{what} could not be made (KeyError: 'colour'); the run goes on without" in caplog.text


def hint(folder):
    """The file whose command is told at the end."""
    (run,) = folder.glob("fold_1/run_*")
    write_json(run / "config" / "inference.json", {})
