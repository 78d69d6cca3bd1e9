"""What every bundle must do; a bundle's test class inherits `BundleContract` and adds what is its own.

The tests of a class share one short training with everything switched on, its exports, and an inference. Bundles
elsewhere are tested with it, too, where tests/conftest.py isn't found: nothing here needs its fixtures.
"""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from bundle_helpers import only_run, rows_of, user_error
from monai.bundle import ConfigParser, ConfigWorkflow, run
from monai.bundle.scripts import ckpt_export, verify_net_in_out

from monai_ext.bundle_archive import zip_bundle
from monai_ext.cli.onnx import onnx
from monai_ext.conformance import CHECKS, checks
from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.networks import load_model, network_settings
from monai_ext.reports import write_report

ROOT = Path(__file__).parents[2]
FILES = {
    "run.json",
    "report.html",
    "config/config.json",
    "config/logging.conf",
    "config/metadata.json",
    "metrics/metrics.json",
    "checkpoints/last.pt",
    "checkpoints/last_previous.pt",
    "plots/loss_curves.png",
    "plots/learning_curves.png",
}
METRICS = {
    *("bundle", "fold", "epoch", "best_epoch", "class_names", "metrics", "per_class", "confusion_matrix", "history"),
    *("loss_summary", "intervals", "skipped"),
}


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def content_of(folder):
    """Every file with its time and content."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def tables_of(folder):
    return sorted((folder / "predictions").glob("*.csv"))


def tensors(output):
    return list(output.values()) if isinstance(output, dict) else [output]


class BundleContract:
    """See the attributes; ``<short>_data`` and ``<short>_settings`` are fixtures, of conftest.py or the class."""

    bundle: str
    short: str
    place = ROOT / "bundles"
    # Settings of the shared training beside ``<short>_settings``, at least two epochs.
    recipe: dict
    # What inference can't know from a checkpoint, as the small network of a test.
    inference: dict = {}
    # Name of the best checkpoint, and all that are kept beside the last ones.
    best = "best"
    checkpoints = ("best",)
    # What the run folder holds beside `FILES` and the checkpoints.
    files: tuple
    # Tables with a column ``prob_<class>`` each: of the validation, of inference.
    tables = ("val_predictions.csv", "predictions.csv")
    # What tables of an inference on all the data say of the cases; nothing where it writes none.
    seen_in_inference = frozenset(("yes", "no"))
    # The metrics that an evaluation repeats.
    scores: tuple
    # A setting that the checkpoint contradicts, and how that is said.
    other: tuple
    # NaN that a network gives is told as a fault of the image or of the weights.
    nan_error: type[Exception] = DataError
    # What a training without data says.
    no_data = "demo-data {bundle}"
    # Where inference looks for weights by itself, below ``models``.
    model = "model.pt"
    # Overrides of metadata or config that make the check of conformance quick.
    verify: dict = {}
    # Overrides of metadata, where the settings of the shared training make the network take other sizes.
    small_input: dict = {}
    # Checks of the conformance suite that can't pass without more than untrained networks, and how they fail.
    not_conforming: dict = {}
    checked = "network_def"
    onnx_tolerance = 1e-4

    @classmethod
    def config(cls, *names):
        return [str(cls.place / cls.bundle / "configs" / f"{name}.json") for name in names]

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, request):
        return request.getfixturevalue(f"{cls.short}_data")

    @pytest.fixture(scope="class")
    @classmethod
    def settings(cls, request, tmp_path_factory):
        """Of the shared training; tracking is on."""
        settings = {**request.getfixturevalue(f"{cls.short}_settings"), **cls.recipe}
        del settings["tracking_uri"]
        return settings

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, settings, tmp_path_factory):
        """Run folder of the one training; the MLflow store lies beside ``runs/<bundle>``."""
        output = tmp_path_factory.mktemp("trained") / "runs" / cls.bundle
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # a user's own server, where this runs elsewhere
            run(config_file=cls.config("train"), output_dir=str(output), **settings)
        return only_run(output)

    @pytest.fixture(scope="class")
    @classmethod
    def checkpoint(cls, trained):
        return str(trained / "checkpoints" / f"{cls.best}.pt")

    @pytest.fixture(scope="class")
    @classmethod
    def metrics(cls, trained):
        return read(trained / "metrics" / "metrics.json")

    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, trained, checkpoint, tmp_path_factory):
        """``model.ts`` and ``model.onnx`` of the best checkpoint."""
        folder = tmp_path_factory.mktemp("exported")
        common = {
            "net_id": "network_def",
            "key_in_ckpt": "model",
            "ckpt_file": checkpoint,
            "config_file": str(trained / "config" / "inference.json"),
            "meta_file": str(trained / "config" / "metadata.json"),
        }
        ckpt_export(filepath=str(folder / "model.ts"), **common)
        onnx(trained, folder / "model.onnx")
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def inferred(cls, data, checkpoint, tmp_path_factory):
        """Folder of an inference with nothing but data and checkpoint."""
        output = tmp_path_factory.mktemp("inferred")
        cls().infer(data, checkpoint, output)
        return output

    @classmethod
    def eager(cls, checkpoint):
        """The network that inference builds for a checkpoint, with its weights."""
        parser = ConfigParser()
        parser.read_config(cls.config("inference"))
        parser.update({"checkpoint": checkpoint, **cls.inference})
        settings = parser.get_parsed_content("network_settings")
        return load_model(parser.get_parsed_content("network_def"), checkpoint, settings).eval()

    def infer(self, data, checkpoint, output, **settings):
        """What inference writes, as `numbers`."""
        given = {"inputs": str(data), "checkpoint": str(checkpoint), **self.inference, **settings}
        run(config_file=self.config("inference"), output_dir=str(output), **given)
        return self.numbers(Path(output) / self.tables[1])

    def numbers(self, table):
        """Name of a case → its probabilities."""
        names = [name for name in rows_of(table)[0] if name.startswith(("case", "crop_"))]
        return {
            tuple(row[name] for name in names): [float(v) for name, v in row.items() if name.startswith("prob_")]
            for row in rows_of(table)
        }

    def assert_equal(self, found, expected):
        assert found.keys() == expected.keys()
        for case, values in expected.items():
            np.testing.assert_allclose(found[case], values, rtol=0, atol=1e-5, err_msg=str(case))

    def test_the_run_folder_is_laid_out_as_documented(self, trained):
        files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
        assert FILES | {f"checkpoints/{name}.pt" for name in self.checkpoints} | set(self.files) <= files
        assert [name for name in files if "partial" in name] == []

    def test_metrics_have_the_keys_of_the_interface(self, metrics, settings):
        assert set(metrics) >= METRICS
        epochs = settings["max_epochs"]
        assert (metrics["bundle"], metrics["fold"], metrics["epoch"]) == (self.bundle, 1, epochs)
        assert [entry["epoch"] for entry in metrics["history"]] == list(range(1, epochs + 1))
        assert all(math.isfinite(entry[key]) for entry in metrics["history"] for key in ("train_loss", "val_loss"))
        for part in ("train", "val"):
            assert metrics["loss_summary"][part].keys() == {"min", "max", "mean", "std"}

    def test_checkpoints_load_safely_and_carry_their_settings(self, trained):
        metadata = read(trained / "config" / "metadata.json")
        for name in (*self.checkpoints, "last"):
            content = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)
            assert content["settings"] == metadata["settings"] == network_settings(trained / f"checkpoints/{name}.pt")
            assert ("optimizer" in content) == (name == "last")

    def test_the_resolved_configuration_can_be_read_again(self, trained, settings):
        config = read(trained / "config" / "config.json")
        assert {key: config[key] for key in self.recipe} == {key: settings[key] for key in self.recipe}

    @pytest.mark.rendered
    def test_the_report_has_the_pictures_of_the_last_state(self, trained, tmp_path):
        again = write_report(trained, tmp_path / "drawn_anew.html")
        pictures = [re.findall('src="([^"]*)"', page.read_text()) for page in (trained / "report.html", again)]
        assert pictures[0] == pictures[1]

    def test_mlflow_has_parameters_curves_best_metrics_and_artifacts(self, trained, metrics, settings):
        record = read(trained / "run.json")
        client = mlflow.MlflowClient(f"sqlite:///{trained.parents[2]}/mlflow.db")
        found = client.get_run(record["mlflow_run_id"])
        assert found.info.status == "FINISHED"
        assert found.data.params["max_epochs"] == str(settings["max_epochs"])
        assert found.data.params["data_fingerprint"] == record["data"]["fingerprint"]
        assert len(client.get_metric_history(found.info.run_id, "val_loss")) == settings["max_epochs"]
        name = self.scores[0]
        assert found.data.metrics[f"best_{name}"] == pytest.approx(metrics["metrics"][name])
        if "run_name" in read(self.config("train")[0]):
            assert found.info.run_name.startswith(self.bundle.split("_")[0])
            assert found.info.run_name.endswith(" · fold 1")
        assert found.data.tags["mlflow.source.name"] == str(self.place / self.bundle)
        assert found.data.tags["mlflow.project.entryPoint"] == "train"
        assert {one.tags[0].value for one in found.inputs.dataset_inputs} >= {"train", "val"}
        artifacts = {file.path for file in client.list_artifacts(found.info.run_id)}
        assert {"report.html", "plots", "metrics", "config", "predictions"} <= artifacts

    def test_mlflow_loads_the_best_network(self, trained, checkpoint, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained.parents[2]}/mlflow.db")
        model = f"runs:/{read(trained / 'run.json')['mlflow_run_id']}/model"
        images = torch.from_numpy(mlflow.pyfunc.load_model(model).metadata.load_input_example())
        with torch.inference_mode():
            expected, found = tensors(self.eager(checkpoint)(images)), tensors(mlflow.pytorch.load_model(model)(images))
        for eager, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-5)
        assert not (trained / "mlflow_model").exists(), "the store has the only copy"

    @pytest.mark.parametrize("kind", ["train", "evaluate", "infer"])
    def test_monai_finds_all_its_properties_without_weights(self, data, settings, kind, tmp_path):
        files = self.config(*{"train": ["train"], "evaluate": ["train", "evaluate"], "infer": ["inference"]}[kind])
        known = {key for file in files for key in read(file)}
        workflow = ConfigWorkflow(
            config_file=files,
            workflow_type="infer" if kind == "infer" else "train",
            logging_file=False,
            output_dir=str(tmp_path / "runs"),
            **{key: value for key, value in {**settings, "dataset_dir": str(data)}.items() if key in known},
        )
        workflow.initialize()
        assert workflow.check_properties() == []
        assert list(tmp_path.rglob("run_*")) == [], "looking at a bundle must not start a run"

    def test_inference_repeats_the_validation_with_nothing_but_the_checkpoint(self, trained, inferred):
        expected = self.numbers(trained / "predictions" / self.tables[0])
        found = self.predictions(inferred)
        assert expected
        self.assert_equal({case: found[case] for case in expected}, expected)
        words = {row["seen_in_training"] for file in inferred.glob("*.csv") for row in rows_of(file)}
        assert words == self.seen_in_inference

    def test_evaluation_repeats_the_metrics_of_training(self, metrics, settings, checkpoint, tmp_path):
        folder = self.evaluate(settings, checkpoint, tmp_path)
        content = read(folder / "metrics" / "metrics.json")
        for name in self.scores:
            assert content["metrics"][name] == pytest.approx(metrics["metrics"][name], rel=1e-5), name
        assert content["training_cases"] == 0
        assert {row["seen_in_training"] for file in tables_of(folder) for row in rows_of(file)} == {"no"}
        # the epoch was chosen by these very cases
        sentence = content["selection"]["sentence"]
        assert "so these figures are optimistic" in sentence
        assert sentence in html.unescape((folder / "report.html").read_text(encoding="utf-8"))

    def test_exports_equal_the_eager_network_and_carry_its_settings(self, trained, exported, checkpoint):
        assert network_settings(exported / "model.ts") == network_settings(checkpoint)
        shape = read(trained / "config" / "metadata.json")["network_data_format"]["inputs"]["image"]
        size = (1, shape["num_channels"], *shape["spatial_shape"])
        image = torch.randn(size, generator=torch.Generator().manual_seed(0))
        scripted = torch.jit.load(str(exported / "model.ts")).eval()
        with torch.inference_mode():
            expected, found = tensors(self.eager(checkpoint)(image)), tensors(scripted(image))
        import onnxruntime

        session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
        content = session.get_modelmeta().custom_metadata_map
        assert json.loads(content["metadata.json"])["settings"] == network_settings(checkpoint)
        assert json.loads(content["inference.json"]) == read(trained / "config" / "inference.json")
        of_onnx = session.run(None, {"image": image.numpy()})
        for eager, script, other in zip(expected, found, of_onnx, strict=True):
            assert eager.std() > 0 or eager.numel() == 1
            torch.testing.assert_close(script, eager, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(other, eager, rtol=self.onnx_tolerance, atol=self.onnx_tolerance)

    def test_the_config_in_an_export_is_true_without_bundle_and_checkpoint(
        self, exported, data, checkpoint, inferred, tmp_path, monkeypatch
    ):
        extra = {"inference.json": ""}
        torch.jit.load(str(exported / "model.ts"), _extra_files=extra)
        embedded = extra["inference.json"].decode()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        parser = ConfigParser()
        parser.read_config(json.loads(embedded))
        assert str(self.place) not in embedded
        assert parser.get_parsed_content("network_settings") == network_settings(checkpoint)
        assert isinstance(parser.get_parsed_content("network_def"), torch.nn.Module)
        key = "lesion_checkpoint" if "lesion_checkpoint" in parser else "checkpoint"
        parser.update({**self.inputs(data, tmp_path / "x"), key: checkpoint, "output_dir": str(tmp_path / "found")})
        parser.get_parsed_content("evaluator").run()
        self.assert_equal(self.predictions(tmp_path / "found"), self.predictions(inferred))

    def test_the_config_of_a_run_predicts_with_its_best_checkpoint(
        self, trained, data, inferred, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        config = str(trained / "config" / "inference.json")
        inputs = self.inputs(data, tmp_path / "x")
        run(config_file=config, output_dir=str(tmp_path / "found"), **inputs)
        self.assert_equal(self.predictions(tmp_path / "found"), self.predictions(inferred))
        with pytest.raises((RuntimeError, ValueError)) as caught:
            run(config_file=config, output_dir=str(tmp_path / "wrong"), **inputs, tf32="maybe")
        assert "--tf32 maybe: must be true or false" in str(user_error(caught.value))

    def inputs(self, data, bundle):
        """What inference needs to know but settings of the network."""
        given = {name: value for name, value in self.words(data, bundle).items() if name != "network_def"}
        return {**given, "inputs": str(data)} if "inputs" in given else given

    def test_an_export_predicts_what_its_checkpoint_predicts(self, data, exported, inferred, tmp_path):
        found = self.infer(data, exported / "model.ts", tmp_path / "exported")
        self.assert_equal(found, self.predictions(inferred))

    def test_inference_refuses_a_checkpoint_of_other_settings(self, data, checkpoint, tmp_path):
        changed, message = self.other
        with pytest.raises((RuntimeError, ValueError)) as caught:
            self.infer(data, checkpoint, tmp_path / "out", **changed)
        error = user_error(caught.value)
        assert isinstance(error, WeightsError)
        assert message in str(error)
        assert self.written(tmp_path) == []

    def test_nan_weights_write_nothing(self, data, checkpoint, tmp_path):
        content = torch.load(checkpoint, weights_only=True)
        content["model"] = {
            key: torch.full_like(value, math.nan) if value.is_floating_point() else value
            for key, value in content["model"].items()
        }
        torch.save(content, tmp_path / "nan.pt")
        with pytest.raises((RuntimeError, ValueError)) as caught:
            self.infer(data, tmp_path / "nan.pt", tmp_path / "out")
        assert isinstance(user_error(caught.value), self.nan_error)
        assert self.written(tmp_path / "out") == []

    def written(self, folder):
        """Files with predictions."""
        return sorted(path.name for path in folder.rglob("predictions*"))

    def test_monai_verifies_the_network_s_shapes_without_weights_or_data(self):
        meta, config = self.config("metadata", "inference")
        verify_net_in_out(net_id=self.checked, meta_file=meta, config_file=config, device="cpu", **self.verify)

    @pytest.fixture(scope="class")
    @classmethod
    def conformance(cls, data, settings):
        """The checks for any bundle, with a small network."""
        return checks(cls.place / cls.bundle, {**settings, **cls.inference, **cls.verify, **cls.small_input}, data)

    # Exports and checkpoints are those of the trained network, in other tests.
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted({*CHECKS} - {"torchscript", "onnx", "checkpoints"}, key=CHECKS.index))
    def test_conforms(self, conformance, name):
        if name in self.not_conforming:
            with pytest.raises((RuntimeError, ValueError)) as caught:
                conformance[name]()
            assert self.not_conforming[name] in str(user_error(caught.value))
        else:
            conformance[name]()

    def test_a_bare_state_dict_loads_with_the_defaults_and_a_warning(self, tmp_path, caplog):
        """As the Model Zoo's checks save it."""
        model = tmp_path / "model.pt"
        for _ in range(2):  # the first time there is no file
            parser = ConfigParser()
            parser.read_config(self.config("inference"))
            parser["checkpoint"] = str(model)
            network = parser.get_parsed_content("network_def")
            state = torch.load(model, weights_only=True) if model.exists() else network.state_dict()
            torch.save(state, model)
        loaded = load_model(network, model, parser.get_parsed_content("network_settings"))
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())
        assert any("holds no settings" in line and str(model) in line for line in caplog.messages)

    def test_without_data_one_sentence_says_how_to_get_them(self, tmp_path):
        with pytest.raises(RuntimeError) as caught:
            run(config_file=self.config("train"), dataset_dir=str(tmp_path / "absent"))
        error = user_error(caught.value)
        assert isinstance(error, DataError)
        assert self.no_data.format(bundle=self.bundle) in str(error)

    @pytest.mark.parametrize("kind", ["train", "inference"])
    def test_a_misspelt_setting_stops_before_anything_is_written(self, data, kind, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises((RuntimeError, ValueError)) as caught:
            run(config_file=self.config(kind), dataset_dir=str(data), batch_sise=3)
        assert "--batch_sise: is no setting; did you mean --batch_size?" in str(user_error(caught.value))
        assert list(tmp_path.iterdir()) == []

    def evaluate(self, settings, checkpoint, output, **changed):
        """The run folder of an evaluation of the validation part."""
        files = self.config("train", "evaluate")
        section = {"section": "val"} if "section" in read(files[1]) else {}
        given = {**settings, "tracking_uri": "none", **section, **changed}
        run(config_file=files, checkpoint=str(checkpoint), output_dir=str(output), **given)
        (folder,) = Path(output).glob("evaluation/fold_*/run_*")
        return folder

    def training_cases(self):
        """The override that evaluates what was trained on."""
        files = self.config("train", "evaluate")
        if "section" in read(files[1]):
            return {"section": "train"}
        return {"validate#dataset#data": "$@items['train']"}

    def test_checkpoints_know_what_they_were_trained_on(self, trained, metrics):
        record = read(trained / "run.json")
        version = read(self.config("metadata")[0])["version"]
        for name in (*self.checkpoints, "last"):
            content = torch.load(trained / "checkpoints" / f"{name}.pt", weights_only=True)["provenance"]
            assert (content["bundle"], content["version"], content["fold"]) == (self.bundle, version, 1)
            assert content["data_fingerprint"] == record["data"]["fingerprint"]
            assert content["class_names"] == metrics["class_names"]
            cases, patients = content["cases"], content["patients"]
            assert cases["train"]
            assert cases["val"]
            assert not set(cases["train"]) & set(cases["val"])
            assert not set(patients["train"]) & set(patients["val"])

    def test_a_fold_that_contradicts_the_checkpoint_is_refused(self, settings, checkpoint, tmp_path):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            self.evaluate(settings, checkpoint, tmp_path, fold=2)
        error = user_error(caught.value)
        assert isinstance(error, ConfigError)
        assert f"--fold 2: {checkpoint} was trained with fold 1 held out" in str(error)
        assert list(tmp_path.iterdir()) == []

    def test_the_fold_is_that_of_the_checkpoint_and_old_ones_are_taken_with_a_warning(
        self, settings, checkpoint, tmp_path, capsys
    ):
        content = torch.load(checkpoint, weights_only=True)
        second = {**content["provenance"], "fold": 2, "cases": {}, "patients": {}}
        torch.save({**content, "provenance": second}, tmp_path / "2.pt")
        folder = self.evaluate(settings, tmp_path / "2.pt", tmp_path / "second")
        assert folder.parent.name == "fold_2"
        assert read(folder / "run.json")["parameters"]["fold"] == 2
        del content["provenance"]
        torch.save(content, tmp_path / "old.pt")
        folder = self.evaluate(settings, tmp_path / "old.pt", tmp_path / "old")
        assert capsys.readouterr().out.count("old.pt says nothing of the cases that it was trained on") == 1
        assert folder.parent.name == "fold_1"
        assert read(folder / "metrics" / "metrics.json")["training_cases"] is None
        assert all(row["seen_in_training"] == "" for file in tables_of(folder) for row in rows_of(file))

    def test_training_cases_are_evaluated_on_demand_only_and_counted(self, settings, checkpoint, tmp_path):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            self.evaluate(settings, checkpoint, tmp_path, **self.training_cases())
        error = user_error(caught.value)
        assert isinstance(error, DataError)
        assert "cases were trained on (" in str(error)
        assert "--allow_training_cases true" in str(error)
        assert not list(tmp_path.rglob("run_*"))
        changed = {**self.training_cases(), "allow_training_cases": "true"}
        folder = self.evaluate(settings, checkpoint, tmp_path, **changed)
        found = read(folder / "metrics" / "metrics.json")["training_cases"]
        assert f"{found} of the " in str(error)
        assert f"{found} of the cases were trained on" in (folder / "report.html").read_text(encoding="utf-8")
        rows = [row for file in tables_of(folder) for row in rows_of(file)]
        assert rows
        assert {row["seen_in_training"] for row in rows} == {"yes"}

    @pytest.mark.parametrize("change", ["nested", "lr", "seed"])
    def test_a_run_is_not_resumed_with_another_recipe(self, trained, settings, change, tmp_path):
        optimizer = read(trained / "config" / "config.json")["optimizer"]
        key, new, said = {
            "nested": (f"optimizers#{optimizer}#amsgrad", True, "not there → true"),
            "lr": ("lr", 0.5, "→ 0.5"),
            "seed": ("seed", 7, "→ 7"),
        }[change]
        before = content_of(trained)
        with pytest.raises((RuntimeError, ValueError)) as caught:
            run(
                config_file=self.config("train"),
                **{**settings, "output_dir": str(tmp_path), "resume": str(trained), key: new},
            )
        error = user_error(caught.value)
        assert isinstance(error, ConfigError)
        assert f"({key}: " in str(error), "alone: what refers to it isn't listed"
        assert f"{said})" in str(error)
        assert f"--pretrained_path {trained}/checkpoints/{self.best}.pt" in str(error)
        assert content_of(trained) == before
        assert list(tmp_path.iterdir()) == []

    def test_a_longer_run_goes_on_below_the_rate_it_had_and_says_from_when(self, trained, settings, tmp_path):
        longer = shutil.copytree(trained, tmp_path / "run")
        epochs = settings["max_epochs"]
        changed = {"max_epochs": epochs + 1, "num_workers": 1, "experiment_name": "again", "tracking_uri": "none"}
        changed |= {"output_dir": str(tmp_path / "runs"), "resume": str(longer)}
        run(config_file=self.config("train"), **{**settings, **changed})
        expected = [{"from_epoch": epochs + 1, "setting": "max_epochs", "old": epochs, "new": epochs + 1}]
        assert read(longer / "run.json")["changes"] == expected
        assert read(longer / "config" / "config.json")["_changes_"] == expected
        assert f"from epoch {epochs + 1}" in (longer / "report.html").read_text(encoding="utf-8")
        rates = [entry["lr"] for entry in read(longer / "metrics" / "metrics.json")["history"]]
        assert len(rates) == epochs + 1
        assert 0 < rates[-1] <= rates[-2]

    @pytest.mark.slow
    def test_zipped_and_unpacked_elsewhere_its_command_lines_work(self, data, settings, tmp_path):
        with zipfile.ZipFile(zip_bundle(self.place / self.bundle, tmp_path)) as archive:
            archive.extractall(tmp_path / "another place")
        bundle = tmp_path / "another place" / self.bundle
        quick = {**settings, "max_epochs": 1, "plot_every": 0, "tracking_uri": "none"}
        said = command_line(tmp_path, bundle / "configs" / "train.json", quick)
        assert re.search("to (infer|evaluate) with the best checkpoint", said)
        (best,) = tmp_path.glob(f"runs/{self.bundle}/**/fold_1/run_*/checkpoints/{self.best}.pt")
        target = bundle / "models" / self.model
        target.parent.mkdir(exist_ok=True)
        shutil.copy(best, target)
        command_line(tmp_path, bundle / "configs" / "inference.json", self.words(data, bundle))
        assert self.predictions(tmp_path / "runs" / self.bundle / "inference")

    def words(self, data, bundle):
        """Settings of the inference of an unpacked bundle."""
        return {"inputs": data, **self.inference}

    def predictions(self, folder):
        return self.numbers(folder / self.tables[1])


def command_line(folder, config, settings):
    """Standard output of a true command line in a process of its own."""
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
