from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_helpers import LPS, NAMES, chest, label_row, save_ct, write_dataset, write_table
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.ct_rate import LABELS, check, task
from monai_ext.errors import ConfigError
from monai_ext.settings import find_bundle


def errors(root: Path) -> dict[str, str]:
    return {Path(problem.path).name: problem.message for problem in check(root) if problem.severity == "error"}


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    """Ten patients, each label positive in half of them."""
    names = {f"train_{number}_a_1.nii.gz": LABELS if number % 2 else () for number in range(10)}

    def save(path: Path) -> None:
        number = int(path.name.split("_")[1])
        save_ct(path, chest(lungs=(3 + number % 3, 12 + number % 4), seed=number), stored_as=(1.0, -1024.0))

    return write_dataset(tmp_path / "good", names, save)


def test_good_data_have_a_clean_bill(good_dir: Path) -> None:
    assert check(good_dir) == []
    result = CliRunner().invoke(app, ["check", "ct_rate_multilabel", "--dataset_dir", str(good_dir)])
    assert result.exit_code == 0, result.output


def test_all_bad_files_and_rows_are_listed_at_once(ct_dir: Path) -> None:
    train = ct_dir / "dataset" / "train"
    (train / "train_1/train_1_a/train_1_a_1.nii.gz").write_bytes(b"")
    save_ct(train / "train_1/train_1_a/train_1_a_2.nii.gz", stored_as=(1.0, -8192.0))
    rows = [label_row(name, NAMES[name]) for name in NAMES if name.startswith("train") and "_2_a" not in name]
    write_table(ct_dir / "dataset/multi_abnormality_labels/train_predicted_labels.csv", rows)
    found = errors(ct_dir)
    assert set(found) == {"train_1_a_1.nii.gz", "train_1_a_2.nii.gz", "train_2_a_1.nii.gz"}
    assert "is empty" in found["train_1_a_1.nii.gz"]
    assert "slope and intercept are missing or wrong" in found["train_1_a_2.nii.gz"]
    assert "has no row" in found["train_2_a_1.nii.gz"]
    result = CliRunner().invoke(app, ["check", "ct_rate_multilabel", "--dataset_dir", str(ct_dir)])
    assert result.exit_code == 1
    assert "3 errors" in result.output


def test_a_missing_folder_or_table_is_a_problem_too(ct_dir: Path, tmp_path: Path) -> None:
    assert "demo-data ct_rate_multilabel" in errors(tmp_path / "nothing")["nothing"]
    (ct_dir / "dataset/metadata/train_metadata.csv").unlink()
    assert errors(ct_dir) == {"train_metadata.csv": "file not found"}


def test_rare_labels_and_unknown_orientation_are_warnings(good_dir: Path) -> None:
    path = good_dir / "dataset/train/train_0/train_0_a/train_0_a_1.nii.gz"
    image = nib.Nifti1Image((chest().transpose(2, 1, 0) + 1024).astype(np.int16), LPS)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.Nifti1Image(image.dataobj, None, image.header).to_filename(path)
    label_half_of_all_but(good_dir, LABELS[0], positive=(1,))
    orientation, rare = check(good_dir)
    assert {orientation.severity, rare.severity} == {"warning"}
    assert orientation.message.startswith("doesn't say which way its axes run")
    assert rare.message == "1 training patients have 'Medical material', too few to measure it in each of five folds"
    assert rare.code == "few-cases"


def test_labels_that_nobody_or_everybody_has_are_one_note_each(good_dir: Path) -> None:
    label_half_of_all_but(good_dir, *LABELS[:2])
    (note,) = check(good_dir)
    assert (note.severity, note.code) == ("note", "few-cases")
    assert note.message.startswith(f"no training patient has {LABELS[0]}, {LABELS[1]}: ")
    label_half_of_all_but(good_dir, LABELS[2], positive=range(10))
    (note,) = check(good_dir)
    assert note.message.startswith(f"every training patient has {LABELS[2]}: ")


def label_half_of_all_but(folder: Path, *others: str, positive: Sequence[int] = ()) -> None:
    """Write the table: each label positive in every second patient, `others` in those of `positive`."""
    rows = []
    for number in range(10):
        usual = [label for label in LABELS if label not in others and number % 2]
        rows.append(label_row(f"train_{number}_a_1.nii.gz", [*usual, *(others if number in positive else ())]))
    write_table(folder / "dataset/multi_abnormality_labels/train_predicted_labels.csv", rows)


def test_volumes_of_version_2_are_one_note_that_lists_them(good_dir: Path) -> None:
    """Hounsfield units already, whose table still lists -1024: read as they are, and said."""
    paths = sorted((good_dir / "dataset/train").rglob("*.nii.gz"))
    for path in paths[:4]:
        save_ct(path)
    (note,) = check(good_dir)
    assert (note.severity, note.code, note.step) == ("note", "hounsfield", "nothing")
    assert note.message == (
        "is read by its stored values, by which air and tissue are right, though its metadata table says slope 1, "
        "intercept -1024 (the same for 3 others)"
    )
    assert [note.path, *note.files] == [str(path) for path in paths[:4]]


def test_a_volume_without_lungs_is_a_warning_that_names_it(good_dir: Path) -> None:
    path = good_dir / "dataset/train/train_3/train_3_a/train_3_a_1.nii.gz"
    save_ct(path, chest(lungs=(30, 31)))
    problem, _ = check(good_dir)
    assert (problem.path, problem.severity, problem.code) == (str(path), "warning", "no-lungs")
    assert problem.message.startswith("shows no lungs")


def test_the_options_of_training_are_those_of_the_check(good_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    tables = {"labels": "multi_abnormality_labels/train_predicted_labels", "metadata": "metadata/train_metadata"}
    (good_dir / "dataset/train").rename(elsewhere)
    words = ["check", "ct_rate_multilabel", "--dataset_dir", str(good_dir)]
    assert CliRunner().invoke(app, words).exit_code == 1
    words += ["--train_dir", str(elsewhere)]
    for name, table in tables.items():
        (good_dir / f"dataset/{table}.csv").rename(tmp_path / f"{name}.csv")
        assert CliRunner().invoke(app, words).exit_code == 1
        words += [f"--train_{name}", str(tmp_path / f"{name}.csv")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    save_ct(elsewhere / "strange.nii.gz")
    assert CliRunner().invoke(app, words).exit_code == 1
    result = CliRunner().invoke(app, [*words, "--on_bad_volume", "skip"])
    assert result.exit_code == 0, result.output
    assert "0 errors, 1 warnings" in result.output
    next(elsewhere.rglob("train_3_a_1.nii.gz")).write_bytes(b"")
    assert CliRunner().invoke(app, words).exit_code == 1
    assert CliRunner().invoke(app, [*words, "--on_bad_volume", "skip"]).exit_code == 0
    assert isinstance(CliRunner().invoke(app, [*words, "--on_bad_volume", "ignore"]).exception, ConfigError)


def test_the_check_knows_every_setting_of_the_data_of_training() -> None:
    config = json.loads((find_bundle("ct_rate_multilabel") / "configs" / "train.json").read_text(encoding="utf-8"))
    known = set(inspect.signature(task.check).parameters)
    assert set(config["source"]) - {"index_dir"} | {"slices_dir", "workers"} == known
