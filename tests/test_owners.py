import os
import time

import psutil

from monai_ext import owners


def test_a_file_is_abandoned_as_soon_as_its_process_is_dead_even_if_nobody_has_noticed(tmp_path, monkeypatch):
    number = os.fork()
    if number == 0:
        time.sleep(600)
    monkeypatch.setattr(os, "getpid", lambda: number)
    path = tmp_path / f"slice.{owners.owner()}.partial.npy"
    monkeypatch.undo()
    path.touch()
    try:
        assert not owners.is_abandoned(path)
        os.kill(number, 9)
        while psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert owners.is_abandoned(path)
    finally:
        os.kill(number, 9)
        os.waitpid(number, 0)
    assert owners.is_abandoned(path)


def test_a_hidden_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path):
    number = os.fork()
    if number == 0:
        owners.hidden_folder(tmp_path / "run")
        os._exit(9)
    os.waitpid(number, 0)
    (left,) = tmp_path.iterdir()
    first = owners.hidden_folder(tmp_path / "run")
    second = owners.hidden_folder(tmp_path / "run")
    assert left not in (first, second)
    assert {*tmp_path.iterdir()} == {first, second}
