from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    CropForegroundd,
    Lambdad,
    NormalizeIntensityd,
    RandFlipd,
    Resized,
    ScaleIntensityd,
    Transform,
)

from monai_ext import brats
from monai_ext.data.prepared import PreparedDataset, plain_settings, prepare
from monai_ext.errors import DataError
from monai_ext.transforms import LoadVolumed, is_nonzero


def steps(size: int = 4) -> list:
    return [
        LoadVolumed("image"),
        NormalizeIntensityd("image", nonzero=True),
        CropForegroundd("image", "image", select_fn=is_nonzero),
        Resized("image", (size,) * 3, mode="trilinear"),
    ]


@pytest.fixture
def items(tmp_path: Path, save_volume) -> list[dict]:
    generator = np.random.default_rng(0)
    for case in ("a", "b", "c"):
        save_volume(tmp_path / "in" / f"{case}.nii.gz", generator.integers(1, 99, (6, 6, 6)).astype(np.int16))
    return [{**item, "label": 1} for item in brats.inference_items(tmp_path / "in")]


def test_item_is_plain_whether_computed_or_cached(items: list[dict], tmp_path: Path) -> None:
    dataset = PreparedDataset(items, steps(), tmp_path / "cache")
    computed, cached = dataset[0], dataset[0]
    for item in (computed, cached):
        assert type(item["image"]) is torch.Tensor
        assert item["image"].dtype == torch.float32
        assert item["image"].is_contiguous()
        assert item["image"].shape == (1, 4, 4, 4)
        assert (item["label"], item["case"]) == (1, "a")
        assert all(isinstance(value, torch.Tensor | int | float | str) for value in item.values())
    assert torch.equal(computed["image"], cached["image"])
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=3)))
    assert batch["label"].dtype == torch.int64
    (file,) = (tmp_path / "cache").glob("a-*.pt")
    assert file.stat().st_size < 10_000


