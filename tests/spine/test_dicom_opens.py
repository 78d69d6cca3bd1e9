"""How often DICOM files are opened: finding series takes a header each, reading one its pixels and tags."""

import builtins
from collections import Counter

import numpy as np
import pytest

from monai_ext.errors import DataError
from monai_ext.spine import SeriesImage, find_series, write_dicom_seg


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened, by its name."""
    counts = Counter()
    original = builtins.open

    def counting(file, *args, **kwargs):
        counts[str(file).rpartition("/")[2]] += 1
        return original(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counting)
    return counts


@pytest.mark.parametrize("suffix", [".dcm", ""], ids=["named", "without suffix"])
def test_each_file_is_opened_once_to_find_it_and_once_to_read_it(dicom, tmp_path, opened, suffix):
    names = [path.rename(path.with_suffix(suffix)).name for path in dicom()]
    opened.clear()
    (series,), problems = find_series(tmp_path / "data")
    assert not problems
    assert {name: opened[name] for name in names} == dict.fromkeys(names, 1)
    image = series.read()
    assert {name: opened[name] for name in names} == dict.fromkeys(names, 2)
    write_dicom_seg(series, image, np.ones((6, 16, 12)), tmp_path / "seg.dcm")
    assert {name: opened[name] for name in names} == dict.fromkeys(names, 2)


def test_a_series_in_memory_holds_no_pixels_twice(dicom, tmp_path):
    dicom()
    image = find_series(tmp_path / "data")[0][0].read()
    assert len(image.sources) == 6
    for source in image.sources:
        assert "PixelData" not in source
        assert not any(isinstance(value, np.ndarray) for value in vars(source).values())


def test_what_the_files_say_of_the_patient_is_not_shown(dicom, tmp_path):
    dicom(patient="SECRET1")
    image = find_series(tmp_path / "data")[0][0].read()
    assert "SECRET1" in str(image.sources[0])
    assert "SECRET1" not in repr(image)


def test_an_image_of_other_origin_has_no_files_to_refer_to(dicom, tmp_path):
    dicom()
    (series,), _ = find_series(tmp_path / "data")
    image = series.read()
    with pytest.raises(DataError, match=r"'ann/t2': the image isn't from its files; pass the result of"):
        write_dicom_seg(series, SeriesImage(image.voxels, image.affine, 2), np.ones((6, 16, 12)), tmp_path / "seg.dcm")
