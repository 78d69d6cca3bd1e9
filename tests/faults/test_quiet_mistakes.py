"""Nothing is quietly wrong on the command line: predictions that aren't finite, half a prediction, a wrong kernel, and
what is only to be looked at."""

import functools
import json
import shutil

import pytest
import torch
from failing_system import room_for
from fork_server import Forked
from trainings import finish

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(training):
    return finish(training, "trained", "--max_epochs", "1")


def infer(training, run, output, checkpoint, before=None):
    """Exit code and last line of an inference, and what it left."""
    words = ["run", "--config_file", run / "config" / "inference.json", "--checkpoint", checkpoint, "--num_workers", 0]
    folder = training.folder / output
    words += ["--inputs", training.settings["dataset_dir"], "--output_dir", folder]
    process = Forked(["monai.bundle", *words], training.folder, before)
    said = process.stdout.read()
    return process.wait(), said.splitlines()[-1], {path.name: path.stat().st_size for path in folder.glob("*")}


def test_predictions_that_are_not_finite_are_one_sentence_and_no_file(training, trained):
    content = torch.load(trained / "checkpoints" / "best.pt", weights_only=True)
    content["model"] = {name: value * float("nan") for name, value in content["model"].items()}
    torch.save(content, training.folder / "nan.pt")
    code, told, files = infer(training, trained, "not_finite", training.folder / "nan.pt")
    assert (code, files) == (2, {})
    assert "Brats18_" in told
    assert "its predictions are not finite" in told


def test_a_prediction_whose_last_file_has_no_room_leaves_none(training, trained):
    checkpoint = trained / "checkpoints" / "best.pt"
    code, _, files = infer(training, trained, "roomy", checkpoint)
    assert code == 0
    assert len(files) > 1
    room = functools.partial(room_for, max(files.values()) - 1)
    code, told, left = infer(training, trained, "tight", checkpoint, room)
    assert (code, left) == (2, {})
    assert "File too large; raise the limit" in told


def wrong_kernel():
    from monai_ext.engines import convolution_check

    convolution_check._gradient_error = lambda *_: 1.1


def test_a_wrong_kernel_ends_a_training_in_half_precision_before_it_writes_anything(training):
    process = training.fork("bf16", "--amp", "True", "--precision", "bf16", before=wrong_kernel)
    told = process.stdout.read().splitlines()[-1]
    assert process.wait() == 2
    assert "computes a wrong weight gradient in bfloat16 for Conv3d(" in told
    assert not (training.folder / "bf16" / "fold_1").exists()


def broken_report_and_hint():
    from monai_ext import reports
    from monai_ext.handlers import standard_training

    def broken(*_, **__):
        raise KeyError("colour")

    reports.write_report = standard_training.next_command = broken


def test_a_report_and_a_hint_that_fail_do_not_fail_the_training(training):
    process = training.fork("without", "--max_epochs", "1", before=broken_report_and_hint)
    said = process.stdout.read()
    assert process.wait() == 0, said
    for what in ("the report", "the hint on what to do next"):
        assert f"{what} could not be made (KeyError: 'colour')" in said
    assert json.loads((training.only_run("without") / "run.json").read_text())["status"] == "finished"


def test_a_training_whose_config_is_in_yaml_finishes(training):
    bundle = shutil.copytree(training.configs.parent, training.folder / "in_yaml" / "brats_resnet50")
    config = (bundle / "configs" / "train.json").rename(bundle / "configs" / "train.yaml")
    words = training.command("yaml", "--max_epochs", "1", launcher=())[1:]
    words[words.index("--config_file") + 1] = str(config)
    process = Forked(words, training.folder)
    said = process.stdout.read()
    assert process.wait() == 0, said
    assert json.loads((training.only_run("yaml") / "run.json").read_text())["status"] == "finished"
