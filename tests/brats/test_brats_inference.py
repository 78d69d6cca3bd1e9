"""What is graded: one volume of each case, and never one whose name says something else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monai_ext import brats
from monai_ext.errors import DataError

BIDS = ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR", "dseg")


def volumes(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def graded(inputs: object, modality: str = "flair") -> dict[str, str]:
    return {item["case"]: Path(item["image"]).name for item in brats.inference_items(inputs, modality)}


@pytest.mark.parametrize("ending", ["t1Gd", "pre", "t1x", "W39_Segm2"])
@pytest.mark.parametrize("folder", ["P1", "in"])
def test_an_ending_that_says_nothing_is_refused_beside_others(tmp_path: Path, folder: str, ending: str) -> None:
    names = [f"P1_{known}.nii.gz" for known in ("t1", "t2", "flair", "seg")]
    with pytest.raises(DataError, match=rf"P1_{ending}\.nii\.gz: its name doesn't end in .* as that of P1_"):
        brats.inference_items(volumes(tmp_path / folder, *names, f"P1_{ending}.nii.gz"))


def test_a_subject_without_any_known_ending_is_not_several_cases(tmp_path: Path) -> None:
    volumes(tmp_path / "all" / "P1", *(f"P1_{ending}.nii.gz" for ending in ("before", "after", "water")))
    with pytest.raises(
        DataError, match=r"P1_after\.nii\.gz: its name doesn't end in one of t1, t1ce, t2, flair or seg"
    ):
        brats.inference_items(tmp_path / "all")


@pytest.mark.parametrize("ending", ["seg", "t1", "t1ce", "T2", "SEG", "t2w"])
@pytest.mark.parametrize("as_file", [True, False], ids=["file", "folder"])
def test_another_modality_is_never_graded(tmp_path: Path, ending: str, as_file: bool) -> None:
    folder = volumes(tmp_path / "in", f"P1_{ending}.nii.gz")
    with pytest.raises(DataError, match=rf"case 'P1' has no flair volume but P1_{ending}.nii.gz; the network takes"):
        brats.inference_items(folder / f"P1_{ending}.nii.gz" if as_file else folder)


@pytest.mark.parametrize("ending", ["t1Gd", "dwi"])
def test_another_sequence_is_refused_as_a_single_file_too(tmp_path: Path, ending: str) -> None:
    folder = volumes(tmp_path, f"P1_{ending}.nii.gz")
    with pytest.raises(DataError, match=rf"P1_{ending}.nii.gz: its name"):
        brats.inference_items(folder / f"P1_{ending}.nii.gz")


def test_files_of_one_case_are_one_case(tmp_path: Path) -> None:
    names = [f"P1_{ending}.nii.gz" for ending in ("t1", "t1ce", "t2", "flair", "seg")]
    files = [volumes(tmp_path, *names) / name for name in names]
    assert graded(files) == {"P1": "P1_flair.nii.gz"}
    (item,) = brats.inference_items(files, "all")
    assert [Path(path).name for path in item["image"]] == names[:4]


def test_a_case_without_the_modality_is_left_out_with_a_warning(tmp_path: Path, caplog) -> None:
    volumes(tmp_path / "P1", "P1_flair.nii.gz")
    volumes(tmp_path / "P2", "P2_t1.nii.gz", "P2_seg.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert graded(tmp_path) == {"P1": "P1_flair.nii.gz"}
    assert "left out" in caplog.text
    assert "case 'P2' has no flair volume but P2_seg.nii.gz, P2_t1.nii.gz" in caplog.text


@pytest.mark.parametrize("inner", ["", "ses-1"], ids=["flat", "session"])
def test_bids_is_graded_without_its_other_images(tmp_path: Path, inner: str) -> None:
    case = "sub-01_ses-1" if inner else "sub-01"
    volumes(
        tmp_path / "sub-01" / inner / "anat",
        *(f"{case}_{ending}.nii.gz" for ending in (*BIDS, "T2starw", "swi", "run-2")),
    )
    assert graded(tmp_path) == graded(tmp_path / "sub-01") == {case: f"{case}_FLAIR.nii.gz"}
    assert graded(tmp_path, "t1ce") == {case: f"{case}_ce-gadolinium_T1w.nii.gz"}
    assert graded(tmp_path, "t1") == {case: f"{case}_T1w.nii.gz"}


def test_names_of_2023_and_a_segmentation_under_a_foreign_name(tmp_path: Path) -> None:
    case = "BraTS-GLI-00001-000"
    volumes(tmp_path / case, *(f"{case}-{ending}.nii.gz" for ending in ("t1n", "t1c", "t2w", "t2f", "seg")))
    volumes(tmp_path / "BraTS20_Validation_001", "BraTS20_Validation_001_flair.nii", "W39_1998.09.19_Segm.nii")
    assert graded(tmp_path) == {
        case: f"{case}-t2f.nii.gz",
        "BraTS20_Validation_001": "BraTS20_Validation_001_flair.nii",
    }


def test_volumes_whose_names_say_nothing_are_cases_of_their_own(tmp_path: Path) -> None:
    assert set(graded(volumes(tmp_path / "scan", "scan_1.nii", "scan_2.nii.gz", "other 3.npy"))) == {
        *("scan_1", "scan_2", "other 3"),
    }


def test_a_wrong_table_of_classes_is_not_passed_over(tmp_path: Path) -> None:
    volumes(tmp_path, "a_flair.nii.gz")
    (tmp_path / "labels.csv").write_text("patient_id,class\na,grade 4\n", encoding="utf-8")
    with pytest.raises(DataError, match="patient 'a' has class 'grade 4'"):
        brats.inference_items(tmp_path)


def test_subjects_that_the_table_lacks_are_named(tmp_path: Path, caplog) -> None:
    for case in ("a", "b"):
        volumes(tmp_path / case, f"{case}_flair.nii.gz")
    (tmp_path / "labels.csv").write_text("patient_id,class\na,HGG\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert set(graded(tmp_path)) == {"a"}
    assert "b: is not in labels.csv" in caplog.text


@pytest.mark.parametrize("labelled", [True, False])
def test_tables_that_belong_to_the_data_are_not_called_left_out(tmp_path, save_volume, labelled):
    save_volume(tmp_path / "P1" / "P1_flair.nii.gz")
    if labelled:
        (tmp_path / "labels.csv").write_text("patient_id,class\nP1,HGG\n")
    (tmp_path / "patients.csv").write_text("patient_id,patient\nP1,Ann\n")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "fold_1_val.csv").write_text("patient_id,class\nP1,HGG\n")
    (tmp_path / "survival.csv").write_text("id,days\nP1,9\n")
    items = brats.inference_items(tmp_path)
    assert items.left_out == [f"{tmp_path}: 1 entry is not used (survival.csv): no volume that is read"]


def test_every_file_that_is_not_predicted_is_told(tmp_path, save_volume):
    for name in ("P1/P1_flair.nii.gz", "P1/P1_t1.nii", "P1/P1_seg.nii", "P2/P2_t1.nii"):
        save_volume(tmp_path / name)
    (tmp_path / "P1" / "P1_flair.nii.gz").rename(tmp_path / "P1" / "P1_flair.NII.GZ")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "P1" / "up").symlink_to(tmp_path)
    (tmp_path / "P3").symlink_to("P1")
    (tmp_path / "P1" / "P9_flair.nii.gz").hardlink_to(tmp_path / "P1" / "P1_flair.NII.GZ")
    items = brats.inference_items(tmp_path)
    assert [item["case"] for item in items] == ["P1"]
    told = "\n".join(items.left_out)
    for text in (
        "case 'P2' has no flair volume",
        "(P1/P1_t1.nii, P2/P2_t1.nii): shows t1, not flair",
        "(P1/P1_seg.nii): shows seg, not flair",
        "(notes.txt): no volume that is read",
        "up: is another name of",
        "P3: is another name of",
        "is another name of " + items[0]["image"],
    ):
        assert text in told


def test_one_case_in_two_files_is_refused(tmp_path, save_volume):
    for suffix in (".nii", ".nii.gz"):
        save_volume(tmp_path / f"P1_flair{suffix}")
    with pytest.raises(DataError, match=r"P1_flair\.nii.* both exist as flair of P1; remove one"):
        brats.inference_items(tmp_path)
