from __future__ import annotations

import configparser
import io
import logging
import re
import sys
import threading
from logging.config import fileConfig

import pytest
from source_lines import REPOSITORY
from tqdm import tqdm

from monai_ext.console import ConsoleHandler, tidy_console
from monai_ext.error_report import TRACEBACKS
from monai_ext.workflow import check_settings

TEMPLATE = REPOSITORY / "monai_ext" / "cli" / "template"
CONFIGS = sorted(file for root in (REPOSITORY, TEMPLATE) for file in root.glob("bundles/*/configs/logging.conf"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(stream: io.StringIO, *records: tuple[int, str]) -> list[str]:
    logger = logging.Logger("of_this_test")
    logger.addHandler(ConsoleHandler(stream))
    for level, message in records:
        logger.log(level, message)
    return stream.getvalue().splitlines()


def test_a_warning_is_said_once_and_other_lines_as_often_as_they_come() -> None:
    lines = [(logging.WARNING, "blank"), (logging.INFO, "epoch"), (logging.ERROR, "full")]
    assert said(io.StringIO(), *lines, *lines) == ["blank", "epoch", "full", "epoch", "full"]


def test_only_a_terminal_gets_colour_and_only_for_what_is_wrong(monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = [(logging.INFO, "epoch"), (logging.WARNING, "blank"), (logging.ERROR, "full")]
    assert said(io.StringIO(), *lines) == ["epoch", "blank", "full"]
    assert said(Terminal(), *lines) == ["epoch", "\033[33mblank\033[0m", "\033[31mfull\033[0m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert said(Terminal(), *lines) == ["epoch", "blank", "full"]


def test_a_line_does_not_begin_in_the_middle_of_a_progress_bar() -> None:
    stream = Terminal()
    with tqdm(total=3, file=stream, desc="Epoch") as bar:
        bar.refresh()
        said(stream, (logging.INFO, "a line"))
    (before,) = re.findall("(.*)a line\n", stream.getvalue().replace("\r", "\n"))
    assert before == ""
    assert stream.getvalue().split("a line\n")[1].count("Epoch")


def test_plain_handlers_of_the_console_are_replaced_and_others_stay(monkeypatch, capsys) -> None:
    plain, file = logging.StreamHandler(sys.stdout), logging.StreamHandler(io.StringIO())
    plain.setFormatter(logging.Formatter("line: %(message)s"))
    plain.setLevel(logging.ERROR)
    with monkeypatch.context() as without_pytest:
        without_pytest.setattr(logging.getLogger(), "handlers", [plain, file])
        without_pytest.setattr(sys, "excepthook", sys.excepthook)
        without_pytest.setattr(threading, "excepthook", threading.excepthook)
        check_settings()  # the first step of every config
        check_settings()
        kept, tidy = logging.getLogger().handlers
        logging.getLogger("library").warning("not shown")
        logging.getLogger("library").error("shown")
    assert kept is file
    assert isinstance(tidy, ConsoleHandler)
    assert capsys.readouterr().out == "line: shown\n"


def test_readers_that_nobody_asked_for_are_not_mentioned(caplog, recwarn) -> None:
    from monai.data import NvImgCodecPydicomReader

    tidy_console()
    NvImgCodecPydicomReader()
    assert not caplog.messages
    assert not [entry for entry in recwarn.list if "NvImgCodec" in str(entry.message)]


def test_a_bundle_s_logging_leaves_the_tracebacks_off_the_console() -> None:
    fileConfig(CONFIGS[0], disable_existing_loggers=False)
    assert not TRACEBACKS.propagate
    assert TRACEBACKS.handlers


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parts[-3])
def test_of_other_libraries_only_warnings_are_shown(path) -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(path)
    levels = {config[name].get("qualname", ""): config[name]["level"] for name in config if name.startswith("logger_")}
    # Those with a level of their own, which the root's wouldn't reach, are named.
    others = dict.fromkeys(("", "ignite", "monai", "mlflow"), "WARNING")
    assert levels == {"monai_ext": "INFO", **others}
