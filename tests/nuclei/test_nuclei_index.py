from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from nuclei_files import SHAPE, damage, spoil, write_stack, write_table

from monai_ext import nuclei
from monai_ext.data import TiffStack
from monai_ext.errors import ConfigError, DataError


def test_the_index_finds_samples_classes_and_crops(root: Path) -> None:
    found = nuclei.index(root, crop_size=[3, 7, 8])
    assert [(s.case, s.class_id) for s in found.samples][:4] == [("0001", 2), ("0002", 4), ("0003", 19), ("0004", 1)]
    assert found.problems == []
    first = found.samples[0]
    assert first.crops == ((0, 0, 0), (3, 0, 0))
    assert first.image.shape == SHAPE
    assert first.image.folder == str(root / "0001" / "raw")
    assert first.mask is None
    assert nuclei.index(root, use_mask=True).samples[0].mask.folder == str(root / "0001" / "mask")


def test_masks_are_not_needed_unless_asked_for(root: Path) -> None:
    for file in (root / "0002" / "mask").iterdir():
        file.unlink()
    assert len(nuclei.index(root).samples) == 8
    with pytest.raises(DataError, match=r"0002/mask: holds no TIFF slices"):
        nuclei.index(root, use_mask=True)


DAMAGES = {
    "mask slice": r"0005/mask/slice_003\.tif: is missing; raw/slice_003\.tif has no counterpart",
    "raw slice": r"0005/raw/slice_003\.tif: is missing; mask/slice_003\.tif has no counterpart",
    "truncated": r"0005/raw/slice_003\.tif: is truncated",
    "empty folder": r"0005/raw: holds no TIFF slices",
    "shape": r"0005/raw/slice_003\.tif: has shape \(5, 5\), but 5 others have \(7, 8\)",
    "type": r"0005/raw/slice_003\.tif: has data type uint16, but 5 others have uint8",
    "mask shape": r"0005/mask: has shape \(6, 5, 5\), but raw has \(6, 7, 8\)",
    "no raw": r"0005/raw: is not a folder",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_sample_is_an_error_or_left_out_and_reported(root: Path, kind: str, caplog) -> None:
    damage(root, kind)
    with pytest.raises(DataError, match=DAMAGES[kind] + ".*check nuclei_vgg3d.*--on_bad_sample skip"):
        nuclei.index(root, use_mask=True)
    with caplog.at_level(logging.WARNING):
        found = nuclei.index(root, use_mask=True, on_bad_sample="skip")
    assert [sample.case for sample in found.samples] == [f"{n:04d}" for n in (1, 2, 3, 4, 6, 7, 8)]
    (problem,) = found.problems
    assert "0005" in problem.path
    assert [problem.message in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("part", ["raw", "mask"])
def test_skipping_covers_what_fails_while_decoding_and_the_record_has_it(root: Path, tmp_path: Path, part: str) -> None:
    bad = spoil(root / "0007" / part / "slice_003.tif")
    assert len(nuclei.index(root, use_mask=True).samples) == 8  # "error" decodes nothing at the start
    for _ in range(2):  # the second time from the memory
        index = nuclei.index(root, use_mask=True, index_dir=tmp_path / "index", on_bad_sample="skip")
        assert [sample.case for sample in index.samples] == [f"{n:04d}" for n in (1, 2, 3, 4, 5, 6, 8)]
    class_map = nuclei.class_map(index)
    (told,) = nuclei.inference_items(index, class_map).left_out
    assert told.startswith(f"{bad}: ")
    (same,) = [
        text for text in nuclei.splits(index, class_map, num_folds=2, test_fraction=0).left_out if "0007" in text
    ]
    assert same == told


def test_pixels_that_are_no_numbers_are_skipped_too(root: Path) -> None:
    for file in (root / "0005" / "raw").iterdir():
        tifffile.imwrite(file, np.full(SHAPE[1:], np.nan, np.float32))
    (problem,) = nuclei.index(root, on_bad_sample="skip").problems
    assert (problem.path, problem.code) == (str(root / "0005" / "raw" / "slice_001.tif"), "not-finite")


def test_good_samples_are_decoded_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_slice = TiffStack.read_slice
    monkeypatch.setattr(TiffStack, "read_slice", lambda self, z: read.append(self.folder) or read_slice(self, z))
    nuclei.index(root, index_dir=tmp_path / "index")
    assert read == []
    nuclei.index(root, index_dir=tmp_path / "index", on_bad_sample="skip")
    assert len(read) == 8 * SHAPE[0]
    nuclei.index(root, index_dir=tmp_path / "index", on_bad_sample="skip")
    assert len(read) == 8 * SHAPE[0]


def test_every_file_that_is_not_used_is_told(root: Path) -> None:
    (root / "notes.txt").touch()
    (root / "measurements.csv").write_text("sample_id,volume\n1,17\n", encoding="utf-8")
    (root / "0003" / "raw" / "Thumbs.db").touch()
    (root / "0004" / "raw_old").mkdir()
    (root / ".hidden").touch()
    index = nuclei.index(root)
    told = {problem.message for problem in index.problems}
    assert told == {
        "1 entry is not used (notes.txt): neither a sample nor a table",
        "1 entry is not used (measurements.csv): not the table of the classes",
        "1 entry is not used (0003/raw/Thumbs.db): no TIFF slice (.tif, .tiff)",
        "1 entry is not used (0004/raw_old): neither raw nor mask",
    }
    assert {problem.message for problem in nuclei.check(root) if problem.severity == "note"} == told
    assert len(nuclei.splits(index, nuclei.class_map(index), num_folds=2, test_fraction=0).left_out) == 5


@pytest.mark.parametrize("delimiter", [";", "\t"], ids=["semicolon", "tab"])
def test_the_table_may_come_from_excel_or_pandas(root: Path, delimiter: str) -> None:
    text = (root / "classes.csv").read_text(encoding="utf-8").splitlines()
    lines = [delimiter.join(("" if n == 0 else str(n - 1), *line.split(","))) for n, line in enumerate(text)]
    (root / "classes.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert [sample.class_id for sample in nuclei.index(root).samples] == [2, 4, 19, 1, 2, 4, 19, 1]


def of_patients(root: Path, column: str = "patient") -> Path:
    """30 nuclei of 10 patients, two classes."""
    lines = [f"sample_id,class_id,class_name,{column}"]
    for number in range(30):
        write_stack(root / f"{number:04d}" / "raw", (2, 3, 3))
        lines.append(f"{number},{number % 2},{'ab'[number % 2]},P{number // 3}")
    (root / "classes.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.mark.parametrize("column", ["patient", "subject", "group"])
def test_nuclei_of_one_patient_stay_on_one_side(tmp_path: Path, column: str) -> None:
    index = nuclei.index(of_patients(tmp_path, column))
    validated: list[str] = []
    for fold in (1, 2, 3):
        parts = nuclei.splits(index, nuclei.class_map(index), fold, num_folds=3, test_fraction=0.2, inner_fraction=0.2)
        sides = {part: {item["patient"] for item in items} for part, items in parts.items()}
        assert set(sides) == {"train", "val", "test", "inner"}
        assert sum(map(len, sides.values())) == 10
        assert len(set().union(*sides.values())) == 10
        assert 3 <= len({item["case"] for item in parts["test"]}) <= 9
        assert {item["label"] for item in parts["test"]} == {0, 1}
        validated += sides["val"]
    assert len(validated) == len(set(validated))
    assert any("30 samples of 10 patients" in problem.message for problem in nuclei.check(tmp_path))


def test_a_row_without_a_patient_is_refused(tmp_path: Path) -> None:
    table = of_patients(tmp_path) / "classes.csv"
    table.write_text(table.read_text().replace("P9", ""), encoding="utf-8")
    with pytest.raises(DataError, match=r"classes\.csv: row 29, column 'patient' is empty"):
        nuclei.index(tmp_path)


def test_the_patients_survive_the_index_on_disk(tmp_path: Path) -> None:
    root = of_patients(tmp_path / "data")
    for _ in range(2):
        index = nuclei.index(root, index_dir=tmp_path / "index")
        assert [sample.patient for sample in index.samples[:4]] == ["P0", "P0", "P0", "P1"]


def test_the_error_says_how_many_more(root: Path) -> None:
    for case in ("0002", "0005", "0007"):
        (root / case / "raw" / "slice_001.tif").write_bytes(b"")
    with pytest.raises(DataError, match=r"0002/raw/slice_001\.tif: is empty.*\(and 2 more\)"):
        nuclei.index(root)


def test_nothing_usable_is_an_error(root: Path) -> None:
    for file in root.rglob("raw/*.tif"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"has no usable sample \(8 left out\)"):
        nuclei.index(root, on_bad_sample="skip")


def test_missing_data_say_what_is_expected_and_how_to_make_demo_data(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        for labels in ("required", "optional"):
            with pytest.raises(DataError, match=r"sample_id,class_id,class_name.*demo-data nuclei_vgg3d"):
                nuclei.index(folder, labels=labels)


@pytest.mark.parametrize(
    ("setting", "value"), [("labels", "no"), ("on_bad_sample", "ignore"), ("min_nucleus", 5), ("crop_size", 0)]
)
def test_unknown_settings_are_config_errors(root: Path, setting: str, value) -> None:
    with pytest.raises(ConfigError, match=setting):
        nuclei.index(root, **{setting: value})


ROWS = [(n, 1 + n % 2, "ab"[n % 2]) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS[:7], (8, "", "a")], "row 9, column 'class_id' is empty"),
        ([*ROWS, (8, 1, "a")], "row 10, column 'sample_id' repeats '8' of row 9"),
        ([*ROWS, ("08", 1, "a")], "sample_id '08' is the same number as '8'"),
        ([*ROWS[:7], (8, "1.5", "a")], "sample_id '8', column 'class_id': '1.5' is not an integer"),
        ([*ROWS[:7], (8, 1, "b")], "sample_id '8': class 1 is called 'b' here, 'a' above"),
        ([*ROWS[:7], (8, 3, "b")], "sample_id '8': 'b' is class 3 here, class 2 above"),
        ([], "lists no sample"),
    ],
    ids=["empty cell", "twice", "same number", "no integer", "two names", "two ids", "empty"],
)
def test_contradictions_in_the_table_are_named(root: Path, rows, message: str) -> None:
    write_table(root, rows)
    with pytest.raises(DataError, match=rf"classes\.csv: {message}"):
        nuclei.index(root, on_bad_sample="skip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"sample_id,class_name\n1,a\n", r"classes\.csv: column 'class_id' is missing; the file has"),
        ("sample_id,class_id,class_name\n1,1,Noyau d'été\n".encode("latin-1"), r"classes\.csv: is not UTF-8 text"),
        (b"", r"classes\.csv: column 'sample_id' is missing"),
    ],
    ids=["column", "encoding", "empty"],
)
def test_unreadable_tables_are_named(root: Path, content: bytes, message: str) -> None:
    (root / "classes.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        nuclei.index(root)


def test_the_table_is_the_one_with_the_columns(root: Path) -> None:
    (root / "measurements.csv").write_text("sample_id,volume\n1,17\n", encoding="utf-8")
    assert len(nuclei.index(root).samples) == 8
    write_table(root, ROWS, "other.csv")
    with pytest.raises(DataError, match=r"has 2 class tables \(classes\.csv, other\.csv\)"):
        nuclei.index(root)
    assert {sample.class_name for sample in nuclei.index(root, class_csv=root / "other.csv").samples} == {"a", "b"}
    (root / "classes.csv").unlink()
    (root / "other.csv").unlink()
    (root / "more.csv").touch()
    with pytest.raises(DataError, match=r"has no CSV with the columns .*found measurements\.csv, more\.csv"):
        nuclei.index(root)
    with pytest.raises(DataError, match=r"none\.csv: file not found"):
        nuclei.index(root, class_csv=root / "none.csv", labels="optional")


def test_a_missing_folder_says_how_to_get_data_with_a_table_from_elsewhere_too(root: Path) -> None:
    for options in ({}, {"class_csv": root / "classes.csv"}):
        with pytest.raises(DataError, match=r"absent: is not a folder; .*demo-data nuclei_vgg3d"):
            nuclei.index(root / "absent", **options)


def test_rows_without_folder_and_folders_without_row_are_problems(root: Path) -> None:
    write_table(root, [*ROWS[:7], (12, 1, "a")])
    found = nuclei.index(root, on_bad_sample="skip")
    assert len(found.samples) == 7
    assert [problem.message.split(";")[0].split(str(root))[0] for problem in found.problems] == [
        "has no row in ",
        "sample_id '12' has no folder in ",
    ]
    assert len(nuclei.index(root, labels="optional").samples) == 8


@pytest.mark.parametrize("kind", ["same number", "link"])
def test_one_nucleus_twice_is_an_error(root: Path, kind: str) -> None:
    if kind == "link":
        (root / "0009").symlink_to(root / "0008")
        message = "is a link to the folder of another sample"
    else:
        write_stack(root / "08" / "raw")
        message = "another folder has the number 8, too"
    with pytest.raises(DataError, match=message):
        nuclei.index(root, labels="optional")


def test_links_other_folders_and_read_only_data_do_no_harm(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (root / "0008").rename(elsewhere)
    (root / "0008").symlink_to(elsewhere)
    (root / "splits").mkdir()
    (root / ".hidden" / "raw").mkdir(parents=True)
    (root / "loop").symlink_to("loop")
    root.chmod(0o555)
    try:
        found = nuclei.index(root, index_dir=tmp_path / "index")
    finally:
        root.chmod(0o755)
    assert [sample.case for sample in found.samples] == [f"{n:04d}" for n in range(1, 9)]
