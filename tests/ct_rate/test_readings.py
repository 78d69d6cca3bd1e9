"""The voxels tell which numbers are Hounsfield units: whatever header and table say, the right value comes out."""

from __future__ import annotations

import itertools
from pathlib import Path

import ct_phantoms as phantoms
import numpy as np
import pytest

from monai_ext.ct_rate.chest_ct import read_chest_ct
from monai_ext.errors import DataError

NAN = float("nan")
CT_RATE, OTHER = (1.0, -1024.0), (1.0, -8192.0)
PADDINGS = {"none": None, "0 HU": 0, "-1024": -1024, "-2000": -2000, "-3024": -3024, "-8192": -8192}
BODIES = {
    "chest": phantoms.chest,
    "metal and lime": lambda: phantoms.chest(("Medical material", "Arterial wall calcification")),
    "emphysema and effusion": lambda: phantoms.chest(("Emphysema", "Pleural effusion")),
    "contrast": phantoms.contrast,
    "no air around": phantoms.cropped,
    "white lungs": phantoms.white_lungs,
}

# stored as, header, table → by what it is read
LAYOUTS = {
    "version 2, table -1024": ((1.0, 0.0), None, CT_RATE, "stored values"),
    "version 2, table -8192": ((1.0, 0.0), (1.0, 0.0), OTHER, "stored values"),
    "version 2, header and table -1024": ((1.0, 0.0), CT_RATE, CT_RATE, "stored values"),
    "version 2, header -1024, table -8192": ((1.0, 0.0), CT_RATE, OTHER, "stored values"),
    "Hounsfield units, table empty": ((1.0, 0.0), (NAN, NAN), (NAN, NAN), "stored values"),
    "Hounsfield units, no table": ((1.0, 0.0), None, None, "stored values"),
    "version 1, -1024": (CT_RATE, None, CT_RATE, "metadata table"),
    "version 1, -8192": (OTHER, (1.0, 0.0), OTHER, "metadata table"),
    "version 1, slope 2": ((2.0, -1000.0), (1.0, 0.0), (2.0, -1000.0), "metadata table"),
    "version 1, slope 0.5": ((0.5, -1024.0), None, (0.5, -1024.0), "metadata table"),
    "header alone": (CT_RATE, CT_RATE, None, "header"),
    "header and table": (OTHER, OTHER, OTHER, "header"),
    "header, table of another": (CT_RATE, CT_RATE, OTHER, "header"),
    "table, header of another": (OTHER, CT_RATE, OTHER, "metadata table"),
    "header with slope 2, table -1024": ((2.0, -1000.0), (2.0, -1000.0), CT_RATE, "header"),
}


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_padding_gives_the_right_values(tmp_path: Path, layout: str, padding: str) -> None:
    stored_as, header, listed, source = LAYOUTS[layout]
    for body, made in BODIES.items():
        right = phantoms.padded(made(), PADDINGS[padding])
        ct = read_chest_ct(phantoms.save(tmp_path / "a.nii", right, stored_as, header), listed)
        np.testing.assert_allclose(ct.hounsfield(), right, atol=stored_as[0] / 2, err_msg=body)
        assert ct.reading.source == source, body


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32], ids=lambda dtype: dtype.__name__)
def test_every_type_gives_the_right_values_and_wrapped_numbers_are_refused(tmp_path: Path, dtype: type) -> None:
    for stored_as, listed in ((CT_RATE, CT_RATE), (OTHER, OTHER), ((1.0, 0.0), CT_RATE)):
        path = phantoms.save(tmp_path / "a.nii", phantoms.chest(), stored_as, dtype=dtype)
        if dtype == np.uint16 and stored_as == (1.0, 0.0):  # -1000 has become 64536
            with pytest.raises(DataError, match=r"a\.nii: can't be Hounsfield units"):
                read_chest_ct(path, listed)
        else:
            np.testing.assert_array_equal(read_chest_ct(path, listed).hounsfield(), phantoms.chest())


