"""No writer leaves part of a file: on a full disk the old one stays, and nothing else appears."""

import errno
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from cascade_files import spine
from failing_system import failing
from torch import nn

from monai_ext.data import PreparedDataset
from monai_ext.errors import WriteError
from monai_ext.handlers.checkpoint import Checkpoints
from monai_ext.io import write_csv, write_json, write_text
from monai_ext.predictions.writing import Files
from monai_ext.reports.plots import save
from monai_ext.spine import write_like


def mask(path):
    image, lesion = spine()
    write_like(image, lesion.transpose(2, 1, 0), path)


def prepared(path):
    PreparedDataset([{"case": "a", "image": torch.ones(2)}], [], path.parent)[0]


WRITERS = {
    "text": ("a.html", lambda path: write_text(path, "new")),
    "json": ("a.json", lambda path: write_json(path, 1)),
    "table": ("a.csv", lambda path: write_csv(path, [{"a": 1}])),
    "figure": ("a.png", lambda path: save(plt.figure(), path)),
    "mask": ("a.nii.gz", mask),
    "checkpoint": ("best.pt", lambda path: Checkpoints(path.parent, nn.Linear(1, 1), {}).save_best("best", {}, 1)),
    "predictions": ("b.csv", lambda path: Files({"b.csv": [{"case": "a"}]}, {"a.npy": np.ones(2)}).write(path.parent)),
    "cache": ("unused", prepared),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_no_part_of_a_new_one(writer, tmp_path, monkeypatch):
    name, write = WRITERS[writer]
    (tmp_path / name).write_text("old")
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(WriteError, match="No space left on device; make room"):
        write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "old"
