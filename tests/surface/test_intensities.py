from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from monai_ext.errors import ConfigError, DataError
from monai_ext.surface import intensities, intensity


def places(folder: Path) -> dict[str, str]:
    return {"input": str(folder / "input.zarr"), "ref_label": str(folder / "sheet.zarr")}


def direct(*contents: dict[str, np.ndarray]) -> dict[str, float]:
    """The definition."""
    values = np.concatenate([content["input"][content["sheet"] != 0] for content in contents]).astype(np.float64)
    lower, upper = np.percentile(values, [0.5, 99.5])
    return {"lower": lower, "upper": upper, "mean": values.mean(), "std": values.std()}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_equals_numpy_over_all_sets(tmp_path, save_set, dtype) -> None:
    rng = np.random.default_rng(0)
    images = [(rng.normal(100, 20, (24, 32, 40)).clip(1, 250)).astype(dtype) for _ in range(2)]
    contents = [save_set(tmp_path / str(number), number, input=image) for number, image in enumerate(images)]
    file = tmp_path / "new" / "intensity.json"
    found = intensity([places(tmp_path / "0"), places(tmp_path / "1")], "ct", file)
    assert found == pytest.approx(direct(*contents))
    assert json.loads(file.read_text()) == found


def test_negative_integers_count(tmp_path, save_set) -> None:
    content = save_set(tmp_path, input=np.random.default_rng(0).integers(-1000, 1000, (24, 32, 40)).astype(np.int16))
    assert intensity([places(tmp_path)], "ct", tmp_path / "i.json") == pytest.approx(direct(content))


def test_samples_of_floats_are_bounded_seeded_and_close(tmp_path, save_set, monkeypatch) -> None:
    monkeypatch.setattr(intensities, "_SAMPLE", 4000)
    image = np.random.default_rng(0).normal(100, 20, (24, 32, 40)).astype(np.float32)
    content = save_set(tmp_path, input=image)
    found = [intensity([places(tmp_path)], "ct", tmp_path / f"{number}.json") for number in range(2)]
    assert found[0] == found[1] != pytest.approx(direct(content))
    assert found[0]["mean"] == pytest.approx(direct(content)["mean"], abs=1)
    assert found[0]["std"] == pytest.approx(direct(content)["std"], abs=1)


def test_changed_data_are_measured_again(tmp_path, save_set, caplog) -> None:
    save_set(tmp_path)
    first = intensity([places(tmp_path)], "ct", tmp_path / "i.json")
    assert intensity([places(tmp_path)], "ct", tmp_path / "i.json") == first
    assert not caplog.text
    zarr.open_array(tmp_path / "input.zarr", mode="r+")[:8] = 7
    assert intensity([places(tmp_path)], "ct", tmp_path / "i.json") != first
    assert "volumes changed; intensities are measured again" in caplog.text


def test_a_z_score_needs_no_measuring(tmp_path) -> None:
    assert intensity([{"input": "nowhere"}], "zscore", tmp_path / "i.json") is None
    assert not (tmp_path / "i.json").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        pytest.param({"sheet": np.zeros((24, 32, 40), np.uint8)}, r"sheet\.zarr: no voxel is labelled", id="empty"),
        pytest.param(
            {"input": np.full((24, 32, 40), np.nan)},
            r"input\.zarr: labelled voxels in the block at .* are NaN",
            id="NaN",
        ),
        pytest.param({"input": np.full((24, 32, 40), 7)}, r"input\.zarr: all labelled .* the value 7", id="flat"),
    ],
)
def test_data_that_give_no_figures_are_named(tmp_path, save_set, arrays, words) -> None:
    save_set(tmp_path, **arrays)
    with pytest.raises(DataError, match=words):
        intensity([places(tmp_path)], "ct", tmp_path / "i.json")
    assert not (tmp_path / "i.json").exists()


def test_a_damaged_chunk_is_named(tmp_path, save_set) -> None:
    save_set(tmp_path)
    (tmp_path / "input.zarr" / "c" / "1" / "0" / "0").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"input\.zarr: the block at \(8, 0, 0\) can't be read"):
        intensity([places(tmp_path)], "ct", tmp_path / "i.json")


def test_other_schemes_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"scheme must be one of \('ct', 'zscore'\), got 'minmax'"):
        intensity([], "minmax", tmp_path / "i.json")
