from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ext import nuclei
from monai_ext.data import TiffStack
from monai_ext.errors import ConfigError, DataError, WeightsError
from monai_ext.nuclei.scan import Nucleus

SHAPE = (6, 7, 8)
CLASSES = {1: "Round", 2: "Oval", 4: "Lobed", 19: "Unclassified"}


def write_stack(folder: Path, shape: Sequence[int] = SHAPE, value: int = 9, dtype: str = "u1", **options) -> Path:
    folder.mkdir(parents=True)
    for number in range(1, shape[0] + 1):
        tifffile.imwrite(folder / f"slice_{number:03d}.tif", np.full(shape[1:], value, dtype), **options)
    return folder


def write_table(root: Path, rows: Sequence[Sequence[object]], name: str = "classes.csv") -> Path:
    lines = ["sample_id,class_id,class_name", *(",".join(str(cell) for cell in row) for row in rows)]
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight samples of the classes 1, 2, 4 and 19 in a folder with a blank and other letters; ids without zeros in
    the table."""
    root = tmp_path / "données de noyaux"
    for number in range(1, 9):
        write_stack(root / f"{number:04d}" / "raw")
        write_stack(root / f"{number:04d}" / "mask", value=255)
    write_table(root, [(n, list(CLASSES)[n % 4], list(CLASSES.values())[n % 4]) for n in range(1, 9)])
    return root


def virtual(labels: Sequence[int], crops: int = 2) -> nuclei.NucleiIndex:
    """An index without files."""
    stack = TiffStack("nowhere", ("1.tif",), (1, 1, 1), "|u1", (8,), bytes(16))
    positions = tuple((0, 0, 80 * x) for x in range(crops))
    samples = [
        Nucleus(f"{number:04d}", label, f"class {label}", stack, None, "s", positions)
        for number, label in enumerate(labels)
    ]
    return nuclei.NucleiIndex(samples, [])


COUNTS = {40: 1, 79: 1, 80: 1, 81: 1, 158: 1, 159: 1, 160: 2, 161: 2, 238: 2, 239: 2, 240: 3, 241: 3, 319: 3, 320: 4}


@pytest.mark.parametrize(("length", "count"), [*COUNTS.items(), (400, 5)])
def test_crops_along_an_axis_are_counted_as_in_the_reference(length: int, count: int) -> None:
    assert nuclei.crop_grid((length, 80, 80), 80) == [(80 * i, 0, 0) for i in range(count)]
    assert len(nuclei.crop_grid((320, length, 400), [80, 80, 80])) == 4 * count * 5


def test_crops_follow_each_other_x_fastest() -> None:
    assert nuclei.crop_grid((8, 9, 3), [4, 8, 5]) == [(0, 0, 0), (4, 0, 0)]
    assert nuclei.crop_grid((2, 4, 4), 2) == [(0, 0, 0), (0, 0, 2), (0, 2, 0), (0, 2, 2)]


@pytest.mark.parametrize(
    ("crop", "sizes"), {80: (80, 60, 40), 60: (60, 40, 30), 40: (40, 20, 20)}.items(), ids=["80", "60", "40"]
)
def test_the_margin_is_bounded_by_a_quarter(crop: int, sizes: tuple[int, ...]) -> None:
    assert [nuclei.trimmed_size(crop, margin) for margin in (0, 10, 20)] == [[size] * 3 for size in sizes]


def test_the_network_gets_the_target_size_or_what_is_left_of_the_crop() -> None:
    assert nuclei.input_size(80, 10) == [60, 60, 60]
    assert nuclei.input_size([80, 60, 40], 10) == [60, 40, 20]
    assert nuclei.input_size(80, 10, 64) == [64, 64, 64]
    assert nuclei.input_size(80, 10, [32, 64, 64]) == [32, 64, 64]
    with pytest.raises(ConfigError, match="target_size must be one or three integers"):
        nuclei.input_size(80, 10, 0)


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


def damage(root: Path, kind: str, case: str = "0005") -> None:
    sample = root / case
    if kind == "mask slice":
        (sample / "mask" / "slice_003.tif").unlink()
    elif kind == "raw slice":
        (sample / "raw" / "slice_003.tif").unlink()
    elif kind == "truncated":
        file = sample / "raw" / "slice_003.tif"
        file.write_bytes(file.read_bytes()[:-10])
    elif kind == "empty folder":
        for file in (sample / "raw").iterdir():
            file.unlink()
    elif kind == "shape":
        tifffile.imwrite(sample / "raw" / "slice_003.tif", np.zeros((5, 5), np.uint8))
    elif kind == "type":
        tifffile.imwrite(sample / "raw" / "slice_003.tif", np.zeros(SHAPE[1:], np.uint16))
    elif kind == "mask shape":
        for file in (sample / "mask").iterdir():
            tifffile.imwrite(file, np.zeros((5, 5), np.uint8))
    elif kind == "no raw":
        (sample / "raw").rename(sample / "images")


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


def spoil(path: Path) -> Path:
    """Write a compressed slice whose header is good and whose pixels aren't."""
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 9, SHAPE[1:]).astype(np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    return path


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


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders whose headers are read from now on."""
    folders: list[str] = []
    original = TiffStack.scan.__func__

    def scan(cls, folder, files=None, mask=False):
        folders.append(Path(folder).parent.name)
        return original(cls, folder, files, mask)

    monkeypatch.setattr(TiffStack, "scan", classmethod(scan))
    return folders


@pytest.mark.parametrize("options", [{}, {"use_mask": True}, {"min_nucleus": 0.1}], ids=["plain", "mask", "fraction"])
def test_a_second_run_reads_no_header(root: Path, tmp_path: Path, scanned: list[str], options) -> None:
    for n, (dtype, compression) in enumerate([("u1", "lzw"), ("u2", None)], start=1):
        for file in (root / f"000{n}" / "raw").iterdir():
            tifffile.imwrite(file, np.full(SHAPE[1:], 9, dtype), compression=compression, byteorder=">")
    first = nuclei.index(root, crop_size=4, index_dir=tmp_path / "index", **options)
    assert len(scanned) == (16 if options else 8)
    assert nuclei.index(root, crop_size=4, index_dir=tmp_path / "index", **options) == first
    assert len(scanned) == (16 if options else 8)
    (file,) = (tmp_path / "index").iterdir()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1 + sum(len(s.crops) for s in first.samples)


def touch(root: Path) -> dict:
    file = root / "0003" / "raw" / "slice_002.tif"
    os.utime(file, ns=(1, 1))
    return {}


def relabel(root: Path) -> dict:
    table = root / "classes.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("Oval", "Egg"), encoding="utf-8")
    return {}


def more_slices(root: Path) -> dict:
    tifffile.imwrite(root / "0003" / "raw" / "slice_000.tif", np.zeros(SHAPE[1:], np.uint8))
    return {}


@pytest.mark.parametrize(
    "change",
    [touch, relabel, more_slices, lambda root: {"crop_size": 3}, lambda root: {"use_mask": True}],
    ids=["time", "class", "slices", "crop size", "masks"],
)
def test_the_index_is_made_anew_when_data_or_settings_change(
    root: Path, tmp_path: Path, scanned: list[str], change: Callable[[Path], dict]
) -> None:
    before = nuclei.index(root, index_dir=tmp_path / "index")
    options = change(root)
    scanned.clear()
    after = nuclei.index(root, index_dir=tmp_path / "index", **options)
    assert len(scanned) >= 8
    assert after == nuclei.index(root, **options)
    assert after != before


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"sample_id\n0001\n", "no crop", "other type", "cut"],
    ids=["empty", "binary", "columns", "no crop", "other type", "cut"],
)
def test_a_damaged_index_file_is_made_anew(root: Path, tmp_path: Path, content, caplog) -> None:
    first = nuclei.index(root, crop_size=4, index_dir=tmp_path / "index")
    (file,) = (tmp_path / "index").iterdir()
    text = file.read_text(encoding="utf-8")
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "no crop":
        file.write_text(text.replace(",0,0,4,", ",0,0,5,"), encoding="utf-8")
    elif content == "other type":
        file.write_text(text.replace("|u1", "uint5"), encoding="utf-8")
    else:
        file.write_text(text[: len(text) // 2], encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert nuclei.index(root, crop_size=4, index_dir=tmp_path / "index") == first
    assert "is damaged" in caplog.text
    assert file.read_text(encoding="utf-8") == text


def test_a_repaired_sample_is_found_again_although_others_come_from_the_index(
    root: Path, tmp_path: Path, scanned: list[str]
) -> None:
    file = root / "0003" / "raw" / "slice_002.tif"
    whole = file.read_bytes()
    stamp = file.stat().st_mtime_ns
    file.write_bytes(bytes(len(whole)))
    os.utime(file, ns=(stamp, stamp))
    options = {"index_dir": tmp_path / "index", "on_bad_sample": "skip"}
    assert len(nuclei.index(root, **options).samples) == 7
    scanned.clear()
    assert len(nuclei.index(root, **options).problems) == 1
    assert scanned == ["0003"]
    file.write_bytes(whole)
    os.utime(file, ns=(stamp, stamp))
    assert len(nuclei.index(root, **options).samples) == 8


def test_crops_with_too_little_nucleus_are_dropped(root: Path, tmp_path: Path) -> None:
    for file in (root / "0001" / "mask").iterdir():
        mask = np.zeros(SHAPE[1:], np.uint8)
        mask[:4, :6] = 1
        tifffile.imwrite(file, mask)
    for file in (root / "0002" / "mask").iterdir():
        tifffile.imwrite(file, np.zeros(SHAPE[1:], np.uint8))
    options = {"crop_size": [6, 4, 4], "index_dir": tmp_path / "index", "min_nucleus": 0.4}
    for _ in range(2):  # scanned, then from the index
        found = nuclei.index(root, **options)
        assert [sample.case for sample in found.samples] == ["0001", *(f"{n:04d}" for n in range(3, 9))]
        first = found.samples[0]
        assert (first.crops, first.nucleus, first.mask) == (((0, 0, 0), (0, 0, 4)), (1.0, 0.5), None)
        (problem,) = found.problems
        assert (problem.severity, "0002" in problem.path) == ("warning", True)
    half = nuclei.index(root, **{**options, "min_nucleus": 0.6}).samples[0]
    assert half.crops == ((0, 0, 0),)


def test_padding_counts_as_background(root: Path) -> None:
    found = nuclei.index(root, crop_size=[12, 7, 8], min_nucleus=0.5)
    assert found.samples[0].nucleus == (0.5,)


def test_one_sample_or_a_folder_without_table_can_be_predicted(root: Path) -> None:
    (single,) = nuclei.index(root / "0003", labels="optional").samples
    assert (single.case, single.class_id) == ("0003", None)
    (root / "classes.csv").unlink()
    write_stack(root / "cell 7" / "raw")
    items = nuclei.inference_items(nuclei.index(root, labels="optional"), [[1, "Round"], [2, "Oval"]])
    assert [item["case"] for item in items][-2:] == ["0008", "cell 7"]
    assert not any("label" in item for item in items)


def test_inference_labels_what_the_class_map_knows(root: Path, caplog) -> None:
    write_table(root, [(1, 1, "Round"), (2, 4, "Lobed"), (3, 2, "Egg"), (4, 19, "Unclassified")])
    with caplog.at_level(logging.WARNING):
        items = nuclei.inference_items(
            nuclei.index(root, labels="optional", use_mask=True), [[1, "Round"], [2, "Oval"], [4, "Lobed"]]
        )
    assert [item.get("label") for item in items] == [0, 2] + [None] * 6
    assert "class 2 is 'Egg' in the data and 'Oval' in the class map" in caplog.text
    assert set(items[0]) == {"case", "image", "mask", "crop_z", "crop_y", "crop_x", "label", "stamp"}
    assert isinstance(items[0]["mask"], TiffStack)


def test_the_stamp_changes_with_the_files(root: Path) -> None:
    before = {s.case: s.stamp for s in nuclei.index(root).samples}
    touch(root)
    after = {s.case: s.stamp for s in nuclei.index(root).samples}
    assert {case for case in before if before[case] != after[case]} == {"0003"}


def test_the_class_map_closes_gaps_and_drops_the_unclassified(root: Path, caplog) -> None:
    found = nuclei.index(root)
    with caplog.at_level(logging.INFO):
        classes = nuclei.class_map(found)
    assert classes == [[1, "Round"], [2, "Oval"], [4, "Lobed"]]
    assert json.loads(json.dumps(classes)) == classes
    assert nuclei.class_names(classes) == ["Round", "Oval", "Lobed"]
    assert "class 19 'Unclassified' is left out with its 2 samples (excluded)" in caplog.text
    assert nuclei.class_map(found, excluded_classes=()) == [*classes, [19, "Unclassified"]]
    assert nuclei.class_map(found, excluded_classes=["ROUND", 19]) == classes[1:]
    assert nuclei.class_map(found, class_ids=[4, 1]) == [classes[0], classes[2]]


def test_classes_that_are_not_there_or_too_few_are_errors(root: Path) -> None:
    found = nuclei.index(root)
    with pytest.raises(ConfigError, match=r"class_ids \[3, 7\] have no sample; there are \[1, 2, 4, 19\]"):
        nuclei.class_map(found, class_ids=[1, 3, 7])
    with pytest.raises(DataError, match="1 classes are left"):
        nuclei.class_map(found, class_ids=[1])


def test_the_saved_class_map_is_read_back(tmp_path: Path) -> None:
    classes = [[1, "Round"], [4, "Lobed"]]
    torch.save({"model": {}, "settings": {"classes": classes}}, tmp_path / "best.pt")
    assert nuclei.saved_class_map(tmp_path / "best.pt") == classes
    (tmp_path / "cross_validation.json").write_text(json.dumps({"settings": {"classes": classes}}), encoding="utf-8")
    assert nuclei.saved_class_map(tmp_path / "none.pt", tmp_path / "cross_validation.json") == classes


def test_without_weights_the_published_classes_stand_in(tmp_path: Path) -> None:
    classes = nuclei.saved_class_map(tmp_path / "model.pt")
    assert len(classes) == 18
    assert classes[0] == [1, "class_1"]
    assert classes[-1] == [18, "class_18"]
    classes[0][1] = "changed"
    assert nuclei.saved_class_map(tmp_path / "model.pt")[0] == [1, "class_1"]


def test_a_bare_state_dict_has_the_published_classes_with_a_warning(tmp_path: Path, caplog) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    assert nuclei.saved_class_map(tmp_path / "model.pt") == nuclei.saved_class_map(tmp_path / "none.pt")
    (warning,) = caplog.messages
    assert warning.startswith(
        f"{tmp_path / 'model.pt'} holds no settings: its outputs are taken for the classes class_1,"
    )
    assert nuclei.saved_class_map(tmp_path / "model.pt", default=[[1, "Round"]]) == [[1, "Round"]]


@pytest.mark.parametrize("settings", [{"scaling": "unit"}, {"classes": "a,b"}, {"classes": [[1, "a"]]}], ids=str)
def test_a_checkpoint_without_classes_is_an_error(tmp_path: Path, settings) -> None:
    torch.save({"model": {}, "settings": settings}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: has no classes among its settings"):
        nuclei.saved_class_map(tmp_path / "x.pt")


SECTIONS = ("train", "val", "test")


def cases(items: Sequence[dict]) -> set[str]:
    return {item["case"] for item in items}


@given(
    st.lists(st.integers(7, 14), min_size=2, max_size=4),
    st.integers(0, 5),
    st.sampled_from([0.15, 0.3]),
    st.integers(2, 4),
)
@settings(max_examples=25, deadline=None)
def test_a_nucleus_is_in_one_part_of_a_split_and_the_parts_cover_all(sizes, seed, fraction, folds) -> None:
    labels = [label for label, size in enumerate(sizes, start=1) for _ in range(size)]
    found = virtual(labels)
    classes = nuclei.class_map(found)
    validated: list[str] = []
    tests = []
    for fold in range(1, folds + 1):
        split = nuclei.splits(found, classes, fold, folds, fraction, seed)
        parts = [split[section] for section in SECTIONS]
        members = [cases(part) for part in parts]
        assert set.union(*members) == {sample.case for sample in found.samples}
        assert sum(len(member) for member in members) == len(labels)
        assert sum(len(part) for part in parts) == 2 * len(labels)
        assert {item["label"] for item in parts[0]} == {item["label"] for item in parts[1]} == set(range(len(sizes)))
        validated += members[1]
        tests.append(members[2])
    assert len(validated) == len(set(validated))
    assert all(test == tests[0] for test in tests)

    shuffled = nuclei.NucleiIndex(random.Random(seed).sample(found.samples, len(labels)), [])
    again = nuclei.splits(shuffled, classes, folds, folds, fraction, seed)["val"]
    assert cases(again) == members[1]


def test_shares_of_the_classes_are_kept() -> None:
    found = virtual([1] * 40 + [2] * 20 + [19] * 5)
    classes = nuclei.class_map(found)
    split = nuclei.splits(found, classes)
    for section, counts in (("test", [6, 3]), ("val", [7, 3]), ("train", [27, 14])):
        labels = [item["label"] for item in split[section]]
        assert np.abs(np.bincount(labels) / 2 - counts).max() <= 1, section


def test_without_a_test_part_all_is_trained_and_validated() -> None:
    found = virtual([1] * 6 + [2] * 6)
    classes = nuclei.class_map(found)
    split = nuclei.splits(found, classes, 1, 3, 0)
    assert {name: len(cases(part)) for name, part in split.items()} == {"train": 8, "val": 4}
    with pytest.raises(ConfigError, match="--section test: there is no such section of the data; there are train, val"):
        split["test"]


def test_a_percentage_of_each_class_is_drawn_and_smaller_ones_lie_in_larger_ones() -> None:
    found = virtual([1] * 40 + [2] * 20)
    classes = nuclei.class_map(found)

    def drawn(percent: float) -> set[str]:
        return set.union(*map(cases, nuclei.splits(found, classes, num_folds=2, sample_percent=percent).values()))

    half, quarter = drawn(50), drawn(25)
    assert sorted(case < "0040" for case in half) == [False] * 10 + [True] * 20
    assert quarter < half
    with pytest.raises(DataError, match=r"class 'class 1' has 1 samples, too few for a test set and 2 folds"):
        drawn(0.1)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([1] * 9 + [2] * 5, {}, "class 'class 2' has 5 samples, too few for a test set and 5 folds"),
        ([1] * 9 + [2] * 4, {"test_fraction": 0}, "class 'class 2' has 4 samples, too few for 5 folds"),
        ([1] * 8 + [2] * 8, {"test_fraction": 0.7}, "too few for 5 folds beside the test set"),
        ([1] * 6 + [2] * 6 + [3] * 6, {"test_fraction": 0.1}, "0.1 of 18 samples make no test set"),
    ],
    ids=["test part", "folds", "rest", "few"],
)
def test_too_few_samples_name_the_class_and_what_to_do(labels, options, message: str) -> None:
    found = virtual(labels)
    with pytest.raises(DataError, match=message):
        nuclei.splits(found, nuclei.class_map(found), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "fold must be an integer from 1 to 5"),
        ({"fold": 6}, "fold must be"),
        ({"fold": True}, "fold must be"),
        ({"test_fraction": 1}, "test_fraction must be"),
        ({"sample_percent": 0}, "sample_percent"),
    ],
    ids=str,
)
def test_arguments_of_a_split_are_checked(options, message: str) -> None:
    found = virtual([1] * 9 + [2] * 9)
    with pytest.raises(ConfigError, match=message):
        nuclei.splits(found, nuclei.class_map(found), **options)


def test_check_of_good_data_warns_of_small_classes_only(root: Path) -> None:
    problems = nuclei.check(root)
    assert [problem.severity for problem in problems] == ["warning"] * 3
    assert "class 1 'Round' has 2 samples, too few for five folds" in problems[0].message
    write_table(root, [(n, 1, "Round") for n in range(1, 9)])
    (problem,) = nuclei.check(root)
    assert (problem.severity, "one class only" in problem.message) == ("error", True)


def test_check_lists_every_problem_at_once(root: Path) -> None:
    for case, kind in (("0001", "truncated"), ("0002", "shape"), ("0003", "type"), ("0004", "mask slice")):
        damage(root, kind, case)
    spoil(root / "0006" / "raw" / "slice_004.tif")
    for file in (root / "0007" / "raw").iterdir():
        tifffile.imwrite(file, np.full(SHAPE[1:], np.nan, np.float32))
    (root / "0007" / "mask").rename(root / "0007" / "masks")
    for file in (root / "0008" / "mask").iterdir():
        file.write_bytes(b"")
    write_table(root, [(n, 1 + n % 2, "ab"[n % 2]) for n in range(1, 8)])
    write_stack(root / "9" / "raw")

    problems = [problem for problem in nuclei.check(root, workers=2) if "too few" not in problem.message]
    found = {f"{Path(p.path).relative_to(root)}: {p.message.split(';')[0].split(',')[0]}" for p in problems}
    expected = {
        "0001/raw/slice_003.tif: is truncated",
        "0002/raw/slice_003.tif: has shape (5",
        "0003/raw/slice_003.tif: has data type uint16",
        "0004/mask/slice_003.tif: is missing",
        "0006/raw/slice_004.tif: can't be read",
        "0007/mask: is missing",
        ".: 1 entry is not used (0007/masks): neither raw nor mask",
        "9: has no row in",
        "0008: has no row in",
    } | {f"0007/raw/slice_00{n}.tif: has pixels that are NaN or infinite" for n in range(1, 7)}
    assert all(any(line.startswith(text) for line in found) for text in expected), found
    assert len(found) == len(expected)


def test_check_goes_on_without_a_table(root: Path, tmp_path: Path) -> None:
    (root / "classes.csv").write_text("sample_id,class_id\n1,1\n", encoding="utf-8")
    (root / "0002" / "raw" / "slice_001.tif").write_bytes(b"")
    table, file = nuclei.check(root)
    assert "column 'class_name' is missing" in table.message
    assert "is empty" in file.message
    (problem,) = nuclei.check(tmp_path / "none")
    assert "demo-data nuclei_vgg3d" in problem.message
