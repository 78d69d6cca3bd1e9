import errno
import multiprocessing
import os

import pytest
import torch
from failing_system import failing

from monai_ext.data.loader import SeededLoader
from monai_ext.error_report import describe
from monai_ext.errors import DataError, WriteError
from monai_ext.system_errors import writing

ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EACCES: "another user's or protected",
    errno.EPERM: "another user's or protected",
    errno.EROFS: "name a folder that can be written",
    errno.ENOLCK: "no file locks",
    errno.ENOSYS: "no file locks or no hard links",
    errno.EOPNOTSUPP: "no file locks or no hard links",
    errno.EMFILE: "ulimit -n",
    errno.EIO: "its disk or server fails",
}


@pytest.mark.parametrize("number", ADVICE, ids=errno.errorcode.get)
def test_an_error_of_the_system_names_the_file_what_is_missing_and_what_to_do(number):
    with pytest.raises(WriteError) as caught, writing("runs/run.json"):
        failing(number)()
    sentence, code = describe(caught.value)
    assert sentence.startswith(f"could not write runs/run.json: {os.strerror(number)}; ")
    assert ADVICE[number] in sentence
    assert code == 2


@pytest.mark.parametrize("number", ADVICE, ids=errno.errorcode.get)
def test_where_nobody_expected_it_it_is_one_sentence_too(number):
    error = RuntimeError("Failed to instantiate component")
    error.__cause__ = OSError(number, os.strerror(number), "data/a.npy")
    sentence, code = describe(error)
    assert sentence.startswith(f"data/a.npy: {os.strerror(number)}; ")
    assert (code, "MONAI_EXT_DEBUG" in sentence) == (2, False)


def test_what_is_no_matter_of_folders_and_disks_stays_an_error_that_nobody_expected():
    assert describe(FileNotFoundError(errno.ENOENT, "No such file", "a"))[1] == 1
    assert describe(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))[1] == 1


class Broken(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise self.error
        except Exception as error:
            raise RuntimeError("applying transform <Load>") from error


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (DataError("is empty", "a.nii.gz"), "a.nii.gz: is empty", 2),
        (WriteError("could not write a.pt: full"), "could not write a.pt: full", 2),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), "a.png: Permission denied; it is another", 2),
        (KeyError("image"), "KeyError: 'image' (in a loader process)", 1),
    ],
    ids=["data", "write", "system", "bug"],
)
def test_an_error_in_a_loader_process_is_the_sentence_that_it_is_elsewhere(error, sentence, code):
    loader = SeededLoader(Broken(error), 1, num_workers=1, multiprocessing_context=multiprocessing.get_context("fork"))
    with pytest.raises((RuntimeError, OSError, ValueError, KeyError)) as caught:
        list(loader)
    told, exit_code = describe(caught.value)
    assert told.startswith(sentence)
    assert (exit_code, "Traceback" in told) == (code, False)
