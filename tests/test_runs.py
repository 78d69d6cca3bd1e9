import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest
from failing_system import failing, files_up_to, full_while

from monai_ext import runs
from monai_ext.errors import ConfigError, RunLockedError, WriteError


@pytest.fixture
def opened(tmp_path):
    run = runs.RunFolder(tmp_path, fold=2)
    run.open()
    yield run
    run.close(runs.FINISHED)


def test_a_run_has_its_own_folder_below_the_fold(opened, tmp_path):
    assert opened.path.parent == tmp_path / "fold_2"
    assert opened.path.name.startswith("run_20")
    other = runs.RunFolder(tmp_path, fold=2)
    other.open()
    assert other.path != opened.path
    other.close(runs.FINISHED)


def test_the_record_tells_how_a_run_ended(tmp_path):
    run = runs.RunFolder(tmp_path)
    run.open()
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    run.close(runs.KILLED)
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "killed"
    assert record["ended"] >= record["started"]


def test_resume_auto_takes_the_newest_unfinished_run(tmp_path):
    paths = []
    for status in (runs.KILLED, runs.FAILED, runs.FINISHED):
        run = runs.RunFolder(tmp_path)
        paths.append(run.open())
        run.close(status)
    resumed = runs.RunFolder(tmp_path, resume="auto")
    assert resumed.open() == paths[1]
    assert resumed.resumed
    resumed.close(runs.FINISHED)
    assert runs.finished_runs(tmp_path, 1) == [paths[2], paths[1]]


def test_resume_auto_without_an_unfinished_run_starts_a_new_one(tmp_path):
    run = runs.RunFolder(tmp_path, resume="auto")
    run.open()
    assert not run.resumed
    run.close(runs.FINISHED)


def test_resume_of_a_path_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no run folder"):
        runs.RunFolder(tmp_path, resume=str(tmp_path / "nowhere"))


def test_what_a_killed_writer_left_is_swept_on_resume(tmp_path):
    run = runs.RunFolder(tmp_path)
    path = run.open()
    (path / "checkpoints").mkdir()
    left = path / "checkpoints" / ".last.abc.partial.pt"
    left.write_text("half")
    run.close(runs.KILLED)
    resumed = runs.RunFolder(tmp_path, resume="auto")
    resumed.open()
    assert not left.exists()
    resumed.close(runs.FINISHED)


HOLDER = """
import sys, time
from monai_ext.runs import RunFolder
run = RunFolder(sys.argv[1])
run.open()
print(run.path, flush=True)
time.sleep(60)
"""


@pytest.fixture
def held_by_another_process(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    path = holder.stdout.readline().strip()
    yield holder, path
    holder.kill()
    holder.wait()


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path, held_by_another_process):
    holder, path = held_by_another_process
    with pytest.raises(RunLockedError, match=f"{path}: process {holder.pid} on .* is writing to it"):
        runs.RunFolder(tmp_path, resume="auto").open()
    bystander = runs.RunFolder(tmp_path)
    bystander.open()
    assert bystander.crashed() == []
    holder.kill()
    holder.wait()
    assert [str(found) for found in bystander.crashed()] == [path]
    resumed = runs.RunFolder(tmp_path, resume=path)
    assert str(resumed.open()) == path
    resumed.close(runs.FINISHED)
    bystander.close(runs.FINISHED)


def test_one_process_cannot_open_a_run_twice(opened):
    with pytest.raises(RunLockedError, match="this process already writes to it"):
        runs.RunFolder(opened.parent.parent, resume=str(opened.path)).open()


def test_versions_name_what_decides_the_numbers():
    assert {"python", "torch", "monai", "numpy"} <= runs.versions().keys()


DAMAGE = {"without": None, "empty": "", "truncated": '{"status": "runn', "another kind": "[1]"}
DAMAGE |= {"a number without end": '{"fold": ' + "1" * 5000 + "}", "lists in lists": "[" * 100_000}
DAMAGE |= {"of another program": '{"name": "a pipeline"}', "another state": '{"status": ["running"]}'}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_folder_without_a_record_that_holds_stops_nobody(tmp_path, content, caplog):
    killed = runs.RunFolder(tmp_path)
    resumable = killed.open()
    killed.close(runs.KILLED)
    damaged = tmp_path / "fold_1" / "run_99991231_235959"
    damaged.mkdir()
    if content is not None:
        (damaged / "run.json").write_text(content)
    runs._warn_of_damage.cache_clear()
    new = runs.RunFolder(tmp_path)
    new.open()
    assert new.crashed() == []
    new.close(runs.FINISHED)
    resumed = runs.RunFolder(tmp_path, resume="auto")
    assert resumed.open() == resumable
    resumed.close(runs.FINISHED)
    assert runs.finished_runs(tmp_path, 1) == [new.path, resumable]
    assert [record.message.startswith(f"{damaged} is ignored") for record in caplog.records] == [True]
    with pytest.raises(ConfigError, match=f"--resume {damaged}: no run folder"):
        runs.RunFolder(tmp_path, resume=str(damaged))


