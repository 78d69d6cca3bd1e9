"""`torchrun` on the CPU: trains, and reports what one process reports (B13).

Where the launcher isn't the point, its processes are forked: the imports take longer than the training.
"""

import json
import signal
import sys

import psutil
import pytest
import torch
from trainings import told_by, wait_for

pytestmark = pytest.mark.slow


def torchrun(processes):
    return (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")


@pytest.fixture(scope="module")
def trained(training):
    done = training.run("two", "--batch_size", "2", launcher=torchrun(2), overlays=("multi_gpu_train.json",))
    assert done.returncode == 0, done.stderr
    return training.only_run("two")


def test_two_processes_train_one_network(trained):
    metrics = json.loads((trained / "metrics" / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["history"]] == [1, 2, 3]
    assert sum(map(sum, metrics["confusion_matrix"])) == 5  # an odd number of cases, each counted once
    last = torch.load(trained / "checkpoints" / "last.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in last["model"])


def test_evaluation_does_not_depend_on_the_number_of_processes(training, trained):
    found = {}
    for processes, files in ((1, ("evaluate.json",)), (2, ("multi_gpu_train.json", "evaluate.json"))):
        output = f"evaluated_{processes}"
        words = ("--checkpoint", str(trained / "checkpoints" / "best.pt"))
        training.fork_ranks(output, *words, processes=processes, overlays=files)
        (run,) = (training.folder / output / "evaluation" / "fold_1").glob("run_*")
        found[processes] = json.loads((run / "metrics" / "metrics.json").read_text())
    assert found[1]["confusion_matrix"] == found[2]["confusion_matrix"]
    for name, value in found[1]["metrics"].items():
        assert found[2]["metrics"][name] == pytest.approx(value, rel=1e-5)


def test_a_killed_run_of_two_processes_can_be_resumed(training):
    options = {"launcher": torchrun(2), "overlays": ("multi_gpu_train.json",)}
    process = training.start("two_killed", "--batch_size", "2", **options)
    for line in process.stdout:
        if "epoch 1/3" in line:
            break
    process.terminate()
    process.communicate(timeout=300)
    training.fork_ranks("two_killed", "--batch_size", "2", "--resume", "auto", overlays=options["overlays"])
    metrics = json.loads((training.only_run("two_killed") / "metrics" / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["history"]] == [1, 2, 3]


def test_two_processes_unfreeze_together(nuclei_training):
    nuclei_training.fork_ranks("two", overlays=("multi_gpu_train.json",))
    run = nuclei_training.only_run("two")
    history = json.loads((run / "metrics" / "metrics.json").read_text())["history"]
    trained = [entry["trained_parameters"] for entry in history]
    assert trained == sorted(set(trained))
    nuclei = (run / "predictions" / "predictions_nuclei.csv").read_text().splitlines()[1:]
    assert len({line.split(",")[0] for line in nuclei}) == len(nuclei) == 6


def test_two_processes_learn_several_labels_and_score_each_volume_once(ct_training):
    ct_training.fork_ranks("two", "--max_epochs", "2", overlays=("multi_gpu_train.json",))
    run = ct_training.only_run("two")
    history = json.loads((run / "metrics" / "metrics.json").read_text())["history"]
    assert [entry["epoch"] for entry in history] == [1, 2]
    scored, held_out = (
        [line.split(",")[0] for line in (run / path).read_text().splitlines()[1:]]
        for path in ("predictions/val_predictions.csv", "splits/fold_1_val.csv")
    )
    assert sorted(scored) == sorted(held_out)


FREEZING = {
    "spine_training": [
        ("stage_anatomy.json", {"freeze_backbone": True, "accumulate": 2, "architecture": "resnet18", "max_epochs": 2}),
        ("stage_cord_visible.json", {"accumulate": 2, "max_epochs": 2}),
    ],
    "training": [(None, {"freeze_epochs": 1, "accumulate": 2, "max_epochs": 2, "batch_size": 2})],
    "ct_training": [(None, {"freeze_backbone": True, "unfreeze_epoch": None, "max_epochs": 2})],
    "surface_training": [(None, {"checkpointing": True, "accumulate": 2, "max_epochs": 2, "batch_size": 1})],
}


@pytest.mark.parametrize(
    ("name", "overlay", "settings"),
    [(name, *each) for name, given in FREEZING.items() for each in given],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_two_processes_train_with_any_part_frozen(request, name, overlay, settings):
    training = request.getfixturevalue(name)
    output = f"frozen_{overlay}"
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    overlays = ([overlay] if overlay else []) + ["multi_gpu_train.json"]
    training.fork_ranks(output, *words, overlays=overlays)
    metrics = json.loads((training.only_run(output) / "metrics" / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["history"]] == [1, 2]


def test_a_signal_to_one_process_ends_both_as_killed(training):
    options = {"launcher": torchrun(2), "overlays": ("multi_gpu_train.json",)}
    process = training.start("one_signalled", "--batch_size", "2", "--max_epochs", "500", **options)
    wait_for(process, "epoch 1/500")
    ranks = psutil.Process(process.pid).children()
    ranks[-1].send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    record = json.loads((training.only_run("one_signalled") / "run.json").read_text())
    assert record["status"] == "killed", output[-3000:]


@pytest.mark.parametrize("killed", [0, 1], ids=["main", "other"])
def test_a_killed_process_ends_the_others_with_the_way_to_resume(training, killed):
    options = {"launcher": torchrun(2), "overlays": ("multi_gpu_train.json",)}
    name = f"rank_{killed}_killed"
    process = training.start(name, "--batch_size", "2", "--max_epochs", "500", **options)
    wait_for(process, "epoch 2/500")
    ranks = [child for child in psutil.Process(process.pid).children() if "RANK" in child.environ()]
    next(child for child in ranks if child.environ()["RANK"] == str(killed)).kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    sentence = "another of the 2 processes has ended"
    assert sentence in output
    record = json.loads((training.only_run(name) / "run.json").read_text())
    assert record["status"] == "failed"
    assert sentence in record["events"][-1]

    again = ("--batch_size", "2", "--max_epochs", "8", "--resume", "auto")
    training.fork_ranks(name, *again, overlays=options["overlays"])
    assert json.loads((training.only_run(name) / "run.json").read_text())["status"] == "finished"


def test_several_processes_without_the_multi_process_config_are_refused(training):
    told = told_by(training.fork("lonely", environment={"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}))
    assert "add configs/multi_gpu_train.json" in told
