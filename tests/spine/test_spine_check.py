from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ext.spine import check
from monai_ext.task import find_tasks


def write(path: Path, value: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(np.full_like(picture, value) if value else picture).save(path)
    return path


def write_mask(path: Path, values: tuple[int, ...] = (0, 255)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(values, (4, 6)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for patient in range(5):
        for name in ("brain", "spine"):
            write(tmp_path / f"anatomy/{name}/p{patient}_0.png")
        write(tmp_path / f"lesion/images/p{patient}_0.png")
        write_mask(tmp_path / f"lesion/masks/p{patient}_0.png")
        write(tmp_path / f"series/p{patient}/t2/0.png")
    return tmp_path


def test_a_good_folder_has_a_clean_bill(dataset) -> None:
    assert check(dataset) == []
    assert check(dataset / "series") == []
    assert "spinal_cord_cascade" in find_tasks()


def test_folders_that_look_like_time_points_are_a_warning(dataset) -> None:
    for patient in range(5):
        for time in (1, 2):
            write(dataset / f"anatomy/brain/v{patient}_{time}/0.png")
            write(dataset / f"lesion/images/v{patient}_{time}/0.png")
            write_mask(dataset / f"lesion/masks/v{patient}_{time}/0.png")
    found = [(Path(problem.path).name, problem.severity, problem.code) for problem in check(dataset)]
    assert found == [("anatomy", "warning", "patients"), ("lesion", "warning", "patients")]


def test_all_that_is_wrong_is_listed_at_once(dataset) -> None:
    (dataset / "anatomy/brain/p0_0.png").write_bytes(b"text")
    write(dataset / "anatomy/spine/p1_0.png", value=7)
    (dataset / "anatomy/spine/p2_0.png").unlink()
    Image.fromarray(np.ones((5, 5), np.uint8)).save(dataset / "lesion/masks/p3_0.png")
    (dataset / "series/p4/t2/0.png").write_bytes(b"")
    found = {
        (problem.path.removeprefix(f"{dataset}/"), problem.severity): problem.message for problem in check(dataset)
    }
    assert found.keys() == {
        ("anatomy/brain/p0_0.png", "error"),
        ("anatomy/spine/p1_0.png", "error"),
        ("anatomy/spine", "warning"),
        ("lesion/masks/p3_0.png", "error"),
        ("series/p4/t2/0.png", "error"),
    }
    assert found["anatomy/spine/p1_0.png", "error"] == "has the value 7 everywhere; there is no image"
    assert found["anatomy/spine", "warning"] == "has slices of 4 patients, too few for 5 folds"
    assert found["lesion/masks/p3_0.png", "error"] == "has (5, 5) pixels, but its image has (4, 6)"


def test_empty_masks_teach_nothing(dataset) -> None:
    for path in (dataset / "lesion/masks").iterdir():
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
    (problem,) = check(dataset)
    assert (problem.path, problem.severity) == (str(dataset / "lesion/masks"), "error")


def test_a_mask_of_several_values_is_a_warning_that_names_them(dataset) -> None:
    path = write_mask(dataset / "lesion/masks/p3_0.png", (0, 1, 2))
    (problem,) = check(dataset)
    assert (problem.path, problem.severity, problem.code) == (str(path), "warning", "mask-values")
    assert problem.message.startswith("has 3 values (0, 1, 2)")


def test_a_missing_number_among_the_slices_of_a_series_is_a_warning(dataset) -> None:
    for number in (1, 2, 4):
        write(dataset / f"series/p4/t2/{number}.png")
    (problem,) = check(dataset)
    assert (problem.severity, problem.code) == ("warning", "gap")
    assert problem.message == "has a gap of 1 in its numbers between 2.png and 4.png"


def test_nothing_to_check_says_how_to_get_data(tmp_path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        (problem,) = check(folder)
        assert "demo-data spinal_cord_cascade" in problem.message
