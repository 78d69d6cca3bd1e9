from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from ct_helpers import NAMES, label_row, metadata_row, save_ct, write_dataset, write_table

from monai_ext.ct_rate import LABELS, View, class_names, splits, volumes
from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.errors import ConfigError, DataError

TRAIN = "dataset/train"
LABEL_TABLE = "dataset/multi_abnormality_labels/train_predicted_labels.csv"
METADATA_TABLE = "dataset/metadata/train_metadata.csv"
TRAIN_NAMES = [name for name in NAMES if name.startswith("train")]


def rewrite_labels(root: Path, **changes) -> None:
    """The training table with other cells in the row of train_2_a_1."""
    rows = [label_row(name, NAMES[name], **(changes if "_2_a" in name else {})) for name in TRAIN_NAMES]
    write_table(root / LABEL_TABLE, rows)


def test_the_labels_are_the_official_ones_in_their_order() -> None:
    assert len(LABELS) == 18
    assert (LABELS[0], LABELS[7], LABELS[17]) == ("Medical material", "Emphysema", "Interlobular septal thickening")


@pytest.mark.parametrize("inner", [False, True], ids=["parent", "dataset folder"])
def test_the_official_layout_gives_every_volume_with_what_its_name_and_tables_say(ct_dir: Path, inner: bool) -> None:
    index = volumes(ct_dir / "dataset" if inner else ct_dir)
    assert [volume.name for volume in index.volumes] == list(NAMES)
    assert index.problems == []
    for volume in index.volumes:
        assert {LABELS[i] for i, value in enumerate(volume.labels) if value} == set(NAMES[volume.name])
        assert volume.rescale == (1, -1024)
        assert volume.spacing == (3, 2, 2)
        status = os.stat(volume.path)
        assert volume.stamp == (status.st_size, status.st_mtime_ns)
    assert [volume.patient for volume in index.volumes] == [*["train_1"] * 3, "train_2", "train_10", "valid_1"]
    assert pickle.loads(pickle.dumps(index.volumes)) == index.volumes


def test_columns_in_another_order_mean_the_same(ct_dir: Path) -> None:
    before = volumes(ct_dir).volumes
    rows = [label_row(name, NAMES[name]) for name in TRAIN_NAMES]
    write_table(ct_dir / LABEL_TABLE, rows, [*reversed(LABELS), "VolumeName"])
    assert volumes(ct_dir).volumes == before


def test_every_place_can_be_given_by_its_own_knob(ct_dir: Path, tmp_path: Path) -> None:
    before = [volume.name for volume in volumes(ct_dir).volumes]
    places = {
        "train_dir": TRAIN,
        "valid_dir": "dataset/valid",
        "train_labels": LABEL_TABLE,
        "valid_labels": "dataset/multi_abnormality_labels/valid_predicted_labels.csv",
        "train_metadata": METADATA_TABLE,
        "valid_metadata": "dataset/metadata/validation_metadata.csv",
    }
    moved = {}
    for knob, place in places.items():
        moved[knob] = (ct_dir / place).rename(tmp_path / f"{knob}.moved")
    assert [volume.name for volume in volumes(tmp_path, **moved).volumes] == before


def test_a_part_of_the_download_is_enough(ct_dir: Path) -> None:
    (ct_dir / "dataset" / "train").rename(ct_dir / "elsewhere")
    assert [volume.name for volume in volumes(ct_dir).volumes] == ["valid_1_a_1.nii.gz"]


def test_a_missing_dataset_says_where_to_get_real_and_demo_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"huggingface.*demo-data ct_rate_multilabel --output DIR"):
        volumes(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: is not a folder; give the volumes by --train_dir"):
        volumes(tmp_path, train_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Emphysema": 2}, r"'train_2_a_1.nii.gz' has '2' for 'Emphysema', expected 0 or 1"),
        ({"Emphysema": ""}, r"'train_2_a_1.nii.gz' has '' for 'Emphysema', expected 0 or 1"),
        ({"VolumeName": "train_3_a_1.nii.gz"}, r"train_2_a_1.nii.gz: has no row \(or no good one\) in .*labels.csv"),
        ({"VolumeName": "train_1_a_1.nii.gz"}, r"more than one row of 'train_1_a_1.nii.gz'"),
    ],
    ids=["value", "empty", "no row", "two rows"],
)
def test_bad_labels_stop_or_are_skipped_and_never_become_all_negative(ct_dir: Path, caplog, changes, message) -> None:
    rewrite_labels(ct_dir, **changes)
    with pytest.raises(DataError, match=message):
        volumes(ct_dir)
    index = volumes(ct_dir, on_bad_volume="skip")
    assert "train_2_a_1.nii.gz" not in {volume.name for volume in index.volumes}
    assert index.problems
    assert "left out" in caplog.text


