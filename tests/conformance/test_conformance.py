"""Each check of the suite passes on a small bundle, and fails on one with a fault of its kind."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
import torch
from tiny_bundle import write_bundle
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.conformance import CHECKS, NotApplicable, checks, conform, workflows
from monai_ext.conformance.network import _compare
from monai_ext.errors import ConfigError, DataError

NOISY = """
import torch


class Noisy(torch.nn.Conv3d):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)
"""


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "tiny")


def change(bundle, name, edit):
    path = bundle / "configs" / f"{name}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.slow
def test_a_bundle_in_the_manner_of_the_model_zoo_conforms_and_is_left_alone(bundle) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    results = {result.name: result for result in conform(bundle)}
    assert tuple(results) == CHECKS
    statuses = {name: result.status for name, result in results.items()}
    absent = {"checkpoints": "not applicable", "resume": "not applicable"}
    assert statuses == {**dict.fromkeys(CHECKS, "passed"), **absent}, results
    assert results["inference"].reason == "2 images in the geometry of their inputs"
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before


@pytest.mark.parametrize("name", ["metadata", "inference"])
def test_a_config_that_can_not_be_read_is_named(bundle, name) -> None:
    file = bundle / "configs" / f"{name}.json"
    for content, said in [
        ('{"version": ', "not valid JSON (Expecting value: line 1"),
        ("[]", "holds no table of names"),
    ]:
        file.write_text(content)
        with pytest.raises(DataError, match=re.escape(f"{file}: {said}")):
            checks(bundle)["metadata" if name == "metadata" else "plain_parser"]()


def test_inference_on_synthetic_data_ends_after_some_batches(bundle, monkeypatch) -> None:
    monkeypatch.setattr(workflows, "BATCHES", 1)
    assert checks(bundle)["inference"]() == "1 images in the geometry of their inputs"


def test_an_export_may_differ_in_few_voxels_a_little_and_not_in_all() -> None:
    network = SimpleNamespace(network=torch.nn.Identity(), image=lambda: torch.zeros(1, 1, 20, 20, 20))
    found = network.image()
    found[..., 0, 0, :4] = 1e-3
    _compare(found, network, "ONNX Runtime")
    with pytest.raises(AssertionError, match=r"ONNX Runtime differs from the network by 0\.001 \(at most 0\.0001\)"):
        _compare(torch.full_like(found, 1e-3), network, "ONNX Runtime")
    with pytest.raises(AssertionError, match=r"by 0\.1 \(at most 0\.01\)"):
        _compare(100 * found, network, "ONNX Runtime")


def without_license(bundle):
    (bundle / "LICENSE").unlink()


def without_authors(bundle):
    change(bundle, "metadata", lambda content: content.pop("authors"))


def with_a_version_that_is_not_in_the_changelog(bundle):
    change(bundle, "metadata", lambda content: content.update(version="0.2.0"))


def with_a_number_for_a_shape(bundle):
    change(
        bundle,
        "metadata",
        lambda content: content["network_data_format"]["inputs"]["image"].update(value_range="0 to 1"),
    )


def without_dataset_dir(bundle):
    change(bundle, "inference", lambda content: content.pop("dataset_dir"))


def with_an_unknown_transform(bundle):
    change(
        bundle,
        "inference",
        lambda content: content["preprocessing"]["transforms"].append({"_target_": "NoSuchTransformd"}),
    )


def with_other_channels_than_declared(bundle):
    change(bundle, "metadata", lambda content: content["network_data_format"]["outputs"]["pred"].update(num_channels=3))


def with_a_pickled_checkpoint(bundle):
    (bundle / "models").mkdir()
    torch.save({"model": bundle}, bundle / "models" / "other.pt")


def with_weights_of_another_network(bundle):
    (bundle / "models").mkdir()
    torch.save(torch.nn.Linear(2, 2).state_dict(), bundle / "models" / "model.pt")


def with_random_outputs(bundle):
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text(NOISY)
    network = {"_target_": "scripts.Noisy", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    change(bundle, "inference", lambda content: content.update(network_def=network))


def without_inversion(bundle):
    change(bundle, "inference", lambda content: content["postprocessing"]["transforms"].pop(1))
    change(bundle, "inference", lambda content: content["postprocessing"]["transforms"][1].update(resample=False))


def without_saving_and_inversion(bundle):
    zoomed = {"_target_": "Zoomd", "keys": "image", "zoom": 0.5, "keep_size": False}
    change(bundle, "inference", lambda content: content["preprocessing"]["transforms"].append(zoomed))
    change(bundle, "inference", lambda content: content["postprocessing"].update(transforms=[]))


def with_a_loss_that_fails(bundle):
    change(bundle, "train", lambda content: content["train"]["loss"].update(to_onehot_y=False))


@pytest.mark.parametrize(
    ("fault", "check", "reason"),
    [
        (without_license, "files", "LICENSE not found"),
        (without_authors, "metadata", "authors missing"),
        (with_a_version_that_is_not_in_the_changelog, "metadata", "version 0.2.0 is not in the changelog"),
        (with_a_number_for_a_shape, "metadata", "inputs#image#value_range"),
        (without_dataset_dir, "properties", "inference: dataset_dir"),
        (with_an_unknown_transform, "plain_parser", "NoSuchTransformd"),
        (with_other_channels_than_declared, "network_format", "declares pred of 3 channels"),
        (with_a_pickled_checkpoint, "checkpoints", "eights"),
        (with_weights_of_another_network, "checkpoints", "Missing key"),
        (with_random_outputs, "torchscript", "TorchScript differs from the network by"),
        (with_random_outputs, "onnx", "ONNX Runtime differs from the network by"),
        (without_inversion, "inference", "_trans.nii.gz is 32 x 32 x 32 with the affine"),
        (without_saving_and_inversion, "inference", "pred has the size"),
        (with_a_loss_that_fails, "training", "ground truth has different shape"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_fails_the_check_of_its_kind(bundle, fault, check, reason) -> None:
    fault(bundle)
    with pytest.raises(Exception, match=r".") as caught:
        checks(bundle)[check]()
    assert not isinstance(caught.value, NotApplicable)
    said = []
    error: BaseException | None = caught.value
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    assert reason in "\n".join(said)


def test_a_check_that_raises_stops_no_other_and_may_be_expected(bundle) -> None:
    without_license(bundle)
    without_authors(bundle)
    change(bundle, "inference", lambda content: content.pop("network_def"))
    expected = {"metadata": "we have no names", "properties": "not yet"}
    results = {result.name: result for result in conform(bundle, expected)}
    assert tuple(results) == CHECKS
    assert results["files"] == ("files", "failed", "LICENSE not found")
    assert results["metadata"].status == results["properties"].status == "expected failure"
    assert results["metadata"].reason == "we have no names (metadata.json: authors missing)"
    assert {results[name].status for name in ("plain_parser", "network_format", "onnx")} == {"failed"}
    assert results["training"].status == "passed"


def test_an_expected_failure_that_does_not_happen_is_told(bundle) -> None:
    result = next(conform(bundle, {"files": "no lawyer"}))
    assert result == ("files", "passed", "though expected to fail: no lawyer")


def test_an_unknown_check_and_a_folder_that_is_no_bundle_are_refused(bundle, tmp_path) -> None:
    with pytest.raises(ConfigError, match="no check 'licence'; the checks are files, metadata"):
        conform(bundle, {"licence": "no lawyer"})
    with pytest.raises(ConfigError, match=r"is no MONAI bundle; give a folder that has configs/metadata\.json"):
        conform(tmp_path)


def test_the_command_ends_with_1_only_when_something_unexpected_failed(bundle, tmp_path) -> None:
    def command(*words):
        return CliRunner().invoke(app, ["conform", str(bundle), *words])

    (bundle / "configs" / "inference.json").unlink()
    (bundle / "configs" / "train.json").unlink()  # quick: nothing left to run
    done = command()
    assert done.exit_code == 1
    assert "files           failed           there is neither configs/inference.json nor" in done.output
    assert "onnx            not applicable   there is no configs/inference.json" in done.output
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"files": "metadata only"}))
    for words in (["--expected", str(known)], ["--expect-fail", "files=metadata only"]):
        done = command(*words)
        assert done.exit_code == 0, done.output
        assert "files           expected failure metadata only (there is neither" in done.output
    with pytest.raises(ConfigError, match="--expect-fail files: give NAME=REASON"):
        CliRunner().invoke(app, ["conform", str(bundle), "--expect-fail", "files"], catch_exceptions=False)
