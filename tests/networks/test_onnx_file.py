from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from monai_ext.errors import ConfigError
from monai_ext.networks import SurfaceUNet
from monai_ext.networks.cord_unet import CordUNet
from monai_ext.networks.onnx_file import write_onnx
from monai_ext.networks.vgg3d import VGG3D

pytest.importorskip("onnxscript")
TARGETS = {"sheet": {"channels": 1}, "normals": {"channels": 3}}


def session_of(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "shape", "others", "outputs", "axes"),
    [
        (CordUNet(depth=2, features=4), (1, 16, 16), [(1, 24, 32)], ["logits"], ["batch", 1, "y", "x"]),
        (
            SurfaceUNet(targets=TARGETS, f_maps=[4, 8]),
            (1, 8, 8, 8),
            [(1, 9, 12, 16)],
            ["sheet", "normals"],
            ["batch", 1, "z", "y", "x"],
        ),
        (VGG3D((16, 16, 16), fmaps=2), (1, 16, 16, 16), [], ["logits"], ["batch", 1, 16, 16, 16]),
    ],
    ids=["cord", "surface", "vgg"],
)
def test_names_and_free_sizes_are_in_the_file(tmp_path, network, shape, others, outputs, axes) -> None:
    session = session_of(write_onnx(network, shape, tmp_path / "network.onnx", {"metadata.json": "{}"}))
    assert [(given.name, given.shape) for given in session.get_inputs()] == [("image", axes)]
    assert [given.name for given in session.get_outputs()] == outputs
    assert session.get_modelmeta().custom_metadata_map == {"metadata.json": "{}"}
    for size in [(1, *shape), (3, *shape), *((2, *other) for other in others)]:
        image = torch.randn(size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(image)
        found = session.run(None, {"image": image.numpy()})
        for one, eager in zip(found, expected.values() if isinstance(expected, dict) else [expected], strict=True):
            np.testing.assert_allclose(one, eager, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_exporter_is_quiet_and_as_it_was_afterwards(tmp_path, capfd, recwarn) -> None:
    level = logging.getLogger("torch.onnx").level
    write_onnx(CordUNet(depth=2, features=4), (1, 16, 16), tmp_path / "network.onnx", {})
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert logging.getLogger("torch.onnx").level == level


def test_without_the_packages_one_sentence_says_which_are_needed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'monai-ext\[export\]'"):
        write_onnx(CordUNet(depth=2, features=4), (1, 16, 16), tmp_path / "network.onnx", {})
    assert list(tmp_path.iterdir()) == []