def test_wrong_columns_are_named(ct_dir: Path) -> None:
    rows = [label_row(name) for name in TRAIN_NAMES]
    table = write_table(ct_dir / LABEL_TABLE, [{**row, "Pneumonia": 0} for row in rows])
    with pytest.raises(DataError, match=r"has the unknown \['Pneumonia'\] among its columns"):
        volumes(ct_dir, on_bad_volume="skip")
    write_table(table, [{key: row[key] for key in row if key != "Lung nodule"} for row in rows])
    with pytest.raises(DataError, match=r"labels.csv: lacks \['Lung nodule'\] among its columns"):
        volumes(ct_dir, on_bad_volume="skip")


def test_a_table_that_is_missing_or_empty_is_named(ct_dir: Path) -> None:
    (ct_dir / LABEL_TABLE).write_text("VolumeName\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train_predicted_labels.csv: has no rows"):
        volumes(ct_dir)
    (ct_dir / LABEL_TABLE).unlink()
    with pytest.raises(DataError, match=r"train_predicted_labels.csv: file not found"):
        volumes(ct_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RescaleSlope": "one"}, r"'train_2_a_1.nii.gz' has 'one' for RescaleSlope, expected a number"),
        ({"XYSpacing": "0.7"}, r"'train_2_a_1.nii.gz' has XYSpacing '0.7' and ZSpacing '3'"),
        ({"ZSpacing": "-3"}, r"expected mm such as"),
        ({"VolumeName": "train_3_a_1.nii.gz"}, r"train_2_a_1.nii.gz: has no row \(or no good one\) in .*metadata.csv"),
        ({"VolumeName": "train_1_a_1.nii.gz"}, r"more than one row of 'train_1_a_1.nii.gz'"),
    ],
    ids=["number", "spacing", "negative", "no row", "two rows"],
)
def test_bad_metadata_stop_or_are_skipped(ct_dir: Path, changes, message) -> None:
    rows = [metadata_row(name, **(changes if "_2_a" in name else {})) for name in TRAIN_NAMES]
    write_table(ct_dir / METADATA_TABLE, rows)
    with pytest.raises(DataError, match=message):
        volumes(ct_dir)
    kept = {volume.name for volume in volumes(ct_dir, on_bad_volume="skip").volumes}
    assert "train_2_a_1.nii.gz" not in kept
    assert "train_10_a_1.nii.gz" in kept


def test_metadata_may_lack_cells_or_be_optional_altogether(ct_dir: Path) -> None:
    rows = [metadata_row(name, RescaleSlope="", XYSpacing="") for name in TRAIN_NAMES]
    write_table(ct_dir / METADATA_TABLE, rows)
    first = volumes(ct_dir).volumes[0]
    assert first.rescale[0] != first.rescale[0]
    assert first.spacing is None

    (ct_dir / METADATA_TABLE).unlink()
    with pytest.raises(DataError, match=r"train_metadata.csv: file not found"):
        volumes(ct_dir)
    index = volumes(ct_dir, metadata="optional")
    assert index.volumes[0].rescale is None
    assert index.volumes[-1].rescale == (1, -1024)


def test_volumes_that_ct_rate_lists_as_no_chest_take_no_part(ct_dir: Path) -> None:
    listed = ["dataset/train/train_1/train_1_b/train_1_b_1.nii.gz", "", "train_2_a_1"]
    (ct_dir / "dataset/metadata/no_chest_train.txt").write_text("\n".join(listed), encoding="utf-8")
    index = volumes(ct_dir)
    assert {volume.name for volume in index.volumes} == set(NAMES) - {"train_1_b_1.nii.gz", "train_2_a_1.nii.gz"}
    assert {(Path(problem.path).name, problem.severity) for problem in index.problems} == {
        ("train_1_b_1.nii.gz", "note"),
        ("train_2_a_1.nii.gz", "note"),
    }


