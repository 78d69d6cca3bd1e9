"""``predict-zarr`` on the command line, by parts too."""

import numpy as np
import pytest
import torch
import zarr
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.errors import ConfigError, WeightsError
from monai_ext.inferers.streaming.targets import stored_targets
from monai_ext.networks import SurfaceUNet
from monai_ext.surface import predicted_targets, surface_predictor
from monai_ext.targets import network_targets

SETTINGS = {
    "targets": {
        "sheet": {"channels": 1, "activation": "sigmoid"},
        "normals": {"channels": 3, "activation": "none"},
    },
    "f_maps": [4, 8],
    "deep_supervision": False,
    "normalization": "ct",
    "intensity": {"lower": 5.0, "upper": 240.0, "mean": 120.0, "std": 70.0},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    network = SurfaceUNet(targets=SETTINGS["targets"], f_maps=SETTINGS["f_maps"])
    torch.save({"model": network.state_dict(), "settings": SETTINGS}, folder / "model.pt")
    values = np.random.default_rng(0).integers(1, 255, (20, 24, 24)).astype(np.uint8)
    zarr.create_array(folder / "in.zarr", data=values, chunks=(8, 8, 8))
    return folder


def run(trained, output, *options):
    small = ("--patch_size", "8", "12", "12", "--chunk_size", "8", "8", "8", "--block_size", "8", "16", "16")
    arguments = ["--checkpoint", trained / "model.pt", "--input", trained / "in.zarr", "--output", output, *small]
    return CliRunner().invoke(app, ["predict-zarr", *map(str, arguments), *options])


def test_predicts_what_the_checkpoint_says(trained, tmp_path):
    done = run(trained, tmp_path / "out", "--output_targets", "sheet", "normals", "--dtype", "sheet=float32")
    assert done.exit_code == 0, done.output
    assert "12 blocks computed, 0 were ready; the output is complete" in done.output
    sheet = zarr.open_array(tmp_path / "out" / "sheet.zarr" / "0", mode="r")
    assert (sheet.shape, sheet.dtype) == ((20, 24, 24), np.float32)
    assert zarr.open_array(tmp_path / "out" / "normals.zarr" / "0", mode="r").shape == (3, 20, 24, 24)


def test_an_estimate_writes_nothing(trained, tmp_path):
    done = run(trained, tmp_path / "out", "--estimate")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("blocks   12\nwindows  ")
    assert not (tmp_path / "out").exists()


def test_parts_complete_one_another_and_damage_is_repaired(trained, tmp_path):
    first = run(trained, tmp_path / "out", "--part", "0", "--parts", "2")
    assert "6 blocks computed, 0 were ready; the output is not complete yet" in first.output
    second = run(trained, tmp_path / "out", "--part", "1", "--parts", "2")
    assert "the output is complete" in second.output
    (tmp_path / "out" / "sheet.zarr" / "0" / "c" / "0" / "0" / "0").unlink()
    third = run(trained, tmp_path / "out", "--verify")
    assert "is missing; it was written" in third.output
    assert "1 blocks computed, 11 were ready; the output is complete" in third.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--part", "0"), "give --part and --parts together"),
        (("sheet",), "unexpected argument 'sheet'"),
        (("--dtype", "sheet"), "--dtype must be TARGET=VALUE"),
        (("--dtype", "sheet=uint8", "--dtype", "sheet=float32"), "--dtype sheet=float32: sheet is given twice"),
        (("--output_targets", "ink"), "no target 'ink'"),
        (("--output", "sftp://host/out"), "must be a folder, or in an object store"),
        (("--nonfinite_voxels", "skip"), "--nonfinite_voxels skip: must be reject or fill"),
        (("--overlap", "nan"), "--overlap nan: must be a number from 0 and less than 1"),
        (("--patch_size", "0", "8", "8"), "--patch_size [0, 8, 8]: must be a list of 3"),
        (("--patch_size", "1", "8", "8"), "patch_size [1, 8, 8]: each side needs at least 2 voxels"),
    ],
    ids=[
        "part alone",
        "a stray argument",
        "dtype",
        "dtype twice",
        "target",
        "URL",
        "policy",
        "overlap",
        "patch",
        "small patch",
    ],
)
def test_options_that_cannot_be_are_refused(trained, tmp_path, options, message):
    done = run(trained, tmp_path / "out", *options)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "dtype"),
    [((), np.uint8), (("--activation", "sheet=none"), np.float32), (("--dtype", "sheet=uint8"), np.uint8)],
    ids=["a mask", "logits", "asked for"],
)
def test_a_file_of_the_reference_predicts_from_its_weights_alone(trained, tmp_path, options, dtype):
    state = torch.load(trained / "model.pt", weights_only=True)["model"]
    theirs = {f"_orig_mod.{key}": value for key, value in state.items()}
    theirs["_orig_mod.decoders.0.basic_module.conv1.weight"] = theirs["_orig_mod.final_conv.bias"] = torch.zeros(1)
    torch.save({"model": theirs, "optimizer": {"state": {}}, "scheduler": {}, "epoch": 388}, tmp_path / "theirs.pth")
    done = run(trained, tmp_path / "theirs", "--checkpoint", str(tmp_path / "theirs.pth"), *options)
    assert done.exit_code == 0, done.output
    # the same as ours with the reference's normalization
    ours = {**SETTINGS, "normalization": "zscore", "intensity": None}
    torch.save({"model": state, "settings": ours}, tmp_path / "ours.pt")
    run(trained, tmp_path / "ours", "--checkpoint", str(tmp_path / "ours.pt"), *options)
    for name in ("sheet", "normals"):
        found, expected = (zarr.open_array(tmp_path / who / f"{name}.zarr" / "0")[...] for who in ("theirs", "ours"))
        np.testing.assert_array_equal(found, expected)
        assert name != "sheet" or found.dtype == dtype