def test_second_run_reads_the_cache_only(items: list[dict], tmp_path: Path) -> None:
    first = [item["image"] for item in PreparedDataset(items, steps(), tmp_path / "cache")]
    for item in items:
        Path(item["image"]).unlink()
    second = [item["image"] for item in PreparedDataset(items, steps(), tmp_path / "cache")]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_a_cache_nothing_is_written(items: list[dict], tmp_path: Path) -> None:
    assert PreparedDataset(items, steps(), None)[0]["image"].shape == (1, 4, 4, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_changed_data_and_changed_settings_are_prepared_anew(items: list[dict], tmp_path: Path, save_volume) -> None:
    before = PreparedDataset(items, steps(), tmp_path / "cache")[0]["image"]
    assert PreparedDataset(items, steps(5), tmp_path / "cache")[0]["image"].shape == (1, 5, 5, 5)
    save_volume(Path(items[0]["image"]), np.arange(1, 217, dtype=np.int16).reshape(6, 6, 6))
    changed = [{**item, "label": 1} for item in brats.inference_items(tmp_path / "in")]
    after = PreparedDataset(changed, steps(), tmp_path / "cache")[0]["image"]
    assert not torch.equal(before, after)


def test_a_cached_item_belongs_to_the_patient_that_the_list_names_now(items: list[dict], tmp_path: Path) -> None:
    def patients(named: list[dict]) -> list:
        dataset = PreparedDataset(named, steps(), tmp_path / "cache")
        return [dataset[index].get("patient") for index in range(len(named))]

    unnamed = [{name: value for name, value in item.items() if name != "patient"} for item in items]
    assert patients(unnamed) == [None, None, None]
    assert patients([{**item, "patient": "one"} for item in unnamed]) == ["one", "one", "one"]
    assert patients([{**item, "patient": "two"} for item in unnamed]) == ["two", "two", "two"]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_random_transforms_run_after_the_cache_and_do_not_change_its_key(items: list[dict], tmp_path: Path) -> None:
    plain = PreparedDataset(items, steps(), tmp_path / "cache")
    augmented = PreparedDataset(items, Compose([Compose(steps()), RandFlipd("image", prob=1.0)]), tmp_path / "cache")
    assert plain.cache_file(0) == augmented.cache_file(0)
    # one axis chosen at random or all: a flip of everything keeps the values and moves them
    assert torch.equal(augmented[0]["image"], plain[0]["image"].flip(1, 2, 3))


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_damaged_cache_files_are_recomputed_with_a_warning(
    items: list[dict], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = PreparedDataset(items, steps(), tmp_path / "cache")
    good = dataset[0]["image"]
    file = dataset.cache_file(0)
    content = bytearray(file.read_bytes())
    where = content.find(good.numpy().tobytes())
    assert where > 0
    content[where + 5] ^= 0xFF
    file.write_bytes({"truncate": content[:300], "flip": content, "empty": b"", "text": b"hello"}[damage])
    with caplog.at_level(logging.WARNING):
        assert torch.equal(dataset[0]["image"], good)
    assert "is damaged" in caplog.text
    caplog.clear()
    assert torch.equal(dataset[0]["image"], good)
    assert not caplog.text


def test_pickled_code_in_a_cache_file_is_not_run(items: list[dict], tmp_path: Path) -> None:
    dataset = PreparedDataset(items, steps(), tmp_path / "cache")

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save(Bomb(), dataset.cache_file(0))
    assert dataset[0]["image"].shape == (1, 4, 4, 4)
    assert not (tmp_path / "pwned").exists()


def test_failures_name_the_file_and_the_root_cause(items: list[dict]) -> None:
    def fail(image):
        raise ZeroDivisionError("no tissue")

    with pytest.raises(DataError, match=r"b\.nii\.gz: could not be prepared \(ZeroDivisionError: no tissue\)"):
        PreparedDataset(items, [LoadVolumed("image"), Lambdad("image", fail)], None)[1]
    Path(items[1]["image"]).write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.nii\.gz: is empty"):
        PreparedDataset(items, steps(), None)[1]


def test_failed_write_leaves_no_cache_file(items: list[dict], tmp_path: Path, monkeypatch) -> None:
    def full(content, file):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    dataset = PreparedDataset(items, steps(), tmp_path / "cache")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .*a-.*No space left"):
        dataset[0]
    assert list((tmp_path / "cache").iterdir()) == []


def test_unusable_cache_folder_is_an_error(items: list[dict], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cache_dir must be a directory"):
        PreparedDataset(items, steps(), tmp_path / "file")


def test_prepare_fills_the_cache_once_and_goes_on_after_a_stop(items: list[dict], tmp_path: Path) -> None:
    dataset = PreparedDataset(items, steps(), tmp_path / "cache")
    dataset.prepare_item(1)
    assert prepare(dataset, workers=1) == 2
    assert prepare(dataset, workers=1) == 0
    with pytest.raises(DataError, match="no cache_dir"):
        prepare(PreparedDataset(items, steps(), None))


def test_prepare_lists_all_failures_at_the_end(items: list[dict], tmp_path: Path) -> None:
    for item in items[:2]:
        Path(item["image"]).write_bytes(b"x")
    dataset = PreparedDataset(items, steps(), tmp_path / "cache")
    with pytest.raises(DataError, match=r"(?s)2 of 3 cases could not be prepared:\n.*a\.nii\.gz.*\n.*b\.nii\.gz"):
        prepare(dataset, workers=1)
    assert dataset.cache_file(2).is_file()


@pytest.mark.slow
def test_prepare_in_worker_processes_gives_the_same_files(items: list[dict], tmp_path: Path) -> None:
    alone = PreparedDataset(items, steps(), tmp_path / "one")
    many = PreparedDataset(items, steps(), tmp_path / "two")
    prepare(alone, workers=1)
    assert prepare(many, workers=2) == 3
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())
    assert all(torch.equal(alone[i]["image"], many[i]["image"]) for i in range(3))
    Path(items[0]["image"]).write_bytes(b"")
    Path(items[1]["image"]).write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 3 cases(?s:.*)a\.nii\.gz: is empty"):
        prepare(PreparedDataset(items, steps(), tmp_path / "three"), workers=2)


class Deadly(Transform):
    def __call__(self, data):
        if data["case"] == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return data


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_case_only(items: list[dict], tmp_path: Path) -> None:
    dataset = PreparedDataset(items, [Deadly(), *steps()], tmp_path / "cache")
    with pytest.raises(DataError, match=r"1 of 3 cases could not be prepared:\nb: its worker process was killed; try"):
        prepare(dataset, workers=2)
    assert [dataset.cache_file(index).is_file() for index in range(3)] == [True, False, True]


def test_description_holds_settings_but_no_addresses() -> None:
    text = str([plain_settings(step) for step in steps()])
    assert "0x" not in text
    assert "is_nonzero" in text
    assert text == str([plain_settings(step) for step in steps()])
    assert plain_settings(ScaleIntensityd("image", maxv=1.0)) != plain_settings(ScaleIntensityd("image", maxv=2.0))
    assert plain_settings({"b", "a"}) == ["a", "b"]
    assert plain_settings(np.zeros(2)) != plain_settings(np.ones(2))


@pytest.mark.slow
def test_cache_key_is_the_same_in_every_process() -> None:
    program = (
        "from monai.transforms import CropForegroundd, NormalizeIntensityd\n"
        "from monai_ext.data.prepared import PreparedDataset\n"
        "from monai_ext.transforms import LoadVolumed, is_nonzero\n"
        "t = [LoadVolumed(['image', 'x']), NormalizeIntensityd('image'),"
        " CropForegroundd('image', 'image', select_fn=is_nonzero)]\n"
        "print(PreparedDataset([{'case': 'a', 'image': 'a.nii'}], t).transform_hash)"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


def test_data_sets_with_different_ends_share_what_is_cached(tmp_path: Path) -> None:
    def dataset(*ends):
        seen.clear()
        return PreparedDataset([{"case": "a", "image": 1.0}], [Add(), *ends], tmp_path, cached=1)

    seen: list[float] = []

    class Add(Transform):
        def __call__(self, data):
            seen.append(data["image"])
            return {**data, "image": data["image"] + 1}

    assert dataset()[0]["image"] == 2
    assert len(seen) == 1
    assert dataset(Lambdad("image", lambda value: 10 * value))[0]["image"] == 20
    assert seen == []