def test_links_are_followed_once_and_circles_do_no_harm(ct_dir: Path, tmp_path: Path) -> None:
    train = ct_dir / TRAIN
    (train / "loop").symlink_to(train)
    (train / "train_1" / "again").symlink_to(train / "train_1" / "train_1_a")

    moved = (train / "train_2").rename(tmp_path / "train_2 ailleurs")
    (train / "train_2").symlink_to(moved)
    (train / "copy").mkdir()
    (train / "copy" / "train_10_a_1.nii.gz").symlink_to(train / "train_10" / "train_10_a" / "train_10_a_1.nii.gz")
    index = volumes(ct_dir)
    assert [volume.name for volume in index.volumes] == list(NAMES)
    assert {Path(problem.path).name for problem in index.problems} == {"loop", "again", "train_10_a_1.nii.gz"}
    assert not any(volume.path.endswith("copy/train_10_a_1.nii.gz") for volume in index.volumes)


def test_suffixes_count_in_any_case_and_uncompressed(ct_dir: Path) -> None:
    folder = ct_dir / TRAIN / "train_1" / "train_1_a"
    (folder / "train_1_a_1.nii.gz").rename(folder / "train_1_a_1.NII.GZ")
    (folder / "train_1_a_2.nii.gz").unlink()
    save_ct(folder / "train_1_a_2.nii", stored_as=(1.0, -1024.0))
    index = volumes(ct_dir)
    assert [volume.name for volume in index.volumes] == list(NAMES)
    assert index.problems == []
    for volume in index.volumes[:2]:
        assert read_chest_ct(volume.path, volume.rescale).stored.shape == (20, 32, 32)


@pytest.mark.parametrize("delimiter", [";", "\t"], ids=["semicolon", "tab"])
def test_tables_may_come_from_excel_or_pandas(ct_dir: Path, delimiter: str) -> None:
    table = ct_dir / LABEL_TABLE
    lines = table.read_text(encoding="utf-8").splitlines()
    indexed = [
        delimiter.join(("Unnamed: 0" if n == 0 else str(n - 1), *line.split(","))) for n, line in enumerate(lines)
    ]
    table.write_text("\n".join(indexed), encoding="utf-8-sig")
    expected = volumes(ct_dir).volumes
    table.write_text("\n".join(lines), encoding="utf-8")
    assert volumes(ct_dir).volumes == expected


def test_a_table_with_a_label_twice_is_refused(ct_dir: Path) -> None:
    table = ct_dir / LABEL_TABLE
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([f"{lines[0]},Emphysema", *(f"{line},0" for line in lines[1:])]), encoding="utf-8")
    with pytest.raises(DataError, match="has the column 'Emphysema' 2 times"):
        volumes(ct_dir)


def test_a_volume_beside_its_compressed_copy_is_a_finding_by_name(ct_dir: Path) -> None:
    save_ct(ct_dir / TRAIN / "train_2/train_2_a/train_2_a_1.nii")
    with pytest.raises(DataError, match=r"train_2_a_1\.nii(\.gz)?: has the name of .*train_2_a_1\.nii"):
        volumes(ct_dir)
    index = volumes(ct_dir, on_bad_volume="skip")
    assert "train_2_a_1.nii.gz" not in {volume.name for volume in index.volumes}
    assert [problem.code for problem in index.problems] == ["copies"]


def test_every_file_that_is_not_used_stands_in_the_record_of_the_run(ct_dir: Path) -> None:
    (ct_dir / TRAIN / "train_1" / "report.pdf").touch()
    (ct_dir / TRAIN / "train_2" / "train_2_a_1.nii.gz.part").touch()
    index = volumes(ct_dir)
    assert len(index.volumes) == len(NAMES)
    (told,) = splits(index, num_folds=2).left_out
    assert "2 entries are not used (train_1/report.pdf, train_2/train_2_a_1.nii.gz.part): no volume" in told
    assert View().items(splits(index, num_folds=2)).left_out == [told]


