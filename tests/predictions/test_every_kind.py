"""What holds for the predictions of every kind of task: finite or refused, all files or none, each case once."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine
from two_processes import run_two

from monai_ext import io
from monai_ext.errors import DataError, WriteError
from monai_ext.handlers import StandardEvaluation, WritePredictions
from monai_ext.predictions import Classification, Masks, MultiLabel, Patches
from monai_ext.runs import RunFolder

TARGETS = {"sheet": {"channels": 1, "activation": "sigmoid"}, "normals": {"channels": 3}}
LEVELS = {"cases": "whole", "instances": "pieces", "instance_columns": ["z"]}
RANDOM = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.rand(*shape, generator=RANDOM)


def targets():
    return {"sheet": random(1, 2, 3, 4), "normals": random(3, 2, 3, 4)}


COUNT = 6
# Kind -> how it is made, and prediction and label of each item; two of them belong to each case.
KINDS = {
    "classification": (lambda: Classification(["x", "y"]), [(random(2), n % 2) for n in range(COUNT)]),
    "instances": (lambda: Classification(["x", "y"], **LEVELS), [(random(2), n // 2 % 2) for n in range(COUNT)]),
    "multi-label": (
        lambda: MultiLabel(["x", "y"], **LEVELS),
        [(random(2), torch.tensor([n // 2 % 2, 1.0])) for n in range(COUNT)],
    ),
    "masks": (lambda: Masks(), [(random(1, 4, 5) - 0.5, (random(1, 4, 5) > 0.5).float()) for _ in range(COUNT)]),
    "patches": (lambda: Patches(TARGETS, key="sheet_dice"), [(targets(), targets()) for _ in range(COUNT)]),
}
# Names in the checkpoints of older runs, which are to be resumed.
LEVEL = "cases columns labels probabilities"
STATES = {
    "classification": {"": LEVEL},
    "instances": {"": LEVEL},
    "multi-label": {"": "cases chosen_here parts", "cases": f"{LEVEL} thresholds", "parts": f"{LEVEL} thresholds"},
    "masks": {"": "loss name number overlap patient predicted true"},
    "patches": {"": "patches", "patches": "losses name number sums"},
}


def evaluator(kind, broken=None):
    """An evaluator whose data are numbers of items; the output of one item may be broken."""

    def step(engine, batch):
        engine.state.batch = [
            {"case": f"case {n // 2}", "patient": f"p{n // 4}", "index": n, "z": n % 2, "label": KINDS[kind][1][n][1]}
            for n in batch
        ]
        return [{"pred": spoilt(KINDS[kind][1][n][0]) if n == broken else KINDS[kind][1][n][0]} for n in batch]

    return Engine(step)


def spoilt(prediction):
    if isinstance(prediction, dict):
        return {**prediction, "sheet": spoilt(prediction["sheet"])}
    prediction = prediction.clone()
    prediction.view(-1)[-1] = math.nan
    return prediction


def predict(kind, folder, batches=((0, 1, 2, 3), (4, 5)), broken=None):
    engine = evaluator(kind, broken)
    WritePredictions(KINDS[kind][0](), folder).attach(engine)
    engine.run([list(batch) for batch in batches])


def validate(kind, folder, broken=None):
    predictions, engine = KINDS[kind][0](), evaluator(kind, broken)
    predictions.attach(engine, "key")
    engine.run([list(range(COUNT))])
    predictions.take(engine)
    predictions.write(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("write", [predict, validate], ids=["new cases", "validation"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_that_is_not_finite_writes_no_file_and_names_its_case(kind, write, tmp_path):
    with pytest.raises(DataError, match="case 2: its predictions are not finite"):
        write(kind, tmp_path, broken=4)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_new_cases_end_with_the_first_batch_that_is_not_finite(kind, tmp_path):
    engine = evaluator(kind, broken=0)
    WritePredictions(KINDS[kind][0](), tmp_path).attach(engine)
    with pytest.raises(DataError, match="case 0"):
        engine.run([[0], [1], [2]])
    assert engine.state.iteration == 1


@pytest.mark.parametrize("kind", KINDS)
def test_collected_predictions_are_refused_where_nobody_looked_at_the_batches(kind):
    predictions, engine = KINDS[kind][0](), evaluator(kind, broken=4)
    engine.add_event_handler("ITERATION_COMPLETED", predictions.iteration_completed)
    engine.run([list(range(COUNT))])
    with pytest.raises(DataError, match="case 2"):
        predictions.files()


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_of_what_is_not_finite_fails_and_leaves_no_predictions(kind, tmp_path):
    predictions, engine = KINDS[kind][0](), evaluator(kind, broken=4)
    predictions.attach(engine, "key")
    run = RunFolder(tmp_path)
    StandardEvaluation(run, predictions).attach(engine)
    with pytest.raises(DataError, match="case 2"):
        engine.run([list(range(COUNT))])
    assert run.record["status"] == "failed"
    assert not list((run / "predictions").glob("*"))


@pytest.mark.parametrize("write", [predict, validate], ids=["new cases", "validation"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_at_any_file_leaves_what_was_there(kind, write, tmp_path, monkeypatch):
    write(kind, tmp_path)
    before = contents(tmp_path)
    assert before
    flush = io.os.fsync
    for full_at in range(len(before)):
        flushed = []

        def fsync(handle, flushed=flushed, full_at=full_at):
            if len(flushed) == full_at:
                raise OSError(28, "No space left on device")
            flushed.append(handle)
            flush(handle)

        with monkeypatch.context() as patch:
            patch.setattr(io.os, "fsync", fsync)
            patch.setitem(KINDS, kind, (KINDS[kind][0], KINDS[kind][1][::-1]))  # other predictions
            with pytest.raises(WriteError, match=r"/\w[^/]*: No space left on device"):  # no hidden file is named
                write(kind, tmp_path)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_names_the_state_of_the_best_epoch_as_ever(kind):
    predictions, engine = KINDS[kind][0](), evaluator(kind)
    predictions.attach(engine, "key")
    engine.run([list(range(COUNT))])
    predictions.take(engine)
    state = predictions.best_state()
    for part, names in STATES[kind].items():
        of_part = state[part] if part else state
        of_part = of_part[0] if isinstance(of_part, list) else of_part
        assert sorted(of_part) == names.split()


@pytest.mark.parametrize("kind", KINDS)
def test_neither_order_nor_batches_nor_repetitions_change_a_byte(kind, tmp_path):
    predict(kind, tmp_path / "plain")
    predict(kind, tmp_path / "other", batches=((5, 1), (0, 0, 4), (2,), (3,)))
    assert contents(tmp_path / "other") == contents(tmp_path / "plain")


def _rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for kind in KINDS:
        # a process with too few items repeats one
        predict(kind, folder / f"rank_{rank}" / kind, batches=((0, 2, 4),) if rank == 0 else ((1, 3), (5, 0)))
    dist.destroy_process_group()


@pytest.mark.slow
def test_the_main_one_of_two_processes_alone_writes_each_case_once(tmp_path):
    run_two(_rank, tmp_path)
    for kind in KINDS:
        predict(kind, tmp_path / "one" / kind)
        assert contents(tmp_path / "rank_0" / kind) == contents(tmp_path / "one" / kind)
    assert not (tmp_path / "rank_1").exists()
