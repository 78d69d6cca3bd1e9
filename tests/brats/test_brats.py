from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_ext import brats
from monai_ext.brats.names import MODALITIES
from monai_ext.errors import ConfigError, DataError

TRAINING = "MICCAI_BraTS_2018_Data_Training"


def write_split(root: Path, fold: int, train: list[tuple[str, str]], val: list[tuple[str, str]]) -> None:
    (root / "splits").mkdir(exist_ok=True)
    for section, rows in (("train", train), ("val", val)):
        lines = ["patient_id,class", *(",".join(row) for row in rows)]
        (root / "splits" / f"fold_{fold}_{section}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("inner", [False, True], ids=["parent", "training_folder"])
def test_raw_layout_gives_every_subject_once_with_its_grade(brats_dir: Path, inner: bool) -> None:
    items = brats.find_subjects(brats_dir / TRAINING if inner else brats_dir)
    assert [item["case"] for item in items] == sorted(item["case"] for item in items)
    assert [item["label"] for item in items].count(0) == 6
    assert [item["label"] for item in items].count(1) == 7
    assert all(item["label"] == ("HGG" in item["case"]) for item in items)
    first = items[0]
    assert first["image"].endswith("_flair.nii.gz")
    assert Path(first["image"]).is_absolute()
    status = os.stat(first["image"])
    assert first["stamp"] == [[status.st_size, status.st_mtime_ns]]


def test_all_modalities_are_four_channels_in_fixed_order(brats_dir: Path) -> None:
    item = brats.find_subjects(brats_dir, "all")[0]
    assert [Path(p).name.split("_")[-1] for p in item["image"]] == [f"{m}.nii.gz" for m in MODALITIES]
    assert len(item["stamp"]) == 4


def test_table_layout_accepts_folders_files_and_prepared_volumes(table_dir: Path) -> None:
    items = brats.find_subjects(table_dir)
    assert [(item["case"], item["label"], Path(item["image"]).name) for item in items] == [
        ("a", 1, "a_flair.nii.gz"),
        ("b", 0, "b_flair.nii"),
        ("c", 0, "c.npy"),
    ]


def test_missing_dataset_says_where_to_get_real_and_demo_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: .*CBICA.*demo-data brats_resnet50 --output DIR"):
        brats.find_subjects(tmp_path / "nowhere")
    with pytest.raises(DataError, match="demo-data"):
        brats.find_subjects(tmp_path)


def test_unknown_modality_suggests_the_nearest(brats_dir: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'flair'"):
        brats.find_subjects(brats_dir, "flare")


def test_missing_modality_file_is_named(brats_dir: Path) -> None:
    case = "Brats18_HGG_3_1"
    (brats_dir / TRAINING / "HGG" / case / f"{case}_t2.nii.gz").unlink()
    assert len(brats.find_subjects(brats_dir, "flair")) == 13
    with pytest.raises(DataError, match=rf"{case}: the t2 volume of {case} is missing \(there are .*_t1ce.nii.gz\)"):
        brats.find_subjects(brats_dir, "all")


def test_compressed_and_plain_copy_of_one_file_is_ambiguous(brats_dir: Path, save_volume) -> None:
    case = "Brats18_HGG_3_1"
    save_volume(brats_dir / TRAINING / "HGG" / case / f"{case}_flair.nii")
    with pytest.raises(DataError, match=r"flair.nii and .*flair.nii.gz both exist"):
        brats.find_subjects(brats_dir)


def test_subject_in_both_classes_is_an_error(brats_dir: Path) -> None:
    root = brats_dir / TRAINING
    shutil.copytree(root / "HGG" / "Brats18_HGG_0_1", root / "LGG" / "Brats18_HGG_0_1")
    with pytest.raises(DataError, match="'Brats18_HGG_0_1' lies in both classes"):
        brats.find_subjects(brats_dir)


def test_unknown_class_in_the_table_is_an_error(table_dir: Path) -> None:
    (table_dir / "classes.csv").write_text("patient_id,class\na,grade 4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"classes.csv: patient 'a' has class 'grade 4'"):
        brats.find_subjects(table_dir)


def test_two_tables_are_ambiguous(table_dir: Path) -> None:
    shutil.copy(table_dir / "classes.csv", table_dir / "more.csv")
    with pytest.raises(DataError, match="2 CSV files"):
        brats.find_subjects(table_dir)


def test_read_only_folders_and_circular_links_do_no_harm(brats_dir: Path) -> None:
    root = brats_dir / TRAINING
    (root / "HGG" / "loop").symlink_to("loop")
    (root / "HGG" / ".hidden").mkdir()
    (root / "HGG" / "notes.txt").touch()
    root.chmod(0o555)
    try:
        assert len(brats.find_subjects(brats_dir)) == 13
    finally:
        root.chmod(0o755)


def test_folds_cover_all_subjects_once_and_are_reproducible(brats_dir: Path) -> None:
    everyone = {item["case"] for item in brats.find_subjects(brats_dir)}
    validated: list[str] = []
    for fold in range(1, 6):
        train = {item["case"] for item in brats.fold_items(brats_dir, fold, "train")}
        val = [item["case"] for item in brats.fold_items(brats_dir, fold, "val")]
        assert train == everyone - set(val)
        assert val == [item["case"] for item in brats.fold_items(brats_dir, fold, "val", modality="t1")]
        validated += val
    assert sorted(validated) == sorted(everyone)


def test_time_points_of_a_patient_stay_together(brats_dir: Path) -> None:
    root = brats_dir / TRAINING / "HGG"
    for number in range(7):
        case, second = f"Brats18_HGG_{number}_1", f"Brats18_HGG_{number}_2"
        (root / second).mkdir()
        for file in (root / case).iterdir():
            shutil.copy(file, root / second / file.name.replace(case, second))
    for fold in range(1, 6):
        patients = [
            {item["case"][:-2] for item in brats.fold_items(brats_dir, fold, section)} for section in ("train", "val")
        ]
        assert not patients[0] & patients[1]


def test_lists_in_the_dataset_decide_the_fold(brats_dir: Path) -> None:
    write_split(
        brats_dir,
        2,
        [("Brats18_HGG_0_1", "HGG"), ("Brats18_LGG_0_1", "LGG")],
        [("Brats18_HGG_1_1", "HGG"), ("Brats18_LGG_1_1", "LGG")],
    )
    assert [i["case"] for i in brats.fold_items(brats_dir, 2, "train")] == ["Brats18_HGG_0_1", "Brats18_LGG_0_1"]
    assert [i["label"] for i in brats.fold_items(brats_dir, 2, "val")] == [1, 0]
    assert len(brats.fold_items(brats_dir, 1, "train")) > 5


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ([("Brats18_HGG_0_1", "LGG")], [("Brats18_LGG_1_1", "LGG")], "is LGG here but HGG in the dataset"),
        ([("Brats18_HGG_0_1", "HGG")], [("Brats18_HGG_0_1", "HGG")], "1 patients are in both lists"),
        ([("Brats18_XXX_0_1", "HGG")], [("Brats18_HGG_0_1", "HGG")], "'Brats18_XXX_0_1' is not in the dataset"),
        ([], [("Brats18_HGG_0_1", "HGG")], "lists no patient"),
    ],
    ids=["other_class", "overlap", "unknown", "empty"],
)
def test_contradictory_lists_are_errors(brats_dir: Path, train, val, message: str) -> None:
    write_split(brats_dir, 1, train, val)
    with pytest.raises(DataError, match=message):
        brats.fold_items(brats_dir, 1, "train")


def test_half_a_pair_of_lists_is_an_error(brats_dir: Path) -> None:
    write_split(brats_dir, 1, [("Brats18_HGG_0_1", "HGG")], [("Brats18_HGG_1_1", "HGG")])
    (brats_dir / "splits" / "fold_1_val.csv").unlink()
    with pytest.raises(DataError, match="only the train list of fold 1"):
        brats.fold_items(brats_dir, 1, "train")


@pytest.mark.parametrize("fold", [0, 6, "1", True, 1.0])
def test_fold_out_of_range_is_an_error(brats_dir: Path, fold) -> None:
    with pytest.raises(ConfigError, match="fold must be an integer from 1 to 5"):
        brats.fold_items(brats_dir, fold, "train")


def test_unknown_section_is_an_error(brats_dir: Path) -> None:
    with pytest.raises(ConfigError, match="'train' or 'val', got 'test'"):
        brats.fold_items(brats_dir, 1, "test")


def test_inference_keeps_known_labels(brats_dir: Path, table_dir: Path) -> None:
    assert brats.inference_items(brats_dir) == brats.find_subjects(brats_dir)
    assert brats.inference_items(table_dir) == brats.find_subjects(table_dir)


def test_inference_without_labels_from_folder_file_and_list(tmp_path: Path, save_volume) -> None:
    for case in ("s1", "s2"):
        for modality in (*MODALITIES, "seg"):
            save_volume(tmp_path / "unlabelled" / case / f"{case}_{modality}.nii.gz")
    loose = save_volume(tmp_path / "unlabelled" / "scan 7.nii")

    items = brats.inference_items(tmp_path / "unlabelled", "t2")
    assert [(i["case"], Path(i["image"]).name) for i in items] == [
        ("s1", "s1_t2.nii.gz"),
        ("s2", "s2_t2.nii.gz"),
        ("scan 7", "scan 7.nii"),
    ]
    assert all("label" not in item for item in items)
    assert len(brats.inference_items(tmp_path / "unlabelled", "all")) == 2
    assert [i["case"] for i in brats.inference_items(loose)] == ["scan 7"]
    s2 = tmp_path / "unlabelled" / "s2" / "s2_flair.nii.gz"
    assert [i["case"] for i in brats.inference_items([str(loose), s2, str(loose)])] == ["s2", "scan 7"]
    assert [i["case"] for i in brats.inference_items(s2.parent)] == ["s2"]


def test_inference_refuses_nothing_and_ambiguous_names(tmp_path: Path, save_volume) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no volume"):
        brats.inference_items(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file"):
        brats.inference_items(tmp_path / "none.nii")
    files = [save_volume(tmp_path / folder / "scan.nii.gz") for folder in ("a", "b")]
    with pytest.raises(DataError, match="has the case name 'scan'"):
        brats.inference_items(files)
    with pytest.raises(DataError, match="'all' needs the folder"):
        brats.inference_items(files[0], "all")


def test_check_of_good_data_finds_nothing(brats_dir: Path) -> None:
    assert brats.check(brats_dir) == []


def test_check_lists_every_problem_at_once(brats_dir: Path, save_volume) -> None:
    root = brats_dir / TRAINING

    def file(label: str, number: int, kind: str) -> Path:
        case = f"Brats18_{label}_{number}_1"
        return root / label / case / f"{case}_{kind}.nii.gz"

    nan = np.ones((18, 20, 22), np.float32)
    nan[0, 0, 0] = np.nan
    file("HGG", 0, "t1").unlink()
    file("HGG", 1, "t1").write_bytes(file("HGG", 1, "t1").read_bytes()[:60])
    save_volume(file("HGG", 2, "t2"), nan)
    save_volume(file("HGG", 3, "t2"), np.zeros((18, 20, 22), np.int16))
    save_volume(file("HGG", 4, "t2"), np.ones((6, 7, 9), np.int16))
    save_volume(file("HGG", 5, "t2"), np.ones((18, 20, 22), np.int16), spacing=2.0)
    save_volume(file("LGG", 0, "seg"), np.full((18, 20, 22), 3, np.int16))
    write_split(brats_dir, 1, [("Brats18_HGG_5_1", "HGG")], [("Brats18_LGG_1_1", "LGG")])

    problems = {problem.message: problem for problem in brats.check(brats_dir, workers=2)}
    for expected in (
        "the t1 volume of Brats18_HGG_0_1 is missing",
        "truncated",
        "1 of 7920 voxels are NaN or infinite",
        "nothing but zeros",
        "does not have the same shape",
        "does not have the same affine",
        "holds labels 3",
        "fold 1, train: one class only",
        "fold 1, val: one class only",
    ):
        assert any(expected in message for message in problems), expected
    assert len(problems) == 9
    assert {p.severity for m, p in problems.items() if "val: one class" not in m} == {"error"}


def test_check_of_a_missing_folder_is_one_problem(tmp_path: Path) -> None:
    (problem,) = brats.check(tmp_path / "none")
    assert "demo-data" in problem.message
    assert problem.path.endswith("none")


def test_what_a_run_leaves_out_stands_in_its_record(brats_dir: Path) -> None:
    root = brats_dir / "MICCAI_BraTS_2018_Data_Training"
    (root / "HGG" / "Brats18_HGG_0_1" / "report.pdf").touch()
    cases = [item["case"] for item in brats.find_subjects(brats_dir)]
    assert any("report.pdf" in told for told in brats.splits(brats_dir, 1).left_out)
    (root / "splits").mkdir()
    for section, members in (("train", cases[1:9]), ("val", cases[9:])):
        rows = "".join(f"{case},{case.split('_')[1]}\n" for case in members)
        (root / "splits" / f"fold_1_{section}.csv").write_text(f"patient_id,class\n{rows}")
    assert f"{cases[0]}: in no list of fold 1" in brats.splits(brats_dir, 1).left_out


@pytest.mark.parametrize("delimiter", [";", "\t"], ids=["semicolon", "tab"])
def test_the_table_may_come_from_excel_or_pandas(table_dir: Path, delimiter: str) -> None:
    expected = brats.find_subjects(table_dir)
    rows = [",patient_id,class", "0,a,HGG", "1,b,lgg", "2,c,LGG"]
    text = "\n".join(row.replace(",", delimiter) for row in rows)
    (table_dir / "classes.csv").write_text(text, encoding="utf-8-sig")
    assert brats.find_subjects(table_dir) == expected
