from types import SimpleNamespace

import pytest
import torch
from torch import nn

from monai_ext.handlers import LoadCheckpoint
from monai_ext.io import write_json


@pytest.mark.parametrize("folds", [0, 2], ids=["one", "ensemble"])
def test_an_engine_learns_which_files_the_weights_come_from(tmp_path, monkeypatch, folds):
    network = nn.Conv3d(1, 2, 1)
    files = [tmp_path / f"{number}.pt" for number in range(folds or 1)]
    for file in files:
        torch.save({"model": network.state_dict()}, file)
    write_json(tmp_path / "all.json", {"folds": [{"checkpoint": file.name} for file in files]})
    seen = []
    monkeypatch.setattr(
        "monai_ext.inferers.prepare_for_inference",
        lambda network, device, engine, precision, example, checkpoints: seen.extend(checkpoints) or network,
    )
    loading = LoadCheckpoint(network, files[0], ensemble=tmp_path / "all.json" if folds else None)
    loading.load(SimpleNamespace(state=SimpleNamespace(device="cpu")))
    assert seen == files
