"""The layouts as they are published: each subject once, with its grade, its patient and the right file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ext import brats
from monai_ext.errors import DataError

OLD = ("t1", "t1ce", "t2", "flair")
NEW = ("t1n", "t1c", "t2w", "t2f")
BIDS = ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")
MAPPING = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID"


def subject(folder: Path, case: str, endings: tuple[str, ...] = OLD, sep: str = "_", suffix: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for ending in (*endings, "seg"):
        (folder / f"{case}{sep}{ending}{suffix}").write_bytes(b"x")
    return folder


def table(folder: Path, *lines: str, name: str = "labels.csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def labels(root: Path) -> dict[str, int]:
    return {item["case"]: item["label"] for item in brats.find_subjects(root)}


def endings(root: Path) -> list[list[str]]:
    """The names of the four files of each case without the case."""
    return [
        [Path(p).name.removeprefix(item["case"]) for p in item["image"]] for item in brats.find_subjects(root, "all")
    ]


@pytest.mark.parametrize("names", [("HGG", "LGG"), ("hgg", "Lgg")], ids=["upper", "mixed"])
def test_class_folders_of_2019_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    root = tmp_path / "MICCAI_BraTS_2019_Data_Training"
    subject(root / names[0] / "BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB_1")
    subject(root / names[1] / "BraTS19_2013_0_1", "BraTS19_2013_0_1", suffix=".nii")
    table(root, MAPPING, "HGG,NA,NA,NA,BraTS19_CBICA_AAB_1", name="name_mapping.csv")
    table(root, "BraTS19ID,Age,Survival,ResectionStatus", "BraTS19_CBICA_AAB_1,60,289,GTR", name="survival_data.csv")
    assert labels(tmp_path) == {"BraTS19_2013_0_1": 0, "BraTS19_CBICA_AAB_1": 1}


def test_2020_has_its_grades_and_patients_in_name_mapping(tmp_path: Path) -> None:
    root = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    for number in range(1, 6):
        subject(root / f"BraTS20_Training_00{number}", f"BraTS20_Training_00{number}", suffix=".nii")
    (root / "BraTS20_Training_005" / "W39_1998.09.19_Segm.nii").write_bytes(b"x")
    rows = [
        "HGG,Brats17_TCIA_1_1,Brats18_TCIA01_1_1,TCGA-02-0006,BraTS19_TCIA01_1_1,BraTS20_Training_001",
        "HGG,NA,NA,TCGA-02-0006,BraTS19_TCIA01_9_1,BraTS20_Training_002",
        "LGG,NA,NA,NA,BraTS19_CBICA_ABC_1,BraTS20_Training_003",
        "LGG,NA,NA,NA,BraTS19_CBICA_ABC_2,BraTS20_Training_004",
        "LGG,NA,NA,NA,NA,BraTS20_Training_005",
    ]
    table(root, f"{MAPPING},BraTS_2020_subject_ID", *rows, name="name_mapping.csv")
    table(
        root, "Brats20ID,Age,Survival_days,Extent_of_Resection", "BraTS20_Training_001,60,289,GTR", name="survival.csv"
    )
    found = brats.find_subjects(tmp_path)
    assert [item["label"] for item in found] == [1, 1, 0, 0, 0]
    assert [item["patient"] for item in found] == [
        *("TCGA-02-0006", "TCGA-02-0006", "BraTS19_CBICA_ABC", "BraTS19_CBICA_ABC", "BraTS20_Training_005"),
    ]
    assert Path(found[4]["image"]).name == "BraTS20_Training_005_flair.nii"


def test_a_grade_that_is_none_is_named(tmp_path: Path) -> None:
    table(tmp_path, "Grade,BraTS_2020_subject_ID", "GBM,BraTS20_Training_001", name="name_mapping.csv")
    with pytest.raises(DataError, match=r"name_mapping\.csv: patient 'BraTS20_Training_001' has class 'GBM'"):
        brats.find_subjects(tmp_path)


@pytest.mark.parametrize(
    ("case", "names", "sep"),
    [("BraTS2021_00000", OLD, "_"), ("BraTS-GLI-00005-100", NEW, "-")],
    ids=["2021", "2024"],
)
@pytest.mark.parametrize("beside", [False, True], ids=["in_it", "beside_it"])
def test_later_years_need_a_table_of_classes(tmp_path: Path, case: str, names, sep: str, beside: bool) -> None:
    root = tmp_path / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    subject(root / case, case, names, sep)
    with pytest.raises(DataError, match=rf"says no grades.*patient_id,class .*such as {case},HGG") as caught:
        brats.find_subjects(tmp_path)
    assert "CBICA" not in str(caught.value)
    table(tmp_path if beside else root, "patient_id,class", f"{case},HGG")
    assert labels(tmp_path) == {case: 1}
    assert endings(tmp_path) == [[f"{sep}{name}.nii.gz" for name in names]]


def test_bids_with_and_without_sessions(tmp_path: Path) -> None:
    subject(tmp_path / "sub-01" / "anat", "sub-01", BIDS)
    for session in ("1", "2"):
        subject(tmp_path / "sub-02" / f"ses-{session}" / "anat", f"sub-02_ses-{session}", BIDS)
        (tmp_path / "sub-02" / f"ses-{session}" / "anat" / f"sub-02_ses-{session}_dwi.nii.gz").write_bytes(b"x")
    table(tmp_path, "patient_id,class", "sub-01,HGG", "sub-02_ses-1,LGG", "sub-02_ses-2,LGG")
    assert labels(tmp_path) == {"sub-01": 1, "sub-02_ses-1": 0, "sub-02_ses-2": 0}
    assert endings(tmp_path) == [[f"_{name}.nii.gz" for name in BIDS]] * 3
    assert [item["patient"] for item in brats.find_subjects(tmp_path)] == ["sub-01", "sub-02", "sub-02"]


def test_bids_in_class_folders(tmp_path: Path) -> None:
    subject(tmp_path / "HGG" / "sub-01" / "anat", "sub-01", BIDS)
    for session in ("1", "2"):
        subject(tmp_path / "LGG" / "sub-02" / f"ses-{session}" / "anat", f"sub-02_ses-{session}", BIDS)
    assert labels(tmp_path) == {"sub-01": 1, "sub-02_ses-1": 0, "sub-02_ses-2": 0}


def test_bids_images_that_differ_in_other_entities_are_ambiguous(tmp_path: Path) -> None:
    subject(tmp_path / "sub-01" / "anat", "sub-01", ("run-1_FLAIR", "run-2_FLAIR"))
    table(tmp_path, "patient_id,class", "sub-01,HGG")
    with pytest.raises(DataError, match=r"sub-01_run-1_FLAIR.nii.gz and sub-01_run-2_FLAIR.nii.gz both exist"):
        brats.find_subjects(tmp_path)


@pytest.mark.parametrize("column", ["patient", "subject", "group"])
def test_a_column_says_who_is_the_same_patient(tmp_path: Path, column: str) -> None:
    for number in range(20):
        np.save(tmp_path / f"{number}.npy", np.ones((2, 2, 2), np.float32))
    rows = [f"{number},{'HGG' if number < 10 else 'LGG'},P{number // 2}" for number in range(20)]
    table(tmp_path, f"patient_id,class,{column}", *rows)
    assert [i["patient"] for i in brats.find_subjects(tmp_path) if i["case"] in ("6", "7")] == ["P3", "P3"]
    for fold in range(1, 6):
        parts = brats.splits(tmp_path, fold)
        assert not {i["patient"] for i in parts["train"]} & {i["patient"] for i in parts["val"]}


def test_a_table_beside_class_folders_says_who_is_the_same_patient(tmp_path: Path) -> None:
    for case in ("one", "two"):
        subject(tmp_path / "HGG" / case, case)
    table(tmp_path, "patient_id,patient", "one,P", "two,P", name="people.csv")
    assert [item["patient"] for item in brats.find_subjects(tmp_path)] == ["P", "P"]


@pytest.mark.parametrize(
    "name",
    ["BraTS19_CBICA_P{:02d}_{}", "brats18_cbica_p{:02d}_{}", "BraTS-GLI-{:05d}-00{}", "P{:02d}_visit{}"],
    ids=["2019", "lower", "2023", "visits"],
)
def test_no_patient_is_in_training_and_validation(tmp_path: Path, name: str) -> None:
    for patient in range(10):
        for time in (1, 2):
            subject(
                tmp_path / ("HGG" if patient < 5 else "LGG") / name.format(patient, time), name.format(patient, time)
            )
    for fold in range(1, 6):
        train, val = (
            {i["case"][: len(name.format(0, 1)) - 1] for i in part} for part in brats.splits(tmp_path, fold).values()
        )
        assert len(val) == 2
        assert not train & val


def test_registering_is_mentioned_where_nothing_was_found_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CBICA"):
        brats.find_subjects(tmp_path)
    (tmp_path / "HGG").mkdir()
    with pytest.raises(DataError, match="has HGG, but no folder of a subject in it") as caught:
        brats.find_subjects(tmp_path)
    assert "CBICA" not in str(caught.value)
    (tmp_path / "HGG").rmdir()
    table(tmp_path, "patient_id,grade", "a,HGG")
    with pytest.raises(DataError, match="column 'class' is missing") as caught:
        brats.find_subjects(tmp_path)
    assert "CBICA" not in str(caught.value)


def test_two_publications_in_one_folder_are_ambiguous(tmp_path: Path) -> None:
    for year in (2018, 2019):
        subject(tmp_path / f"MICCAI_BraTS_{year}_Data_Training" / "HGG" / "a", "a")
    with pytest.raises(DataError, match=r"holds MICCAI_BraTS_2018.* and MICCAI_BraTS_2019.*; pass the one"):
        brats.find_subjects(tmp_path)


def test_a_link_to_another_subject_is_an_error(tmp_path: Path) -> None:
    subject(tmp_path / "HGG" / "a", "a")
    (tmp_path / "LGG" / "b").mkdir(parents=True)
    for file in (tmp_path / "HGG" / "a").iterdir():
        (tmp_path / "LGG" / "b" / file.name.replace("a_", "b_")).symlink_to(file)
    with pytest.raises(DataError, match=r"subject 'a' is a link to the files of 'b'|'b' is a link to the files of 'a'"):
        brats.find_subjects(tmp_path)
