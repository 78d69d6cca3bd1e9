import contextlib
import json
import os
import stat
import subprocess
import sys

import pytest

from monai_ext.errors import DataError, WriteError
from monai_ext.io import atomic_path, finite, read_csv, read_json, sweep_partial, write_csv, write_json


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "metrics.json"
    write_json(target, {"auc": 0.9})
    with contextlib.suppress(InterruptedError), atomic_path(target) as temporary:
        temporary.write_text("half a fi")
        raise InterruptedError
    assert read_json(target) == {"auc": 0.9}
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_a_full_disk_names_the_final_file(tmp_path):
    with (
        pytest.raises(WriteError, match=r"could not write .*predictions\.csv: No space left"),
        atomic_path(tmp_path / "predictions.csv"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys
import torch
from monai_ext.errors import WriteError
from monai_ext.io import atomic_path
# What a full disk does to a writer. In a process of its own: the limit holds for every file of the process.
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    with atomic_path(sys.argv[1]) as temporary:
        torch.save({"model": torch.zeros(10000)}, temporary)
except WriteError as error:
    print(error)
"""


def test_a_limit_hit_by_torch_names_the_final_file_and_keeps_the_old(tmp_path):
    target = tmp_path / "last.pt"
    target.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True, check=False)
    assert done.stdout == f"could not write {target}: is the disk full, or a limit reached?\n"
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"could not write .*/file: File exists; name another"):
        write_json(tmp_path / "file" / "a.json", 1)


def test_files_get_the_usual_permissions(tmp_path):
    umask = os.umask(0o022)
    try:
        mode = stat.S_IMODE(write_json(tmp_path / "a.json", 1).stat().st_mode)
    finally:
        os.umask(umask)
    assert mode == 0o644


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    left = tmp_path / "sub" / ".last.x1y2.partial.pt"
    kept = tmp_path / "sub" / "last.pt"
    for path in (left, kept):
        path.write_text("")
    assert sweep_partial(tmp_path) == [left]
    assert kept.exists()


def test_what_another_living_process_is_writing_is_not_swept(tmp_path):
    with atomic_path(tmp_path / "mine.npy") as mine:
        (host, _, token), dead, living = mine.name.split(".")[2].split("-"), ended_process(), os.getppid()
        names = [f".a.{host}-{number}-{token}.x.partial.npy" for number in (living, dead)]
        reused = f".a.{host}-{os.getpid()}-00000000.x.partial.npy"
        elsewhere, old = (f".{name}.00000000-{dead}-{token}.x.partial.npy" for name in ("b", "c"))
        for name in (*names, reused, elsewhere, old):
            (tmp_path / name).touch()
        os.utime(tmp_path / old, (0, 0))
        assert {path.name for path in sweep_partial(tmp_path, shared=True)} == {names[1], reused, old}
        assert {path.name for path in tmp_path.iterdir()} == {names[0], elsewhere, mine.name}


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_numbers_that_json_lacks_become_null(tmp_path):
    content = finite({"auc": float("nan"), "losses": [1.0, float("inf")], "n": 3, "name": "x"})
    assert content == {"auc": None, "losses": [1.0, None], "n": 3, "name": "x"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"auc": float("nan")})


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"], ids=["empty", "truncated", "binary"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"run\.json: not valid JSON"):
        read_json(path)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: file not found"):
        read_json(tmp_path / "absent.json")


def test_csv_survives_the_round_trip(tmp_path):
    rows = [{"case": 'Ä, "b"', "label": "$__import__('os')"}, {"case": "2", "label": "@x"}]
    path = write_csv(tmp_path / "a.csv", rows)
    assert read_csv(path, ["case", "label"]) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,klass\na,HGG\n", r"column 'class' is missing; the file has \['patient_id', 'klass'\]"),
        ("patient_id,class\na,HGG\nb,\n", "row 3, column 'class' is empty"),
        ("patient_id,class\na,HGG\nb,LGG\na,LGG\n", "row 4, column 'patient_id' repeats 'a' of row 2"),
        ("patient_id,class\na,HGG,x\n", "row 2 has more cells than the header"),
        ("", "column 'patient_id' is missing"),
    ],
    ids=["column", "cell", "duplicate", "cells", "empty"],
)
def test_a_wrong_csv_names_file_row_and_column(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"labels\.csv: " + message) as caught:
        read_csv(path, ["patient_id", "class"], unique="patient_id")
    assert caught.value.path == path


def test_csv_in_another_encoding_says_so(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes("patient_id,class\nMüller,HGG\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_csv(path, ["patient_id"])


def test_byte_order_mark_and_blanks_are_no_trouble(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffpatient_id , class\n a , HGG \n", encoding="utf-8")
    assert read_csv(path, ["patient_id", "class"]) == [{"patient_id": "a", "class": "HGG"}]


def test_data_error_keeps_its_path_across_processes():
    import pickle

    error = pickle.loads(pickle.dumps(DataError("is empty", "scan.nii.gz")))
    assert str(error) == "scan.nii.gz: is empty"
    assert str(error.path) == "scan.nii.gz"
    assert json.dumps(str(error))


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    flush, place = os.fsync, os.replace

    def flushed(handle):
        calls.append(("on the disk", os.pread(handle, 100, 0)))
        flush(handle)

    def named(source, target):
        calls.append(("named", target.name))
        place(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", named)
    write_json(tmp_path / "a.json", 1)
    assert calls == [("on the disk", b"1\n"), ("named", "a.json")]
