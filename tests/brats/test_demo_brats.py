from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from monai_ext import brats
from monai_ext.brats import demo
from monai_ext.errors import ConfigError, DataError

GEOMETRY = demo.SIZES["small"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.make_demo(tmp_path_factory.mktemp("demo"), counts=(1, 2))


def test_files_look_like_brats(dataset: Path) -> None:
    items = brats.find_subjects(dataset, "all")
    assert [item["label"] for item in items].count(1) == 2
    assert brats.check(dataset) == [
        problem for problem in brats.check(dataset) if "too few for 5 folds" in problem.message
    ]
    images = [nib.load(path) for path in items[0]["image"]]
    assert {image.shape for image in images} == {(80, 80, 52)}
    assert {image.get_data_dtype() for image in images} == {np.dtype(np.int16)}
    assert nib.aff2axcodes(images[0].affine) == ("L", "P", "S")
    np.testing.assert_allclose(images[0].header.get_zooms(), 3.0)
    brain = [np.asarray(image.dataobj) > 0 for image in images]
    assert all(np.array_equal(mask, brain[0]) for mask in brain)
    assert 0.1 < brain[0].mean() < 0.3


def test_same_seed_gives_the_same_bytes_and_is_kept(dataset: Path, tmp_path: Path) -> None:
    again = demo.make_demo(tmp_path / "again", counts=(1, 2))
    files = sorted(path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file())
    assert len(files) == 3 * 5 + 1
    assert all((dataset / file).read_bytes() == (again / file).read_bytes() for file in files)

    stamp = (again / files[0]).stat().st_mtime_ns
    demo.make_demo(again, counts=(1, 2))
    assert (again / files[0]).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="exists already and is not this demo"):
        demo.make_demo(again, seed=1, counts=(1, 2))


def test_killed_generator_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = demo.make_subject

    def stop_at_second(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(demo, "make_subject", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        demo.make_demo(tmp_path, counts=(1, 1))
    with pytest.raises(DataError, match="demo-data"):
        brats.find_subjects(tmp_path)
    monkeypatch.undo()
    demo.make_demo(tmp_path, counts=(1, 1))
    assert len(brats.find_subjects(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [demo.FOLDER]


def test_unknown_size_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'huge'"):
        demo.make_demo(tmp_path, size="huge")


def test_grades_share_everything_but_the_inside_of_the_lesion() -> None:
    """Twins drawn from the same random numbers: same outlines, same means, other texture."""
    for seed in range(4):
        low, high = (demo.make_subject(np.random.default_rng(seed), label, GEOMETRY) for label in (0, 1))
        lesion = low["seg"] > 0
        assert np.array_equal(lesion, high["seg"] > 0)
        assert set(np.unique(low["seg"])) == {0, 1, 2}
        assert set(np.unique(high["seg"])) == {0, 1, 2, 4}
        core = low["seg"] == 1
        for modality in demo.CONTRASTS:
            a, b = low[modality].astype(float), high[modality].astype(float)
            assert np.array_equal(a[~lesion], b[~lesion])
            assert abs(a[lesion].mean() - b[lesion].mean()) < 0.01 * a[lesion].mean()
            assert b[core].std() > 3 * a[core].std()


@pytest.mark.slow
def test_means_and_volumes_of_the_default_demo_do_not_tell_the_grade() -> None:
    features: dict[str, list[float]] = {}
    labels = np.random.default_rng(0).permutation([0] * 16 + [1] * 44)
    for number, label in enumerate(labels, start=1):
        subject = demo.make_subject(np.random.default_rng([0, number]), int(label), GEOMETRY)
        lesion, image = subject["seg"] > 0, subject["flair"]
        values = (image > 0).sum(), lesion.sum(), image[image > 0].mean(), image[lesion].mean()
        for name, value in zip(("brain volume", "lesion volume", "brain mean", "lesion mean"), values, strict=True):
            features.setdefault(name, []).append(float(value))
    # the standard error of an AUC of .5 is .085 with 16 against 44
    for name, feature in features.items():
        assert 0.3 < roc_auc_score(labels, feature) < 0.7, name