def test_the_activation_of_a_training_does_not_bind_the_prediction():
    targets = {
        "sheet": {"channels": 1, "activation": "none"},
        "depth": {"channels": 1, "activation": "none", "loss": "smooth_l1"},
        "colour": {"channels": 3, "vector": False},
        "parts": {"channels": 4, "activation": "none", "loss_fn": "BCEDiceLoss"},
    }
    kept = network_targets(targets)
    assert kept["depth"] == {"channels": 1, "activation": "none", "kind": "values"}
    for definitions in (targets, kept, network_targets(kept)):
        stored = stored_targets(predicted_targets(definitions))
        assert {name: (each.activation, each.kind, each.dtype) for name, each in stored.items()} == {
            "sheet": ("sigmoid", "scores", "uint8"),
            "depth": ("none", "values", "float32"),
            "colour": ("none", "values", "float32"),
            "parts": ("sigmoid", "scores", "uint8"),
        }
    as_integers = stored_targets(predicted_targets(kept, {"sheet": "none"}), ["sheet"], {"sheet": "uint8"})["sheet"]
    assert (as_integers.activation, as_integers.kind) == ("sigmoid", "scores")
    with pytest.raises(ConfigError, match="activations: 'ink' can't be 'sigmoid'; there are the targets sheet,"):
        predicted_targets(kept, {"ink": "sigmoid"})
    with pytest.raises(ConfigError, match="softmax over one channel is 1 everywhere"):
        predicted_targets(kept, {"sheet": "softmax"})


def test_a_checkpoint_without_settings_is_refused(tmp_path):
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="has no targets and f_maps among its settings"):
        surface_predictor(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "--device gpu: not a device name"), ("cuda:0", "--device cuda:0: all 4 processes of a machine")],
)
def test_a_device_that_can_t_be_used_is_refused(trained, tmp_path, monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("SLURM_LOCALID", "2")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "4")
    done = run(trained, tmp_path / "out", "--device", device)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("options", "expected"), [((), (None, True)), (("--device", "cuda", "--no-tf32"), ("cuda", False))]
)
def test_device_and_tf32_reach_the_predictor(trained, tmp_path, monkeypatch, options, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    seen = []

    def stop(*args, device, tf32, **others):
        seen.append((device, tf32))
        raise ConfigError("far enough")

    monkeypatch.setattr("monai_ext.surface.predictor.surface_predictor", stop)
    run(trained, tmp_path / "out", *options)
    assert seen == [expected]


def test_a_task_of_srun_takes_its_own_gpu(trained, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("SLURM_LOCALID", "2")
    moved = []
    monkeypatch.setattr(
        "monai_ext.inferers.streaming.sliding_window.prepare_for_inference",
        lambda network, device, *others, **options: moved.append(device) or network,
    )
    for device in (None, "cuda"):
        assert surface_predictor(trained / "model.pt", (8, 12, 12), device=device).device == torch.device("cuda:2")
    assert moved == [torch.device("cuda:2")] * 2


def test_the_conversion_of_an_engine_belongs_beside_the_checkpoint(trained, monkeypatch):
    files = []
    monkeypatch.setattr(
        "monai_ext.inferers.streaming.sliding_window.prepare_for_inference",
        lambda network, device, engine, precision, example, checkpoints, **options: (
            files.extend(checkpoints) or network
        ),
    )
    surface_predictor(trained / "model.pt", (8, 12, 12), device="cpu")
    assert files == [trained / "model.pt"]
