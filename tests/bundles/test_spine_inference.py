"""`spinal_cord_cascade` from series to masks, by the bundle, from checkpoints and from exported stages."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_helpers import user_error
from cascade_files import CLASSES, settings_of, write_series, write_stages
from monai.bundle import ConfigParser, run
from monai.bundle.scripts import ckpt_export, verify_net_in_out

from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.networks import CordUNet, SliceClassifier
from monai_ext.spine import save_class_map

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "bundles" / "spinal_cord_cascade" / "configs" / "inference.json"
STAGES = tuple(CLASSES)


def _last_layer(network):
    return network.head[-1] if isinstance(network, SliceClassifier) else network.output_layer


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """One series that is looked for, and one that isn't."""
    root = tmp_path_factory.mktemp("spine") / "data"
    write_series(root / "ann" / "t2", "dicom")
    write_series(root / "bob" / "knee.nii.gz", "nifti", "knee")
    return root


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exported stages that go by rules."""
    return write_stages(tmp_path_factory.mktemp("exported"), leave_out=())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Checkpoints with the real networks, narrow and untrained."""
    root = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    for stage in STAGES:
        classes = CLASSES[stage]
        network = SliceClassifier("efficientnet_b0", len(classes)) if classes else CordUNet(features=2)
        # untrained, its logits are almost the same everywhere
        _last_layer(network).weight.data *= 1000
        settings = settings_of(
            stage, architecture="efficientnet_b0" if classes else "cord_unet", features=2, image_size=64
        )
        (root / stage).mkdir()
        torch.save({"model": network.state_dict(), "settings": settings}, root / stage / "model.pt")
    return root


def infer(data, output, models, **changed):
    run(
        config_file=str(CONFIG),
        dataset_dir=str(data),
        output_dir=str(output),
        models_dir=str(models),
        device="cpu",
        logging_file=False,
        **{"previews": False, **changed},
    )


# Everything passes, and everything is looked at.
OPEN = {
    **{f"{stage}_admit": names for stage, names in CLASSES.items() if names},
    **{f"{stage}_threshold": 0.0 for stage in STAGES},
    "min_cord_area": 0.0,
}


def error_of(*arguments, **changed):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        infer(*arguments, **changed)
    return user_error(caught.value)


@pytest.mark.parametrize(
    ("bright", "expected"),
    [pytest.param(30, (0.0, 1.0), id="almost nothing"), pytest.param(0, (0.0, 0.0), id="nothing")],
)
def test_a_slice_with_almost_nothing_in_it_stays_within_0_and_1(bright, expected):
    config = ConfigParser(json.loads(CONFIG.read_text()))
    config.update({"image_size": 64, "bundle_root": "nowhere"})
    prepare = config.get_parsed_content("slice_preparation")
    image = torch.zeros(1, 64, 64)
    image.view(-1)[:bright] = 900.0
    prepared = prepare({"image": image})["image"]
    assert (float(prepared.min()), float(prepared.max())) == expected


def test_the_command_line_predicts_all_and_ends_well_though_stages_refuse_series(series, exported, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG), "--dataset_dir", str(series)]
    command += ["--output_dir", "out", "--models_dir", str(exported), "--weights", "model.ts", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 series admitted, 1 refused; see " in done.stdout + done.stderr
    folder = tmp_path / "out" / "ann" / "t2"
    mask = nib.load(folder / "lesion.nii.gz")
    assert mask.shape == (48, 40, 6)
    assert np.asarray(mask.dataobj).sum() == 49
    assert {path.name for path in folder.iterdir()} == {
        *("cord.dcm", "cord.nii.gz", "decisions.json", "lesion.dcm", "lesion.nii.gz", "lesion_prob.nii.gz", "previews")
    }
    said = done.stdout + done.stderr
    assert "ann/t2: admitted: 2 lesions" in said
    # neither the patient's name nor the UIDs of the files, which pydicom made
    assert not {word for word in ("SECRET", "Demo^", "1.2.826.0.1.3680043.8.498") if word in said}


def test_exported_stages_need_none_of_the_networks(series, exported, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise AssertionError("a network of the training was built")

    for network in (CordUNet, SliceClassifier):
        monkeypatch.setattr(network, "__init__", stop)
    infer(series, tmp_path / "out", exported, weights="model.ts")
    decisions = json.loads((tmp_path / "out" / "ann" / "t2" / "decisions.json").read_text())
    assert decisions["status"] == "admitted"
    assert [one["stage"] for one in decisions["stages"]] == list(STAGES)


def test_exports_of_checkpoints_give_what_the_checkpoints_give(series, trained, tmp_path):
    models = tmp_path / "models"
    for stage in STAGES:
        (models / stage).mkdir(parents=True)
        file = trained / stage / "model.pt"
        meta = tmp_path / "metadata.json"
        meta.write_text(json.dumps({"settings": torch.load(file, weights_only=True)["settings"]}))
        ckpt_export(
            net_id="network_def",
            filepath=str(models / stage / "model.ts"),
            ckpt_file=str(file),
            config_file=str(CONFIG),
            meta_file=str(meta),
            key_in_ckpt="model",
            stage=stage,
            models_dir=str(trained),
        )
    infer(series, tmp_path / "eager", trained, **OPEN, intermediate=True)
    infer(series, tmp_path / "exported", models, **OPEN, intermediate=True, weights="model.ts")
    for name in ("ann/t2", "bob/knee"):
        for file in ("lesion_prob.nii.gz", "cord_prob.nii.gz"):
            pair = [nib.load(tmp_path / run_ / name / file).get_fdata() for run_ in ("eager", "exported")]
            assert np.ptp(pair[0]) > 0.01
            np.testing.assert_allclose(*pair, atol=1e-5)
        pair = [json.loads((tmp_path / run_ / name / "decisions.json").read_text()) for run_ in ("eager", "exported")]
        for one, other in zip(*(content["stages"][:3] for content in pair), strict=True):
            assert one["label"] == other["label"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_missing_weights_are_one_error_before_anything_is_read(exported, tmp_path):
    (exported / "extra").mkdir(exist_ok=True)
    error = error_of(tmp_path / "no data", tmp_path / "out", exported / "extra")
    assert isinstance(error, WeightsError), error
    text = str(error)
    assert text.startswith(f"{exported / 'extra' / 'anatomy' / 'model.pt'}: no weights of the stage 'anatomy'")
    assert "also missing: location_view, sequence, cord, lesion" in text
    assert "--anatomy_checkpoint" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"sequence_admit": ["T2"]}, ConfigError, "--sequence_admit: 'T2' is no class"),
        ({"vote": "median"}, ConfigError, "--vote median"),
        ({"lesion_checkpoint": ""}, ConfigError, "--lesion_checkpoint '': must be text"),
        ({"lesion_checkpoint": "cord"}, WeightsError, "stage: checkpoint 'cord', configured 'lesion'"),
        ({"data": "/nowhere"}, DataError, "/nowhere"),
        ({"min_slice": 3}, ConfigError, "did you mean --min_slices"),
        ({"stage": "lesions"}, ConfigError, "--stage lesions"),
    ],
    ids=["class", "vote", "no-lesion", "other-stage", "no-data", "misspelt", "no-stage"],
)
def test_what_does_not_fit_is_refused(series, exported, tmp_path, changed, kind, message):
    if changed.get("lesion_checkpoint") == "cord":
        changed = {"lesion_checkpoint": str(exported / "cord" / "model.ts")}
    given = {"data": series, "output": tmp_path / "out", "models": exported, "weights": "model.ts"}
    error = error_of(**{**given, **changed})
    assert isinstance(error, kind), error
    assert message in str(error)
    assert not (tmp_path / "out").exists()


