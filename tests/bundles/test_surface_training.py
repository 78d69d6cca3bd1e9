"""`surface_unet` on a small, made-up volume: a training with everything switched on, and what inference makes of it."""

import json
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import zarr
from bundle_helpers import rows_of, user_error
from contract import BundleContract
from monai.bundle import ConfigParser, run
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.data import decode_normals
from monai_ext.data.zarr_fast import open_fast
from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.inferers import ZarrPrediction


def read(path):
    return json.loads(path.read_text())


WINDOWS = {"patch_size": [16, 32, 32], "batch_size": 2, "chunk_size": 32, "bbox": [[0, 32], [0, 64], [64, 128]]}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "ledger" not in path.parts
    }


@pytest.mark.slow
class TestSurface(BundleContract):
    bundle = "surface_unet"
    seen_in_inference = frozenset()
    short = "surface"
    recipe = {"max_epochs": 2, "previews": 2, "deep_supervision": True, "f_maps": [8, 8, 16]}
    files = (
        "predictions/val_patches.csv",
        *(f"previews/epoch_000{epoch}.png" for epoch in (1, 2)),
        *(f"plots/{name}.png" for name in ("loss_terms", "angle_curves")),
    )
    scores = ("val_loss", "val_loss_normals", "sheet_dice", "normals_angle")
    other = ({"f_maps": [8, 16]}, "f_maps: checkpoint [8, 8, 16], configured [8, 16]")
    inference = WINDOWS
    # Vectors of length one are little numbers divided by little numbers.
    onnx_tolerance = 1e-3

    @pytest.fixture(scope="class")
    @classmethod
    def predicted(cls, inferred):
        return inferred / "scroll_1"

    def infer(self, data, checkpoint, output, **settings):
        given = {"inputs": str(data), "checkpoint": str(checkpoint), **WINDOWS, **settings}
        run(config_file=self.config("inference"), output_dir=str(output), **given)
        return self.numbers(Path(output))

    def numbers(self, folder):
        """Name of a target → its stored values."""
        files = folder.glob("*/*.zarr/0")
        return {file.parent.name: zarr.open_array(str(file), mode="r")[...].astype(int) for file in files}

    def assert_equal(self, found, expected):
        assert found.keys() == expected.keys() == {"sheet.zarr", "normals.zarr"}
        assert all(np.abs(found[name] - values).max() <= 1 for name, values in expected.items())

    checked = "network_check"
    verify = {
        f"_meta_#network_data_format#{tensor}#spatial_shape": [32, 32, 32]
        for tensor in ("inputs#image", "outputs#pred")
    }

    def written(self, folder):
        return [path for path in folder.rglob("c/**/*") if path.is_file()]

    def predictions(self, folder):
        return self.numbers(folder)

    def words(self, data, bundle):
        return {"inputs": data, **WINDOWS}

    def test_the_network_has_an_output_for_each_target_of_the_metadata(self):
        formats = read(Path(self.config("metadata")[0]))["network_data_format"]
        parser = ConfigParser()
        parser.read_config(self.config("inference"))
        image = torch.zeros(1, formats["inputs"]["image"]["num_channels"], 32, 32, 32)
        with torch.inference_mode():
            found = parser.get_parsed_content("network_def").eval()(image)
        targets = {name: each["num_channels"] for name, each in formats["outputs"].items() if name != "pred"}
        assert {name: tuple(each.shape) for name, each in found.items()} == {
            name: (1, count, 32, 32, 32) for name, count in targets.items()
        }

    def test_inference_repeats_the_validation_with_nothing_but_the_checkpoint(
        self, trained, data, settings, checkpoint, tmp_path
    ):
        """Windows that overlap give no patch's own values: it is network and normalization that are compared."""
        training, inference = ConfigParser(), ConfigParser()
        training.read_config(self.config("train"))
        training.update({**settings, "output_dir": str(tmp_path), "bundle_root": str(tmp_path)})
        inference.read_config(self.config("inference"))
        inference.update({"checkpoint": checkpoint})
        normalize, network = inference.get_parsed_content("normalize"), self.eager(checkpoint)
        loss, dataset = (training.get_parsed_content(key) for key in ("train#loss_function", "validate#dataset"))
        volume = open_fast(dataset.volumes[0]["input"])
        rows = {row["case"]: row for row in rows_of(trained / "predictions" / "val_patches.csv")}
        seen = 0
        for position, sample in zip(dataset.positions, dataset, strict=True):
            start = position["start_pos"]
            row = rows.get(f"volume 0 at {' '.join(map(str, start))}")
            if row is None:
                continue
            box = tuple(slice(s, s + e) for s, e in zip(start, settings["patch_size"], strict=True))
            image = torch.as_tensor(normalize(np.asarray(volume[box], np.float32)[None]))[None]
            with torch.inference_mode():
                value = loss(network(image), {name: sample[name][None] for name in ("sheet", "normals")})
            assert float(value) == pytest.approx(float(row["loss"]), rel=1e-4)
            seen += 1
        assert seen == len(rows) > 0

    def test_each_target_has_its_losses_and_its_metric(self, trained, metrics):
        for entry in metrics["history"]:
            for part in ("train", "val"):
                terms = [entry[f"{part}_loss_{target}"] for target in ("sheet", "normals")]
                assert sum(terms) == pytest.approx(entry[f"{part}_loss"], rel=1e-5)
            assert 0 <= entry["sheet_dice"] <= 1
            assert 0 <= entry["normals_angle"] <= 180
        best = metrics["history"][metrics["best_epoch"] - 1]
        assert (
            metrics["metrics"]["val_loss"]
            == pytest.approx(best["val_loss"])
            == min(entry["val_loss"] for entry in metrics["history"])
        )
        assert metrics["per_target"]["normals"]["angle"] == pytest.approx(best["normals_angle"])

    def test_each_validation_patch_has_a_row_and_the_loss_is_their_mean(self, trained, metrics):
        rows = rows_of(trained / "predictions" / "val_patches.csv")
        assert len(rows) == 4
        assert sum(float(row["loss"]) for row in rows) / 4 == pytest.approx(metrics["metrics"]["val_loss"])

    def test_pictures_are_in_tensorboard_and_mlflow_and_numbers_too(self, trained):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(trained / "tensorboard"), size_guidance={"images": 0})
        events.Reload()
        assert [event.step for event in events.Images("preview")] == [1, 2]
        assert "val_loss_normals" in events.Tags()["scalars"]
        client = mlflow.MlflowClient(f"sqlite:///{trained.parents[2]}/mlflow.db")
        identifier = read(trained / "run.json")["mlflow_run_id"]
        pictures = [file.path for file in client.list_artifacts(identifier, "images") if file.path.endswith(".png")]
        assert {re.search(r"step.(\d+)", path)[1] for path in pictures} == {"1", "2"}
        assert len(client.get_metric_history(identifier, "normals_angle")) == 2

    def test_the_report_shows_targets_previews_and_patches(self, trained):
        page = (trained / "report.html").read_text()
        for words in ("By target", "Previews", "patches with the largest loss", "Mean angle to the true vectors"):
            assert words in page
        assert "Mistakes" not in page
        assert "Nothing was skipped." in page

    def test_the_metadata_are_true_for_the_run(self, trained):
        metadata = read(trained / "config" / "metadata.json")
        outputs = metadata["network_data_format"]["outputs"]
        assert {name: (each["num_channels"], each["spatial_shape"]) for name, each in outputs.items()} == {
            "sheet": (1, [16, 32, 32]),
            "normals": (3, [16, 32, 32]),
            "pred": (4, [16, 32, 32]),
        }
        assert metadata["settings"]["f_maps"] == [8, 8, 16]
        assert metadata["settings"]["targets"]["normals"] == {"channels": 3, "activation": "none"}

    def test_a_folder_of_volumes_is_predicted_with_the_checkpoint_alone(self, predicted):
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

    def test_the_command_line_writes_the_same_bytes(self, checkpoint, predicted, data, tmp_path):
        words = ["predict-zarr", "--checkpoint", checkpoint, "--input", data / "scroll_1" / "input.zarr"]
        words += [
            "--output",
            tmp_path / "out",
            "--batch_size",
            2,
            "--patch_size",
            16,
            32,
            32,
            "--chunk_size",
            32,
            32,
            32,
        ]
        words += ["--bbox", 0, 32, 0, 64, 64, 128]
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert content(tmp_path / "out") == content(predicted)

    def test_started_again_it_computes_nothing(self, checkpoint, predicted, data, capfd):
        self.infer(data / "scroll_1" / "input.zarr", checkpoint, predicted.parent)
        assert "0 blocks now" in capfd.readouterr().out

    @pytest.mark.parametrize(
        ("changed", "kind", "message"),
        [
            ({"overlap": 0.5}, ConfigError, "overlap"),
            ({"normalization": "ct"}, (ConfigError, WeightsError), "ct"),
            ({"inputs": "/nowhere/at/all.zarr"}, DataError, "/nowhere/at/all.zarr"),
            ({"output_targets": ["ink"]}, ConfigError, "no target 'ink'"),
            ({"checkpoint": "absent.pt"}, WeightsError, "absent.pt"),
        ],
        ids=["other-overlap", "other-scheme", "no-volume", "no-target", "no-checkpoint"],
    )
    def test_what_does_not_fit_is_refused(self, checkpoint, predicted, data, changed, kind, message):
        before = content(predicted)
        with pytest.raises((RuntimeError, ValueError)) as caught:
            self.infer(data, output=predicted.parent, **{"checkpoint": checkpoint, **changed})
        error = user_error(caught.value)
        assert isinstance(error, kind), error
        assert re.search(message, str(error)), error
        assert content(predicted) == before
