from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_ext import nuclei
from monai_ext.errors import ConfigError, DataError
from monai_ext.nuclei import demo

SMALL = demo.SIZES["small"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo") / "nuclei", counts=(6, 6, 6, 6, 2))


def test_files_look_like_the_real_layout(dataset: Path) -> None:
    assert nuclei.check(dataset) == []
    with open(dataset / "classes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample_id"] for row in rows] == [f"{number:04d}" for number in range(1, 27)]
    assert {int(row["class_id"]): row["class_name"] for row in rows} == demo.NAMES
    assert sorted(path.name for path in dataset.iterdir() if path.is_file()) == ["classes.csv", "demo.json"]
    raw, mask = (sorted(path.name for path in (dataset / "0001" / name).iterdir()) for name in ("raw", "mask"))
    assert raw == mask
    assert raw[0] == "slice_0001.tif"


def test_stacks_have_the_variety_of_real_ones(dataset: Path) -> None:
    samples = nuclei.index(dataset, crop_size=48, use_mask=True).samples
    assert {sample.image.dtype for sample in samples} == {"|u1", "<u2"}
    assert {sample.image.offsets is None for sample in samples} == {True, False}
    plain = [sample for sample in samples if sample.image.dtype == "|u1" and sample.image.offsets]
    assert len(plain) > len(samples) / 2
    lengths = sorted({length for sample in samples for length in sample.image.shape})
    assert lengths[0] >= 44
    assert lengths[-1] == 96
    assert lengths[-2] <= 60
    assert {len(sample.crops) for sample in samples} >= {1, 2}
    for sample in samples[:3]:
        assert sample.mask is not None
        inside = sample.mask.read((0, 0, 0), sample.mask.shape)
        assert set(np.unique(inside)) == {0, 255}
        assert 0.2 < (inside > 0).mean() < 0.5


def test_same_seed_gives_the_same_bytes_and_is_kept(tmp_path: Path) -> None:
    counts = (1, 0, 1, 0, 0)
    first, second = (demo.make_demo(tmp_path / name, counts=counts) for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 2 * 44 * 2
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    stamp = (first / files[0]).stat().st_mtime_ns
    demo.make_demo(first, counts=counts)
    assert (first / files[0]).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="exists already and is not this demo"):
        demo.make_demo(first, seed=1, counts=counts)


def test_killed_generator_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args):
        raise KeyboardInterrupt

    output = tmp_path / "nuclei"
    output.mkdir()
    monkeypatch.setattr(demo, "write_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo(output, counts=(1, 1, 0, 0, 0))
    with pytest.raises(DataError, match="demo-data nuclei_vgg3d"):
        nuclei.index(output)
    monkeypatch.undo()
    demo.make_demo(output, counts=(1, 1, 0, 0, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["nuclei"]
    assert len(nuclei.index(output).samples) == 2


def test_wrong_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'huge'"):
        demo.make_demo(tmp_path, size="huge")
    with pytest.raises(ConfigError, match="5 numbers"):
        demo.make_demo(tmp_path, counts=(1, 2))


def test_real_size_is_real() -> None:
    assert (demo.SIZES["full"].axis, demo.SIZES["full"].long_axis) == ((160, 240), 240)


def twins(seed: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    return {number: demo.make_nucleus(np.random.default_rng(seed), number, SMALL) for number in (1, 2, 4, 5)}


def test_classes_share_everything_but_the_texture() -> None:
    """Twins drawn from the same random numbers: same outline, brightness and contrast."""
    for seed in range(3):
        nuclei_of = twins(seed)
        masks = [mask for _, mask in nuclei_of.values()]
        assert all(np.array_equal(mask, masks[0]) for mask in masks)
        voxels = [image[mask] for image, mask in nuclei_of.values()]
        assert np.ptp([inside.mean() for inside in voxels]) < 0.5
        assert np.ptp([inside.std() for inside in voxels]) < 1.5


def features(image: np.ndarray, mask: np.ndarray) -> tuple[list[float], list[float]]:
    """Brightness; and texture by its correlation with itself a few voxels away, which a small network sees, too."""
    box = tuple(slice(length // 2 - 16, length // 2 + 16) for length in image.shape)
    crop = image[box] - image[box].mean()
    near = [float((crop[step:] * crop[:-step]).mean() / crop.var()) for step in (1, 2, 4)]
    return [float(image[mask].mean()), float(image.mean())], [*near, float((crop**3).mean() / crop.std() ** 3)]


def test_texture_tells_classes_apart_and_brightness_does_not() -> None:
    labels = [number for _ in range(15) for number in (1, 2, 4, 5)]
    pairs = [features(*demo.make_nucleus(np.random.default_rng(i), n, SMALL)) for i, n in enumerate(labels)]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=2000))
    scores = [cross_val_score(model, np.array(side), labels, cv=5).mean() for side in zip(*pairs, strict=True)]
    assert scores[0] < 0.45  # of four classes
    assert scores[1] > 0.8


def test_file_types_do_not_depend_on_the_class(tmp_path: Path) -> None:
    """The generator of the file type is seeded by the sample's number alone."""
    counts = {"a": (2, 0, 0, 0, 0), "b": (0, 2, 0, 0, 0)}
    folders = [demo.make_demo(tmp_path / name, counts=of) for name, of in counts.items()]
    for case in ("0001", "0002"):
        kinds = []
        for folder in folders:
            with tifffile.TiffFile(folder / case / "raw" / "slice_0001.tif") as file:
                kinds.append((file.pages.first.dtype, file.pages.first.compression))
        assert kinds[0] == kinds[1]
