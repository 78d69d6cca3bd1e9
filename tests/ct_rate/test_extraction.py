from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from ct_helpers import NAMES, chest, metadata_row, save_ct, write_table
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.ct_rate import (
    LABELS,
    LoadChestCTd,
    Volume,
    check,
    extract_slices,
    extracted_slices,
    extraction,
    inference_items,
    slice_items,
    slice_positions,
    splits,
    volume_items,
    volumes,
)
from monai_ext.data import PreparedDataset, SeededLoader
from monai_ext.errors import ConfigError, DataError
from monai_ext.io import atomic_path
from monai_ext.transforms import RandAugmentSlicesd

SIZE = 24
GOOD = chest()
VOLUME = "dataset/train/train_1/train_1_b/train_1_b_1.nii.gz"


def extract(root: Path, output: Path, **settings) -> list:
    return extract_slices(volumes(root), output, **{"num_slices": 6, "size": SIZE, "workers": 1, **settings})


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "slices").rglob("*.npy")}


def table(output: Path, split: str = "train") -> list[dict[str, str]]:
    with open(output / "splits" / f"{split}_slices.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def extracted(ct_dir: Path, tmp_path: Path) -> Path:
    assert extract(ct_dir, tmp_path / "out") == []
    return tmp_path / "out"


def test_files_and_tables_have_the_documented_form(extracted: Path) -> None:
    positions = slice_positions(4, 15, 6)  # the lungs of the made-up chest
    rows = table(extracted)
    assert len(rows) == 5 * len(positions)
    assert [int(row["slice_index"]) for row in rows[: len(positions)]] == positions
    row = rows[0]
    assert list(row)[:9] == [
        *("slice_id", "volume_name", "slice_index", "relative_position", "file_path"),
        *("slice_shape", "original_volume_shape", "split", "reading"),
    ]
    assert list(row)[9:] == list(LABELS)
    assert row["file_path"] == "slices/train/train_1_a_1_slice_004.npy"
    assert row["slice_id"] == "train_1_a_1_slice_004"
    assert row["volume_name"] == "train_1_a_1.nii.gz"
    assert (row["slice_shape"], row["original_volume_shape"]) == (f"({SIZE}, {SIZE})", "(20, 32, 32)")
    assert float(row["relative_position"]) == pytest.approx(4 / 19, abs=1e-6)
    assert (row["Emphysema"], row["Cardiomegaly"]) == ("1", "0")
    image = np.load(extracted / row["file_path"])
    assert (image.dtype, image.shape) == (np.float32, (SIZE, SIZE))
    assert 0 <= image.min() < 0.05
    assert 0.7 < image.max() <= 1
    assert len(table(extracted, "valid")) == len(positions)


@pytest.mark.parametrize("clahe", [False, True], ids=["plain", "clahe"])
@pytest.mark.parametrize("neighbours", [False, True], ids=["one channel", "neighbours"])
def test_slices_and_volumes_give_the_network_the_very_same(ct_dir: Path, tmp_path: Path, clahe, neighbours) -> None:
    extract(ct_dir, tmp_path / "out", clahe=clahe)
    parts = {"test": volumes(ct_dir).volumes}
    (first, *_) = volume_items(parts)["test"]
    from_volume = LoadChestCTd("image", 6, SIZE, clahe, neighbours)(first)["image"]
    assert from_volume.shape == (6, 3 if neighbours else 1, SIZE, SIZE)
    parts = {"test": extracted_slices(tmp_path / "out", 6, SIZE, clahe).volumes}
    (bag, *_) = slice_items(parts, neighbours=neighbours, num_slices=6)["test"]
    assert torch.equal(LoadChestCTd("image")(bag)["image"], from_volume)
    singles = [item for item in slice_items(parts, neighbours=neighbours)["test"] if item["case"] == bag["case"]]
    loaded = torch.stack([LoadChestCTd("image")(item)["image"] for item in singles])
    assert torch.equal(loaded, from_volume)
    assert first["case"] == bag["case"] == singles[0]["case"] == "train_1_a_1.nii.gz"


def test_the_window_and_a_whole_slice_survive_extraction(ct_dir: Path, tmp_path: Path) -> None:
    extract(ct_dir, tmp_path / "out", size=32)
    image = np.load(tmp_path / "out" / "slices" / "train" / "train_2_a_1_slice_004.npy")
    np.testing.assert_allclose(image, np.clip((GOOD[4] + 1000) / 1400, 0, 1), atol=1e-6)


def test_slices_that_are_not_square_keep_their_proportions(tmp_path: Path) -> None:
    volume = chest((12, 20, 40), (2, 9))
    path = save_ct(tmp_path / "a.nii.gz", volume)
    image = LoadChestCTd("image", 1, 40)({"image": str(path)})["image"][0, 0].numpy()
    np.testing.assert_allclose(image[10:30], np.clip((volume[7] + 1000) / 1400, 0, 1), atol=1e-6)
    assert not image[:10].any()
    assert not image[30:].any()


def test_several_processes_write_the_same(ct_dir: Path, extracted: Path, tmp_path: Path) -> None:
    (ct_dir / VOLUME).write_bytes(b"")
    problems = extract(ct_dir, tmp_path / "several", workers=2)
    assert problems == extract(ct_dir, extracted)
    assert content(tmp_path / "several") == content(extracted)


def deadly(volume: Volume, output: Path, settings: dict) -> dict:
    if volume.name == "train_2_a_1.nii.gz":
        os.kill(os.getpid(), signal.SIGKILL)
    return extraction._extract_one(volume, output, settings)


@pytest.mark.slow
def test_killed_workers_are_problems_of_their_volumes_only(ct_dir: Path, tmp_path: Path, monkeypatch) -> None:
    # In the workers, which import this file anew, it isn't replaced.
    monkeypatch.setattr(extraction, "_extract_one", deadly)
    (problem,) = extract(ct_dir, tmp_path / "out", workers=2)
    assert problem.path.endswith("train_2_a_1.nii.gz")
    assert "try fewer --workers" in problem.message
    assert len({row["volume_name"] for row in table(tmp_path / "out")}) == 4


def test_what_is_complete_and_unchanged_is_kept(ct_dir: Path, extracted: Path) -> None:
    before, everything = times(extracted), content(extracted)
    extract(ct_dir, extracted)
    assert times(extracted) == before
    damaged = extracted / "slices" / "train" / "train_2_a_1_slice_004.npy"
    damaged.write_bytes(b"half")
    extract(ct_dir, extracted)
    assert content(extracted) == everything
    changed = {name for name, time in times(extracted).items() if time != before[name]}
    assert changed
    assert all(name.startswith("train_2_a_1") for name in changed)


def test_a_changed_volume_is_extracted_again_and_old_slices_go(ct_dir: Path, extracted: Path) -> None:
    before = times(extracted)
    save_ct(ct_dir / VOLUME, chest(lungs=(10, 18)), stored_as=(1.0, -1024.0))
    extract(ct_dir, extracted)
    names = {name for name in times(extracted) if name.startswith("train_1_b_1")}
    assert names == {f"train_1_b_1_slice_{z:03d}.npy" for z in slice_positions(10, 18, 6)}
    others = {name: time for name, time in times(extracted).items() if name not in names}
    assert others.items() <= before.items()


def test_other_settings_extract_everything_again(ct_dir: Path, extracted: Path, tmp_path: Path) -> None:
    extract(ct_dir, extracted, num_slices=3)
    extract(ct_dir, tmp_path / "fresh", num_slices=3)
    assert content(extracted) == content(tmp_path / "fresh")
    with pytest.raises(ConfigError, match="extracted with num_slices=3, not num_slices=6"):
        extracted_slices(extracted, 6, SIZE)


def test_impossible_settings_touch_nothing(ct_dir: Path, extracted: Path) -> None:
    before = content(extracted)
    for settings in ({"num_slices": 0}, {"size": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            extract(ct_dir, extracted, **settings)
    assert content(extracted) == before


@pytest.mark.parametrize("fail_at", [1, 4, 9, 20, 33])
def test_stopped_anywhere_and_started_again_equals_the_undisturbed_run(
    ct_dir: Path, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    class Killed(BaseException):
        pass

    replace, calls = os.replace, []

    def stop(source, target):
        calls.append(target)
        if len(calls) > fail_at:
            # as after a kill: nothing more gets its name, and a temporary file stays
            Path(source).with_name(f".left{fail_at}.partial.npy").touch()
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(Killed):
            extract(ct_dir, tmp_path / "again", workers=1)
    with pytest.raises(DataError, match=r"has no splits/train_slices.csv"):
        extracted_slices(tmp_path / "again")
    extract(ct_dir, tmp_path / "again")
    assert content(tmp_path / "again") == content(extracted)


@pytest.mark.parametrize("written", [0, 2, 5])
def test_slices_of_the_volume_before_never_pass_for_those_of_the_new_one(
    ct_dir: Path, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    class Killed(BaseException):
        pass

    # The same lungs: the new slices have the names and sizes of the old ones.
    save_ct(ct_dir / VOLUME, np.clip(GOOD + 50, -1000, 400).astype(GOOD.dtype), stored_as=(1.0, -1024.0))
    extract(ct_dir, tmp_path / "fresh")
    before = times(extracted)
    assert times(tmp_path / "fresh").keys() == before.keys()
    assert content(tmp_path / "fresh") != content(extracted)
    replace, slices = os.replace, []

    def stop(source, target):
        if Path(target).suffix == ".npy":
            if len(slices) == written:
                raise Killed
            slices.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(Killed):
            extract(ct_dir, extracted)
    extract(ct_dir, extracted)
    assert content(extracted) == content(tmp_path / "fresh")


def test_what_another_extraction_is_writing_there_stays(ct_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with atomic_path(output / "slices" / "other.npy") as other:
        extract(ct_dir, output)
        assert other.exists()


def test_bad_volumes_are_listed_at_once_and_the_others_done(ct_dir: Path, tmp_path: Path) -> None:
    train = ct_dir / "dataset" / "train"
    (train / "train_2" / "train_2_a" / "train_2_a_1.nii.gz").write_bytes(b"")
    save_ct(ct_dir / VOLUME, stored_as=(1.0, -8192.0))
    save_ct(train / "strange.nii.gz")
    output = tmp_path / "out"
    words = ["extract-slices", "--dataset_dir", str(ct_dir), "--output", str(output), "--num_slices", "6"]
    result = CliRunner().invoke(app, [*words, "--size", str(SIZE), "--workers", "1"])
    assert result.exit_code == 1
    for name, reason in (
        ("train_2_a_1.nii.gz", "is empty"),
        ("train_1_b_1.nii.gz", "slope and intercept are missing or wrong"),
        ("strange.nii.gz", "not named as CT-RATE's"),
    ):
        assert name in result.output
        assert reason in result.output
    assert "slices of 4 volumes; 3 problems" in result.output
    assert {row["volume_name"] for row in table(output)} == {
        "train_1_a_1.nii.gz",
        "train_1_a_2.nii.gz",
        "train_10_a_1.nii.gz",
    }


def test_a_volume_that_became_unreadable_loses_its_slices(ct_dir: Path, extracted: Path) -> None:
    (ct_dir / VOLUME).write_bytes(b"")
    assert len(extract(ct_dir, extracted)) == 1
    assert not [name for name in times(extracted) if name.startswith("train_1_b_1")]
    assert "train_1_b_1.nii.gz" not in {row["volume_name"] for row in table(extracted)}


def test_the_command_exits_with_0_when_all_is_well(ct_dir: Path, tmp_path: Path) -> None:
    words = [
        "extract-slices",
        "--dataset_dir",
        str(ct_dir),
        "--output",
        str(tmp_path / "out"),
        "--size",
        "16",
        "--workers",
        "1",
    ]
    result = CliRunner().invoke(app, [*words, "--clahe"])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "extraction.json").read_text())["clahe"] is True


def test_slices_are_usable_without_their_volumes_and_after_a_move(
    ct_dir: Path, extracted: Path, tmp_path: Path
) -> None:
    index = volumes(ct_dir)
    (ct_dir / "dataset").rename(tmp_path / "gone")
    moved = extracted.rename(tmp_path / "moved")
    found = extracted_slices(moved)
    assert [(v.name, v.labels, v.patient, v.split) for v in found.volumes] == [
        (v.name, v.labels, v.patient, v.split) for v in index.volumes
    ]
    items = slice_items(splits(found, num_folds=2))
    assert set(items) == {"train", "val", "test"}
    loaded = LoadChestCTd("image")(items["test"][0])
    assert loaded["image"].shape == (1, SIZE, SIZE)


def test_a_file_beside_the_slices_that_no_table_lists_is_noted(extracted: Path) -> None:
    assert inference_items(extracted).left_out == []
    stray = extracted / "slices" / "train" / "train_9_a_1_slice_004.npy"
    np.save(stray, np.zeros((SIZE, SIZE), np.float32))
    note = f"{extracted}: 1 entry is not used (slices/train/{stray.name}): in no table of slices"
    assert inference_items(extracted).left_out == [note]
    assert note in map(str, check(extracted, slices_dir=extracted))
    assert note in splits(extracted_slices(extracted), num_folds=2).left_out


def test_a_first_slice_of_another_shape_is_the_only_one_named(extracted: Path) -> None:
    items = slice_items({"train": extracted_slices(extracted).volumes}, num_slices=6)["train"]
    first = items[0]["image"][0][0]
    np.save(first, np.zeros((SIZE, 7), np.float32))
    with pytest.raises(DataError, match="of its volume 5 others have") as caught:
        LoadChestCTd("image")(items[0])
    assert str(caught.value.path) == first
    errors = [one for one in check(extracted, slices_dir=extracted) if one.severity == "error"]
    assert [one.path for one in errors] == [first]


def test_damaged_tables_and_slices_are_named(extracted: Path) -> None:
    items = slice_items({"train": extracted_slices(extracted).volumes}, num_slices=6)["train"]
    path = Path(items[0]["image"][1][0])
    for damaged, message in (
        (np.full((SIZE, SIZE), -800, np.float32), "goes from -800 to -800, expected 0 to 1"),
        (np.full((SIZE, SIZE), np.nan, np.float32), "expected 0 to 1"),
        (np.zeros((SIZE, SIZE, 1), np.float32), "expected one 2-D array"),
        (np.zeros((SIZE, 7), np.float32), r"has shape \(24, 7\), but of its volume 5 others have"),
    ):
        np.save(path, damaged)
        with pytest.raises(DataError, match=message) as caught:
            LoadChestCTd("image")(items[0])
        assert caught.value.path == path
    path.write_bytes(b"")
    with pytest.raises(DataError, match="not a readable numpy array"):
        LoadChestCTd("image")(items[0])
    path.unlink()
    with pytest.raises(DataError, match="file not found; extract the slices again"):
        LoadChestCTd("image")(items[0])

    rows = table(extracted)
    write_table(extracted / "splits" / "train_slices.csv", [{**rows[0], "Emphysema": "?"}, *rows[1:]])
    with pytest.raises(DataError, match=r"train_slices.csv: 'train_1_a_1_slice_004' has labels other than 0 and 1"):
        extracted_slices(extracted)
    write_table(extracted / "splits" / "train_slices.csv", [{**rows[0], "Emphysema": "0"}, *rows[1:]])
    with pytest.raises(DataError, match="have different labels"):
        extracted_slices(extracted)


def test_a_prepared_dataset_caches_volumes_and_notices_new_metadata(ct_dir: Path, tmp_path: Path) -> None:
    def dataset() -> PreparedDataset:
        items = volume_items({"all": volumes(ct_dir).volumes}, ["Lung nodule", "Emphysema"])["all"]
        return PreparedDataset(items, [LoadChestCTd("image", 4, SIZE)], tmp_path / "cache")

    item = dataset()[2]
    assert item["image"].shape == (4, 1, SIZE, SIZE)
    assert torch.equal(item["label"], torch.tensor([1.0, 1.0]))
    assert item["case"] == "train_1_b_1.nii.gz"
    assert dataset().cache_file(2).is_file()
    assert dataset()[2]["reading"] == item["reading"] == "metadata table (slope 1, intercept -1024)"
    rows = [metadata_row(name, RescaleIntercept=-1000) for name in NAMES if name.startswith("train")]
    write_table(ct_dir / "dataset" / "metadata" / "train_metadata.csv", rows)
    assert not dataset().cache_file(2).is_file()
    assert dataset()[2]["reading"] == "metadata table (slope 1, intercept -1000)"


def test_tables_of_slices_say_how_volumes_were_read_and_older_ones_need_not(extracted: Path) -> None:
    assert {volume.reading for volume in extracted_slices(extracted).volumes} == {
        "metadata table (slope 1, intercept -1024)"
    }
    rows = table(extracted)
    write_table(
        extracted / "splits" / "train_slices.csv", [{k: v for k, v in r.items() if k != "reading"} for r in rows]
    )
    assert "reading" not in slice_items({"all": extracted_slices(extracted).volumes})["all"][0]


@pytest.mark.parametrize("source", ["slices", "slices together", "volumes"])
def test_a_changed_file_is_another_item_of_the_cache(
    ct_dir: Path, extracted: Path, tmp_path: Path, source: str
) -> None:
    def dataset() -> tuple[PreparedDataset, str]:
        if source == "volumes":
            items = volume_items({"all": volumes(ct_dir).volumes})["all"]
            return PreparedDataset(items, [LoadChestCTd("image", 4, SIZE)], tmp_path / "cache"), items[0]["image"]
        together = 6 if source == "slices together" else None
        items = slice_items({"all": extracted_slices(extracted).volumes}, num_slices=together)["all"]
        first = items[0]["image"][0]
        path = first if isinstance(first, str) else first[0]
        return PreparedDataset(items, [LoadChestCTd("image")], tmp_path / "cache"), path

    before, path = dataset()
    assert before.cache_file(0) == dataset()[0].cache_file(0)
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # other content of the same size
    assert before.cache_file(0) != dataset()[0].cache_file(0)


@pytest.mark.parametrize("source", ["slices", "slices together", "volumes"])
def test_batches_hold_what_training_needs(ct_dir: Path, extracted: Path, source: str) -> None:
    together = None if source == "slices" else 6
    if source == "volumes":
        items = volume_items({"train": volumes(ct_dir).volumes})["train"]
    else:
        items = slice_items({"train": extracted_slices(extracted).volumes}, num_slices=together)["train"]
    dataset = PreparedDataset(items, [LoadChestCTd("image", 6, SIZE), RandAugmentSlicesd("image")])
    batch = next(iter(SeededLoader(dataset, batch_size=2, seed=1, shuffle=True)))
    assert batch["image"].shape == (2, *([6] if together else []), 1, SIZE, SIZE)
    assert batch["label"].shape == (2, len(LABELS))
    assert batch["label"].dtype == batch["image"].dtype == torch.float32
    assert {*batch["case"]} <= {item["case"] for item in items}
    assert ("slice" in batch) == (source == "slices")


def test_a_chest_with_few_slices_shows_some_twice(tmp_path: Path) -> None:
    path = save_ct(tmp_path / "a.nii.gz", chest((8, 16, 16), (3, 5)))
    image = LoadChestCTd("image", 12, 16)({"image": str(path)})["image"]
    assert image.shape == (12, 1, 16, 16)
    assert len({one.numpy().tobytes() for one in image}) == 3


def test_each_record_says_how_its_volume_was_read_and_what_is_doubtful(ct_dir: Path, tmp_path: Path) -> None:
    save_ct(ct_dir / VOLUME)  # Hounsfield units already, as in CT-RATE's version 2
    save_ct(ct_dir / "dataset/train/train_2/train_2_a/train_2_a_1.nii.gz", chest(lungs=(30, 31)))
    extract(ct_dir, tmp_path / "out")
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out/records/train").iterdir()}
    assert records["train_1_b_1"]["reading"] == "stored values"
    assert records["train_1_a_1"]["reading"] == "metadata table (slope 1, intercept -1024)"
    assert records["train_1_a_1"]["doubt"] == ""
    assert records["train_2_a_1"]["doubt"].startswith("shows no lungs")
    slices = [np.load(path) for path in sorted((tmp_path / "out/slices/train").glob("train_1_[ab]_1_*"))]
    first, second = slices[: len(slices) // 2], slices[len(slices) // 2 :]
    np.testing.assert_array_equal(first, second)


def test_slices_of_an_earlier_version_are_extracted_again(ct_dir: Path, extracted: Path) -> None:
    """They may be of volumes whose table was believed though they held Hounsfield units already."""
    everything, before = content(extracted), times(extracted)
    for file in (extracted / "records").rglob("*.json"):
        record = json.loads(file.read_text())
        record["made_from"]["format"] = 1
        file.write_text(json.dumps(record))
    extract(ct_dir, extracted)
    assert all(time != before[name] for name, time in times(extracted).items())
    assert content(extracted) == everything


def test_a_volume_without_gz_becomes_the_same_slices(ct_dir: Path, extracted: Path) -> None:
    everything = content(extracted)
    (ct_dir / VOLUME).unlink()
    save_ct((ct_dir / VOLUME).with_suffix(""), stored_as=(1.0, -1024.0))
    extract(ct_dir, extracted)
    changed = {name for name, value in content(extracted).items() if everything.get(name) != value}
    assert changed == {"records/train/train_1_b_1.json"}  # the stamp