def test_broken_links_strange_names_and_twins_are_reported(ct_dir: Path) -> None:
    train = ct_dir / TRAIN
    (train / "gone.nii.gz").symlink_to(train / "nothing")
    save_ct(train / "scan (1).nii.gz")
    save_ct(train / "other" / "train_2_a_1.nii.gz")
    index = volumes(ct_dir, on_bad_volume="skip")
    assert "train_2_a_1.nii.gz" not in {volume.name for volume in index.volumes}
    told = {Path(problem.path).name: problem.message for problem in index.problems}
    assert "is it a broken link" in told["gone.nii.gz"]
    assert "not named as CT-RATE's volumes are" in told["scan (1).nii.gz"]
    assert "has the name of" in told["train_2_a_1.nii.gz"]


def test_a_read_only_folder_is_no_obstacle(ct_dir: Path) -> None:
    (ct_dir / TRAIN).chmod(0o555)
    try:
        assert len(volumes(ct_dir).volumes) == len(NAMES)
    finally:
        (ct_dir / TRAIN).chmod(0o755)


def test_many_files_are_looked_at_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"train_{number}_a_1.nii.gz": () for number in range(300)}
    root = write_dataset(tmp_path, names, save=lambda path: path.touch())
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    assert len(volumes(root).volumes) == 300
    listed = [path for path in listed if path.startswith(str(root))]  # threads of other tests may still end
    assert len(listed) == len(set(listed)) == 601


def test_unknown_settings_are_refused(ct_dir: Path) -> None:
    with pytest.raises(ConfigError, match="on_bad_volume must be one of"):
        volumes(ct_dir, on_bad_volume="ignore")
    with pytest.raises(ConfigError, match="metadata must be one of"):
        volumes(ct_dir, metadata="no")
    with pytest.raises(ConfigError, match="got \\['Pneumonia'\\]"):
        class_names(["Emphysema", "Pneumonia"])
    with pytest.raises(ConfigError, match="expected different ones"):
        class_names(["Emphysema", "Emphysema"])
    assert class_names() == list(LABELS)
    assert class_names(["Lung nodule", "Emphysema"]) == ["Lung nodule", "Emphysema"]


def named(root: Path) -> list[str]:
    return [volume.name for volume in volumes(root).volumes]


@pytest.mark.parametrize("inner", [False, True], ids=["parent", "dataset folder"])
def test_version_2_is_found_in_its_own_folders(ct_dir: Path, inner: bool) -> None:
    for split in ("train", "valid"):
        (ct_dir / "dataset" / split).rename(ct_dir / "dataset" / f"{split}_fixed")
    index = volumes(ct_dir / "dataset" if inner else ct_dir)
    assert [volume.name for volume in index.volumes] == list(NAMES)
    assert {Path(volume.path).relative_to(ct_dir).parts[1] for volume in index.volumes} == {
        "train_fixed",
        "valid_fixed",
    }
    assert {volume.split for volume in index.volumes} == {"train", "valid"}


def test_both_versions_side_by_side_are_refused_until_one_is_chosen(ct_dir: Path, caplog) -> None:
    dataset = ct_dir / "dataset"
    (dataset / "train_fixed").mkdir()
    assert named(ct_dir) == list(NAMES)  # an empty one is no version
    save_ct(dataset / "train_fixed" / "train_2_a_1.nii.gz")
    with pytest.raises(DataError, match=r"dataset: holds train and train_fixed, .* by `--train_dir .*train_fixed`"):
        volumes(ct_dir)
    caplog.set_level("INFO")
    index = volumes(ct_dir, train_dir=dataset / "train_fixed")
    assert [volume.name for volume in index.volumes] == ["train_2_a_1.nii.gz", "valid_1_a_1.nii.gz"]
    assert f"train: 1 volumes in {dataset / 'train_fixed'}" in caplog.text
    (dataset / "train_fixed" / "train_2_a_1.nii.gz").rename(dataset / "moved")
    for path in sorted((dataset / "train").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (dataset / "moved").rename(dataset / "train_fixed" / "train_2_a_1.nii.gz")
    assert named(ct_dir) == ["train_2_a_1.nii.gz", "valid_1_a_1.nii.gz"]


def test_names_in_tables_may_lack_gz_too(ct_dir: Path) -> None:
    rows = [metadata_row(name.removesuffix(".gz")) for name in TRAIN_NAMES]
    write_table(ct_dir / METADATA_TABLE, rows)
    rewrite_labels(ct_dir)
    assert named(ct_dir) == list(NAMES)
