"""What a check says beyond damaged files: who is grouped, and what isn't used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_ext import brats

TRAINING = "MICCAI_BraTS_2018_Data_Training"


def test_files_that_are_not_used_are_named(brats_dir: Path, save_volume) -> None:
    case = "Brats18_HGG_3_1"
    folder = brats_dir / TRAINING / "HGG" / case
    save_volume(folder / f"{case}_seg.nii.gz", np.ones((18, 20, 22), np.int16))
    save_volume(folder / f"{case}_t1Gd.nii.gz")
    for name in (f"{case}_t1.json", "notes.txt", "W39_1998.09.19_Segm.nii"):
        (folder / name).touch()
    save_volume(brats_dir / TRAINING / "HGG" / "loose.nii.gz")
    problems = brats.check(brats_dir)
    assert {(one.severity, one.code) for one in problems} == {("note", "not-used")}
    found = {(one.path, one.message.partition("): ")[2]): {Path(file).name for file in one.files} for one in problems}
    assert found == {
        (str(folder), "neither a modality nor the segmentation"): {f"{case}_t1Gd.nii.gz", "W39_1998.09.19_Segm.nii"},
        (str(folder), "no volume that is read"): {"notes.txt"},
        (str(folder.parent), "in no folder of a subject"): {"loose.nii.gz"},
    }


def test_subjects_without_a_class_are_a_warning(table_dir: Path, brats_dir: Path, save_volume) -> None:
    save_volume(table_dir / "d" / "d_flair.nii.gz")
    save_volume(table_dir / "e_flair.nii.gz")
    (found,) = (p for p in brats.check(table_dir, "flair") if p.code == "not-used")
    assert found.severity == "warning"
    assert found.message == "2 subjects or volumes have no row in classes.csv: d, e_flair.nii.gz"

    save_volume(brats_dir / TRAINING / "x" / "x_flair.nii.gz")
    (found,) = brats.check(brats_dir)
    assert "1 subjects or volumes aren't in the folder of a class: x" in found.message


def test_time_points_are_shown_and_do_no_harm(brats_dir: Path) -> None:
    root = brats_dir / TRAINING / "HGG"
    shutil.copytree(root / "Brats18_HGG_0_1", root / "Brats18_HGG_0_2")
    for file in (root / "Brats18_HGG_0_2").iterdir():
        file.rename(file.with_name(file.name.replace("_0_1_", "_0_2_")))
    (note,) = brats.check(brats_dir)
    assert (note.severity, note.code) == ("note", "patients")
    assert "14 cases of 13 patients" in note.message
    assert "Brats18_HGG_0_1 and Brats18_HGG_0_2" in note.message


def test_ids_that_look_like_time_points_are_a_warning(tmp_path: Path, save_volume) -> None:
    for label in ("HGG", "LGG"):
        for patient in range(5):
            for time in (1, 2):
                case = f"{label[0]}{patient}_{time}"
                save_volume(tmp_path / label / case / f"{case}_flair.nii.gz")
    (warning,) = brats.check(tmp_path, "flair")
    assert (warning.severity, warning.code) == ("warning", "patients")
    assert "10 groups of ids look like time points of one patient, such as H0_1 and H0_2" in warning.message
    assert "patient_id,patient beside HGG and LGG" in warning.step
    rows = [
        f"{label[0]}{patient}_{time},{label[0]}{patient}"
        for label in ("HGG", "LGG")
        for patient in range(5)
        for time in (1, 2)
    ]
    (tmp_path / "people.csv").write_text("patient_id,patient\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (note,) = brats.check(tmp_path, "flair")
    assert note.severity == "note"
    assert "20 cases of 10 patients" in note.message


@pytest.mark.parametrize(
    ("case", "ending", "wrong"), [("BraTS-GLI-00001-000", "t2f", []), ("BraTS2021_00000", "flair", [3])]
)
def test_label_3_is_the_enhancing_tumour_from_2023_on(
    tmp_path: Path, save_volume, case: str, ending: str, wrong
) -> None:
    sep = "-" if wrong == [] else "_"
    save_volume(tmp_path / case / f"{case}{sep}{ending}.nii.gz")
    save_volume(tmp_path / case / f"{case}{sep}seg.nii.gz", np.full((6, 7, 8), 3, np.int16))
    (tmp_path / "labels.csv").write_text(f"patient_id,class\n{case},HGG\n", encoding="utf-8")
    assert [p.code for p in brats.check(tmp_path, "flair") if p.code != "few-cases"] == ["labels"] * len(wrong)


def test_subjects_are_counted_for_the_folds_of_the_training(tmp_path: Path, save_volume) -> None:
    for label in ("HGG", "LGG"):
        for number in range(3):
            save_volume(tmp_path / label / f"{label}{number}" / f"{label}{number}_flair.nii.gz")
    assert [problem.code for problem in brats.check(tmp_path, "flair")] == ["few-cases"]
    assert brats.check(tmp_path, "flair", num_folds=3) == []