@pytest.mark.parametrize("padding", [0, -2000, -3024, -8192])
@pytest.mark.parametrize(("stored_as", "listed"), [(CT_RATE, CT_RATE), ((1.0, 0.0), CT_RATE)])
def test_padding_that_was_interpolated_at_its_edge_is_no_obstacle(tmp_path: Path, padding, stored_as, listed) -> None:
    right = np.rint(phantoms.padded(phantoms.chest(), padding, interpolated=True))
    path = phantoms.save(tmp_path / "a.nii", right, stored_as)
    np.testing.assert_array_equal(read_chest_ct(path, listed).hounsfield(), right)


def test_background_that_was_blanked_is_no_tissue_and_no_air(tmp_path: Path) -> None:
    body = phantoms.chest()
    for blank, stored_as in itertools.product((-1000, -1024, 24, -2024), ((1.0, 0.0), CT_RATE)):
        right = phantoms.padded(body, blank)
        path = phantoms.save(tmp_path / "a.nii", right, stored_as)
        np.testing.assert_array_equal(read_chest_ct(path, CT_RATE).hounsfield(), right)


def test_values_that_fit_nothing_are_an_error_with_each_reading(tmp_path: Path) -> None:
    path = phantoms.save(tmp_path / "raw.nii", phantoms.chest(), CT_RATE)
    with pytest.raises(DataError, match=r"raw\.nii: can't be Hounsfield units of a chest .*, by its stored values: "):
        read_chest_ct(path)
    with pytest.raises(DataError, match=r"by its metadata table \(slope 1, intercept -8192\): .* darker than air"):
        read_chest_ct(path, OTHER)
    with pytest.raises(DataError, match=r"by its metadata table .*: most of the tissue would be near 238"):
        read_chest_ct(path, (1.0, -824.0))
    for values in (phantoms.chest() * 0, phantoms.chest() * 0 - 1000, phantoms.chest() / 2000 + 0.5):
        with pytest.raises(DataError, match="slope and intercept are missing or wrong"):
            read_chest_ct(phantoms.save(tmp_path / "a.nii", values, dtype=np.float32), CT_RATE)


def test_two_readings_that_differ_and_both_look_right_are_an_error(tmp_path: Path) -> None:
    path = phantoms.save(tmp_path / "a.nii", phantoms.chest(), CT_RATE, header=(1.0, -1000.0))
    with pytest.raises(
        DataError, match=r"a\.nii: can be read in more than one way: by its header \(slope 1, inter"
    ) as e:
        read_chest_ct(path, CT_RATE)
    assert "or by its metadata table (slope 1, intercept -1024)" in str(e.value)
    assert e.value.code == "hounsfield"
    # a difference that nobody sees is none
    path = phantoms.save(tmp_path / "a.nii", phantoms.chest(), CT_RATE, header=(1.0, -1023.5))
    assert read_chest_ct(path, CT_RATE).reading.rescale == (1.0, -1023.5)


def test_what_header_and_table_say_otherwise_is_kept(tmp_path: Path) -> None:
    path = phantoms.save(tmp_path / "a.nii", phantoms.chest(), header=CT_RATE)
    ct = read_chest_ct(path, OTHER)
    assert ct.contradiction == ("header says slope 1, intercept -1024 and metadata table says slope 1, intercept -8192")
    path = phantoms.save(tmp_path / "a.nii", phantoms.chest(), CT_RATE)
    ct = read_chest_ct(path, CT_RATE)
    assert (str(ct.reading), ct.contradiction) == ("metadata table (slope 1, intercept -1024)", "")


def test_a_few_metal_voxels_and_extremes_decide_nothing(tmp_path: Path) -> None:
    """Minimum and maximum are those of raw numbers, the rest are Hounsfield units; and the other way round."""
    for stored_as, low, high in (((1.0, 0.0), -8192, 32767), (CT_RATE, -1000, 40)):
        right = phantoms.chest()
        raw = (right - stored_as[1]).astype(np.int16)
        raw[0, 0, :5], raw[1, 1, :5] = low, high
        expected = raw + stored_as[1]
        path = phantoms.save(tmp_path / "a.nii", raw.astype(np.float64))
        np.testing.assert_array_equal(read_chest_ct(path, CT_RATE).hounsfield(), expected)
