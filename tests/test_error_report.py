import logging
import subprocess
import sys
import threading

import pytest
from ignite.engine import Engine

from monai_ext.error_report import describe, install_error_report
from monai_ext.errors import DataError, IncompleteError

SCRIPT = """
from monai_ext.error_report import install_error_report
from monai_ext.errors import DataError
install_error_report()
try:
    try:
        {raised}
    except Exception as error:
        raise RuntimeError("Failed to instantiate component") from error
except RuntimeError as error:
    raise ValueError("Failed to evaluate") from error
"""


def run(raised, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(raised=raised)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_wrapped_user_error_is_one_sentence_and_exit_code_2():
    done = run("raise DataError('row 3 is empty', 'labels.csv')")
    assert done.returncode == 2
    assert done.stderr == "error: labels.csv: row 3 is empty\n"


def test_a_bug_says_where_and_how_to_see_more():
    done = run("1 / 0")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ZeroDivisionError: division by zero (in <module>, line ")
    assert "MONAI_EXT_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_debugging_shows_the_traceback_and_the_sentence_stays_last():
    done = run("raise DataError('is empty', 'a.nii.gz')", MONAI_EXT_DEBUG="1")
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: a.nii.gz: is empty"


def test_the_innermost_user_error_is_described():
    error = RuntimeError("wrapped")
    error.__cause__ = DataError("is\nempty", "a.csv")
    error.__cause__.__context__ = KeyError("further in")
    assert describe(error) == ("a.csv: is empty", 2)


def test_work_that_could_not_be_done_in_full_is_one_sentence_and_exit_code_1():
    error = RuntimeError("wrapped")
    error.__cause__ = IncompleteError("1 of 2 series admitted")
    assert describe(error) == ("1 of 2 series admitted", 1)


def test_a_component_that_refuses_its_arguments_is_wrong_input_and_named():
    from monai.bundle import ConfigParser

    with pytest.raises(RuntimeError) as caught:
        ConfigParser({"step": {"_target_": "torch.nn.Dropout", "p": 3.0}}).get_parsed_content("step")
    sentence, code = describe(caught.value)
    assert code == 2
    assert sentence.startswith("torch.nn.Dropout(p): dropout probability has to be between 0 and 1")


@pytest.mark.parametrize("debugging", [False, True])
def test_engines_announce_an_error_only_to_those_who_debug(monkeypatch, caplog, debugging):
    """Of an error in a loader process, the announcement is its traceback."""
    engines = logging.getLogger("ignite.engine.engine")
    monkeypatch.setattr(engines, "level", logging.NOTSET)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setenv("MONAI_EXT_DEBUG", str(int(debugging)))
    engines.setLevel(logging.NOTSET)  # which forgets what loggers remember of their parents' level
    install_error_report()

    def fail(engine, batch):
        raise DataError("has NaN\nTraceback (most recent call last): ...", "a.nii")

    with pytest.raises(DataError):
        Engine(fail).run([0])
    assert ("Traceback" in caplog.text) == debugging
