"""`surface_unet` from a checkpoint to OME-Zarr images, by the bundle, by the command line and from exports."""

import re

import numpy as np
import pytest
import torch
import zarr
from bundle_helpers import user_error
from monai.bundle import ConfigWorkflow, run
from monai.bundle.scripts import ckpt_export, onnx_export
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.data import decode_normals
from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.inferers import ZarrPrediction
from monai_ext.networks import network_settings

WINDOWS = {"patch_size": [16, 32, 32], "batch_size": 2, "chunk_size": 32, "bbox": [[0, 32], [0, 64], [64, 128]]}


@pytest.fixture(scope="module")
def trained(surface_configs, surface_settings, tmp_path_factory):
    """The run folder of a short training with targets of its own names' order and deep supervision."""
    output = tmp_path_factory.mktemp("trained")
    settings = {**surface_settings, "deep_supervision": True, "f_maps": [8, 8, 16]}
    run(config_file=str(surface_configs / "train.json"), output_dir=str(output), **settings)
    (folder,) = (output / "fold_1").glob("run_*")
    return folder


@pytest.fixture(scope="module")
def best(trained):
    return str(trained / "checkpoints" / "best.pt")


def infer(configs, checkpoint, inputs, output, **changed):
    settings = {**WINDOWS, **changed}
    run(
        config_file=str(configs / "inference.json"),
        checkpoint=checkpoint,
        inputs=inputs,
        output_dir=str(output),
        **settings,
    )


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "ledger" not in path.parts
    }


@pytest.fixture(scope="module")
def predicted(best, surface_data, surface_configs, tmp_path_factory):
    output = tmp_path_factory.mktemp("predicted")
    infer(surface_configs, best, str(surface_data), output)
    return output / "scroll_1"


def test_a_folder_of_volumes_is_predicted_with_the_checkpoint_alone(predicted):
    sheet = zarr.open_array(str(predicted / "sheet.zarr" / "0"), mode="r")
    normals = zarr.open_array(str(predicted / "normals.zarr" / "0"), mode="r")
    assert (sheet.shape, sheet.dtype) == ((128, 256, 256), np.uint8)
    assert (normals.shape, normals.dtype) == ((3, 128, 256, 256), np.uint16)
    box = tuple(slice(*part) for part in WINDOWS["bbox"])
    assert sheet[box].min() < sheet[box].max()
    lengths = np.linalg.norm(decode_normals(normals[(slice(None), *box)], channel_axis=0), axis=0)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)
    assert not sheet[64:].any()
    assert ZarrPrediction(predicted).missing_blocks() == []


def test_the_command_line_writes_the_same_bytes(best, predicted, surface_data, tmp_path):
    words = ["predict-zarr", "--checkpoint", best, "--input", surface_data / "scroll_1" / "input.zarr"]
    words += ["--output", tmp_path / "out", "--batch_size", 2, "--patch_size", 16, 32, 32, "--chunk_size", 32, 32, 32]
    words += ["--bbox", 0, 32, 0, 64, 64, 128]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "out") == content(predicted)


def test_started_again_it_computes_nothing(best, predicted, surface_data, surface_configs, capfd):
    infer(surface_configs, best, str(surface_data / "scroll_1" / "input.zarr"), predicted.parent)
    assert "0 blocks now" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"overlap": 0.5}, ConfigError, "overlap"),
        ({"normalization": "ct"}, (ConfigError, WeightsError), "ct"),
        ({"f_maps": [8, 16]}, WeightsError, r"f_maps: checkpoint \[8, 8, 16\], configured \[8, 16\]"),
        ({"inputs": "/nowhere/at/all.zarr"}, DataError, "/nowhere/at/all.zarr"),
        ({"output_targets": ["ink"]}, ConfigError, "no target 'ink'"),
        ({"checkpoint": "absent.pt"}, WeightsError, "absent.pt"),
    ],
    ids=["other-overlap", "other-scheme", "other-network", "no-volume", "no-target", "no-checkpoint"],
)
def test_what_does_not_fit_is_refused(best, predicted, surface_data, surface_configs, changed, kind, message):
    before = content(predicted)
    given = {"checkpoint": best, "inputs": str(surface_data), "output": predicted.parent, **changed}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        infer(surface_configs, **given)
    error = user_error(caught.value)
    assert isinstance(error, kind), error
    assert re.search(message, str(error)), error
    assert content(predicted) == before


def test_exports_equal_the_eager_network_and_predict_with_their_settings(
    trained, best, predicted, surface_data, surface_configs, tmp_path
):
    common = {
        "net_id": "network_def",
        "key_in_ckpt": "model",
        "ckpt_file": best,
        "checkpoint": best,
        "config_file": str(surface_configs / "inference.json"),
        "meta_file": str(trained / "config" / "metadata.json"),
    }
    ckpt_export(filepath=str(tmp_path / "model.ts"), **common)
    onnx_export(filepath=str(tmp_path / "model.onnx"), **common)
    assert network_settings(tmp_path / "model.ts") == network_settings(best)

    infer(surface_configs, str(tmp_path / "model.ts"), str(surface_data), tmp_path / "exported")
    for target in ("sheet", "normals"):
        pair = [
            zarr.open_array(str(folder / f"{target}.zarr" / "0"), mode="r")[...].astype(np.int64)
            for folder in (predicted, tmp_path / "exported" / "scroll_1")
        ]
        assert np.abs(pair[0] - pair[1]).max() <= 1, target

    import onnxruntime

    image = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.jit.load(str(tmp_path / "model.ts")).eval()(image)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    for logits, name in zip(found, ("sheet", "normals"), strict=True):
        np.testing.assert_allclose(logits, expected[name].detach().numpy(), rtol=1e-3, atol=1e-4)


def test_monai_finds_all_its_properties_without_weights(surface_configs, surface_data, tmp_path):
    workflow = ConfigWorkflow(
        config_file=str(surface_configs / "inference.json"),
        workflow_type="infer",
        logging_file=False,
        inputs=str(surface_data),
        output_dir=str(tmp_path / "runs"),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert list(tmp_path.iterdir()) == [], "looking at a bundle must not start a run"