def test_a_classifier_can_be_left_out(series, exported, tmp_path):
    left_out = {f"{stage}_checkpoint": "" for stage in STAGES[:4]}
    infer(series, tmp_path / "out", exported, weights="model.ts", **left_out)
    decisions = json.loads((tmp_path / "out" / "bob" / "knee" / "decisions.json").read_text())
    assert [one["reason"] for one in decisions["stages"][:4]] == ["left out: it has no weights"] * 4


def test_a_map_of_classes_that_is_not_the_weights_own_is_refused(series, tmp_path):
    models = write_stages(tmp_path / "models")
    for stage in ("anatomy", "sequence"):
        save_class_map(models / stage / "class_map.json", ["spine", "knee"])
    error = error_of(series, tmp_path / "out", models, weights="model.ts")
    assert isinstance(error, WeightsError), error
    assert "sequence/class_map.json: has the classes spine, knee, but model.ts beside it T2w, T1w" in str(error)


def test_checkpoints_without_settings_are_refused(series, trained, tmp_path):
    torch.save(CordUNet(features=2).state_dict(), tmp_path / "bare.pt")
    error = error_of(series, tmp_path / "out", trained, lesion_checkpoint=str(tmp_path / "bare.pt"))
    assert isinstance(error, WeightsError)
    assert "bare.pt: lacks its settings" in str(error)


def test_a_network_that_the_config_lacks_is_named(series, trained, tmp_path):
    settings = settings_of("lesion", architecture="my_unet", image_size=64)
    torch.save({"model": CordUNet(features=2).state_dict(), "settings": settings}, tmp_path / "mine.pt")
    error = error_of(series, tmp_path / "out", trained, lesion_checkpoint=str(tmp_path / "mine.pt"))
    assert isinstance(error, WeightsError), error
    assert "mine.pt: its network is 'my_unet', which this config doesn't have (networks: cord_unet, " in str(error)


def test_an_export_by_the_config_of_a_run_makes_its_folder(trained, tmp_path):
    run_folder = tmp_path / "run"
    (run_folder / "config").mkdir(parents=True)
    for name in ("run.json", "config/metadata.json"):
        (run_folder / name).write_text("{}")
    shutil.copy(trained / "cord" / "model.pt", run_folder / "model.pt")
    config = {**json.loads(CONFIG.read_text()), "stage": "cord", "cord_checkpoint": "$@bundle_root + '/model.pt'"}
    (run_folder / "config" / "inference.json").write_text(json.dumps(config))
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "new" / "cord" / "model.ts"),
        ckpt_file=str(run_folder / "model.pt"),
        key_in_ckpt="model",
        config_file=str(run_folder / "config" / "inference.json"),
        meta_file=str(run_folder / "config" / "metadata.json"),
    )
    assert (tmp_path / "new" / "cord" / "model.ts").is_file()


def test_the_network_of_a_classifier_can_be_verified(trained, tmp_path):
    tensor = {"type": "image", "format": "magnitude", "num_channels": 1, "spatial_shape": [64, 64]}
    tensor |= {"dtype": "float32", "value_range": [0, 1], "channel_def": {"0": "slice"}}
    pred = {**tensor, "num_channels": len(CLASSES["sequence"])}
    meta = tmp_path / "metadata.json"
    meta.write_text(json.dumps({"network_data_format": {"inputs": {"image": tensor}, "outputs": {"pred": pred}}}))
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(meta),
        config_file=str(CONFIG),
        device="cpu",
        stage="sequence",
        models_dir=str(trained),
    )
