from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_helpers import LPS, NAMES, chest, label_row, save_ct, write_dataset, write_table
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.ct_rate import LABELS, check


def errors(root: Path) -> dict[str, str]:
    return {Path(problem.path).name: problem.message for problem in check(root) if problem.severity == "error"}


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    """Ten patients, no two alike, each label positive in half of them."""
    names = {f"train_{number}_a_1.nii.gz": LABELS if number % 2 else () for number in range(10)}

    def save(path: Path) -> Path:
        return save_ct(path, chest(seed=int(path.name.split("_")[1])), stored_as=(1.0, -1024.0))

    return write_dataset(tmp_path / "good", names, save)


def test_good_data_have_a_clean_bill(good_dir: Path) -> None:
    assert check(good_dir) == []
    result = CliRunner().invoke(app, ["check", "ct_rate_multilabel", "--dataset_dir", str(good_dir)])
    assert result.exit_code == 0, result.output


def test_all_bad_files_and_rows_are_listed_at_once(ct_dir: Path) -> None:
    train = ct_dir / "dataset" / "train"
    (train / "train_1/train_1_a/train_1_a_1.nii.gz").write_bytes(b"")
    save_ct(train / "train_1/train_1_a/train_1_a_2.nii.gz", header=(1.0, -8192.0), stored_as=(1.0, -8192.0))
    rows = [label_row(name, NAMES[name]) for name in NAMES if name.startswith("train") and "_2_a" not in name]
    write_table(ct_dir / "dataset/multi_abnormality_labels/train_predicted_labels.csv", rows)
    found = errors(ct_dir)
    assert set(found) == {"train_1_a_1.nii.gz", "train_1_a_2.nii.gz", "train_2_a_1.nii.gz"}
    assert "is empty" in found["train_1_a_1.nii.gz"]
    assert "correct one of them" in found["train_1_a_2.nii.gz"]
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
    names = {f"train_{number}_a_1.nii.gz": LABELS[1:] if number % 2 else () for number in range(10)}
    rows = [label_row(name, labels) for name, labels in names.items()]
    write_table(good_dir / "dataset/multi_abnormality_labels/train_predicted_labels.csv", rows)
    problems = check(good_dir)
    assert {problem.severity for problem in problems} == {"warning"}
    told = [problem.message for problem in problems]
    assert told[0].startswith("doesn't say which way its axes run")
    assert told[1:] == ["0 training patients have 'Medical material', too few to measure it in each of five folds"]