def test_a_new_folder_is_seen_with_its_record_and_its_lock_or_not_at_all(tmp_path, monkeypatch):
    seen = []
    write_json, take_lock = runs.write_json, runs.RunFolder._take_lock

    def look(function, *arguments):
        seen.extend((tmp_path / "fold_1").glob("run_*"))
        result = function(*arguments)
        seen.extend((tmp_path / "fold_1").glob("run_*"))
        return result

    monkeypatch.setattr(runs, "write_json", lambda *arguments: look(write_json, *arguments))
    monkeypatch.setattr(runs.RunFolder, "_take_lock", lambda *arguments: look(take_lock, *arguments))
    run = runs.RunFolder(tmp_path)
    path = run.open()
    assert seen == []
    monkeypatch.undo()
    assert runs.record_of(path)["status"] == runs.RUNNING
    assert sorted(tmp_path.glob("fold_1/*")) == [path]
    run.close(runs.FINISHED)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named_and_nothing_is_left(tmp_path, monkeypatch, number):
    monkeypatch.setattr(runs.fcntl, "lockf", failing(number))
    with pytest.raises(WriteError, match=r"fold_1/.*\.lock: .*; its file system has no file locks .* name a folder on"):
        runs.RunFolder(tmp_path).open()
    assert os.listdir(tmp_path / "fold_1") == []


@pytest.mark.parametrize(("room", "file"), [(5, ".lock"), (40, "run.json"), (1000, ".reserve")])
def test_a_disk_that_is_full_at_any_file_of_the_beginning_is_named_and_leaves_nothing(tmp_path, room, file):
    run = runs.RunFolder(tmp_path)
    with files_up_to(room), pytest.raises(WriteError, match=f"could not write .*/{file}: File too large; "):
        run.open()
    run.close(runs.FAILED)  # as the handlers do
    assert os.listdir(tmp_path / "fold_1") == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_a_folder_that_can_not_be_made_is_named(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "mkdir", failing(number))
    with pytest.raises(WriteError, match=f"could not write {tmp_path}/runs/fold_1: {os.strerror(number)}; "):
        runs.RunFolder(tmp_path / "runs").open()


def test_another_user_s_run_is_named_and_left_alone(tmp_path, monkeypatch):
    theirs = runs.RunFolder(tmp_path)
    path = theirs.open()
    theirs._release()  # it was killed
    record = (path / "run.json").read_bytes()
    monkeypatch.setattr(runs, "open", failing(errno.EACCES), raising=False)
    with pytest.raises(WriteError, match=f"{path}/.lock: Permission denied; it is another user's or protected"):
        runs.RunFolder(tmp_path, resume="auto").open()
    assert runs.RunFolder(tmp_path).crashed() == []
    with pytest.raises(WriteError, match=f"{path}/.lock: Permission denied"):
        runs.being_written(path)
    assert (path / "run.json").read_bytes() == record


def test_on_a_full_disk_the_record_still_says_failed(tmp_path, monkeypatch):
    run = runs.RunFolder(tmp_path)
    path = run.open()
    with full_while(path, ".reserve", monkeypatch):
        with pytest.raises(WriteError, match=r"run\.json: No space left on device; make room"):
            run.update(best_checkpoint="checkpoints/best.pt")
        run.close(runs.FAILED, events=["the disk was full"])
    record = json.loads((path / "run.json").read_text())
    assert (record["status"], record["events"]) == ("failed", ["the disk was full"])
    assert sorted(os.listdir(path)) == [".lock", "run.json"]
    resumed = runs.RunFolder(tmp_path, resume="auto")
    resumed.open()
    assert (path / ".reserve").stat().st_size > 1e5
    resumed.close(runs.FINISHED)
