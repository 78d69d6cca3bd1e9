from __future__ import annotations

from pathlib import Path

import pytest
from ct_helpers import write_table

from monai_ext import ct_rate
from monai_ext.ct_rate import LoadChestCTd, View, decoding, levels
from monai_ext.errors import ConfigError, DataError


@pytest.fixture
def slices_dir(ct_dir: Path, tmp_path: Path) -> Path:
    ct_rate.extract_slices(ct_rate.volumes(ct_dir), tmp_path / "slices", num_slices=4, size=16, workers=0)
    return tmp_path / "slices"


def small(architecture: str, in_channels: int = 1) -> View:
    return View(architecture, in_channels, num_slices=4, slice_size=16)


def items_of(view: View, **settings: object) -> list[dict]:
    index = view.index(**settings)
    return view.items({"all": index.volumes})["all"]


@pytest.mark.parametrize("in_channels", [1, 3])
def test_items_of_volumes_and_of_slices_load_to_the_shape_that_is_told(
    ct_dir: Path, slices_dir: Path, in_channels: int
) -> None:
    view = small("volume", in_channels)
    load = LoadChestCTd("image", view.slices_read, 16, neighbours=view.neighbours)
    volumes, slices = items_of(view, dataset_dir=ct_dir), items_of(view, slices_dir=slices_dir)
    assert [item["case"] for item in volumes] == [item["case"] for item in slices]
    for a, b in zip(volumes, slices, strict=True):
        assert load(a)["image"].shape == view.input_shape
        assert (load(a)["image"] == load(b)["image"]).all()
        assert (a["label"] == b["label"]).all()


def test_single_slices_are_parts_of_volumes(slices_dir: Path) -> None:
    view = small("slice")
    items = items_of(view, slices_dir=slices_dir)
    assert len(items) > len({item["case"] for item in items}) == 6
    assert LoadChestCTd("image")(items[0])["image"].shape == view.input_shape
    assert levels(items) == {"cases": "volumes", "parts": "slices", "part_columns": ["slice"]}


def test_volumes_have_no_parts(ct_dir: Path) -> None:
    items = items_of(small("densenet3d"), dataset_dir=ct_dir)
    assert levels(items) == levels([]) == {"cases": None, "parts": None, "part_columns": []}


@pytest.mark.parametrize(
    ("architecture", "in_channels", "message"),
    [("unet", 1, "--architecture unet"), ("volume", 2, "must be 1 or 3"), ("resnet3d", 3, "must be 1 for")],
    ids=["unknown", "two-channels", "colours-of-a-volume"],
)
def test_impossible_views_are_refused(architecture: str, in_channels: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        View(architecture, in_channels)


def test_slices_and_volumes_are_refused_where_they_do_not_fit(ct_dir: Path, slices_dir: Path) -> None:
    with pytest.raises(ConfigError, match="extract-slices"):
        small("slice").index(dataset_dir=ct_dir)
    with pytest.raises(ConfigError, match="takes whole volumes"):
        small("resnet3d").index(slices_dir)
    with pytest.raises(ConfigError, match="takes whole volumes"):
        small("resnet3d").inference_items(slices_dir)
    with pytest.raises(ConfigError, match="num_slices=4"):
        View("volume", num_slices=5, slice_size=16).index(slices_dir)


def test_a_label_table_without_a_column_or_a_row_is_an_error(ct_dir: Path) -> None:
    table = ct_dir / "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="no row"):
        small("volume").index(dataset_dir=ct_dir)
    write_table(table, [{"VolumeName": "train_1_a_1.nii.gz", "Emphysema": 1}])
    with pytest.raises(DataError, match="lacks"):
        small("volume").index(dataset_dir=ct_dir)


def damage(path: Path, kind: str) -> Path:
    content = bytearray(path.read_bytes())
    if kind == "checksum":
        content[-8] ^= 0xFF
    path.write_bytes(content[: -len(content) // 3] if kind == "truncated" else content)
    return path


@pytest.mark.parametrize("kind", ["truncated", "checksum"])
def test_skipping_covers_volumes_that_fail_while_decoding(ct_dir: Path, tmp_path: Path, kind: str) -> None:
    bad = damage(ct_dir / "dataset/train/train_2/train_2_a/train_2_a_1.nii.gz", kind)
    view = small("volume")
    assert len(view.index(dataset_dir=ct_dir).volumes) == 6  # "error" decodes nothing at the start
    for _ in range(2):  # the second time from the memory
        index = view.index(dataset_dir=ct_dir, index_dir=tmp_path, on_bad_volume="skip")
        assert "train_2_a_1.nii.gz" not in {volume.name for volume in index.volumes}
        assert len(index.volumes) == 5
    (told,) = view.items(ct_rate.splits(index, num_folds=2)).left_out
    assert told.startswith(f"{bad}: ")


def test_good_volumes_are_decoded_once(ct_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda volume: read.append(volume.name) or decode(volume))
    for expected in (6, 6):
        small("volume").index(dataset_dir=ct_dir, index_dir=tmp_path, on_bad_volume="skip")
        assert len(read) == expected


@pytest.mark.parametrize("kind", ["damaged", "missing", "first missing"])
def test_skipping_covers_extracted_slices(slices_dir: Path, kind: str) -> None:
    files = sorted((slices_dir / "slices/train").glob("train_2_a_1_slice_*.npy"))
    bad = files[0 if kind == "first missing" else 2]
    if kind == "damaged":
        bad.write_bytes(bad.read_bytes()[:-100])
    else:
        bad.unlink()
    index = small("slice").index(slices_dir, on_bad_volume="skip")
    assert "train_2_a_1.nii.gz" not in {volume.name for volume in index.volumes}
    assert [problem.path for problem in index.problems] == [str(bad)]
    (problem,) = [one for one in ct_rate.check(slices_dir, slices_dir=slices_dir) if one.severity == "error"]
    assert problem.path == str(bad)


def test_nothing_that_can_be_decoded_is_an_error(ct_dir: Path) -> None:
    for file in ct_dir.rglob("*.nii.gz"):
        damage(file, "truncated")
    with pytest.raises(DataError, match="none of 6 volumes can be decoded"):
        small("volume").index(dataset_dir=ct_dir, on_bad_volume="skip")
