"""A run killed at any moment, from its first second to its last, ends as the undisturbed one after `--resume auto`."""

import contextlib
import json
import random
import signal
import time

import pytest
from test_kill_and_resume import assert_same
from trainings import finish

pytestmark = pytest.mark.slow
KILLS = 10
OF_EACH_RUN = {"started", "ended", "run_name", "memory"}


def final_record(training, output):
    """All that the record of the only run says, without its times, names and settings of resuming."""
    run = training.only_run(output)
    record = json.loads((run / "run.json").read_text().replace(str(training.folder / output), "OUTPUT"))
    parameters = {name: value for name, value in record["parameters"].items() if name not in ("resume", "run_name")}
    return {**{name: value for name, value in record.items() if name not in OF_EACH_RUN}, "parameters": parameters}


def status_of(training, output):
    """Status of the run as its record says, or None when the kill came before there was one."""
    for record in (training.folder / output).glob("fold_1/run_*/run.json"):
        return json.loads(record.read_text())["status"]
    return None


@pytest.fixture(scope="module")
def undisturbed(training):
    finish(training, "warm", "--max_epochs", "1")  # fills the cache of prepared volumes
    begin = time.monotonic()
    finish(training, "undisturbed", "--checkpoint_every", "1", before=None)
    return "undisturbed", time.monotonic() - begin


@pytest.mark.parametrize("moment", range(KILLS))
def test_kill_at_any_moment_ends_in_the_same_record(training, undisturbed, moment):
    reference, seconds = undisturbed
    output = f"killed_{moment}"
    process = training.fork(output, "--checkpoint_every", "1", before=None)  # may be killed while it draws
    time.sleep(random.uniform(moment, moment + 1) / KILLS * seconds)
    with contextlib.suppress(ProcessLookupError):  # it was faster than the undisturbed one
        process.send_signal(signal.SIGKILL)
    process.stdout.read()
    process.wait()
    status = status_of(training, output)
    assert status in (None, "running", "finished")
    if status != "finished":  # killed on its way out; there is nothing to go on with
        finish(training, output, "--checkpoint_every", "1", "--resume", "auto")
    assert final_record(training, output) == final_record(training, reference)
    assert_same(training.only_run(output), training.only_run(reference))
    assert [path for path in (training.folder / output).rglob("*partial*") if path.is_file()] == []
    assert [path.name for path in (training.folder / output / "fold_1").iterdir()] == [training.only_run(output).name]
