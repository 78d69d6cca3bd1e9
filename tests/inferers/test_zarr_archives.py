"""Prediction of OME-Zarr as it comes: channels and timepoints, zipped, chunks that don't fit the metadata."""

import numpy as np
import pytest
import zarr
from zarr_archives import break_names, write_tczyx, zipped
from zarr_helpers import predictor, stored

from monai_ext.errors import DataError


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize(
    ("counts", "choice"),
    [((1, 1), {}), ((2, 3), {"channel": 1, "timepoint": 1})],
    ids=["single", "chosen"],
)
def test_prediction_of_an_image_with_all_five_axes_is_that_of_the_plain_volume(tmp_path, counts, choice, packed):
    values = np.random.default_rng(0).integers(1, 255, (9, 20, 18)).astype(np.uint8)
    zarr.create_array(tmp_path / "plain.zarr", data=values, chunks=(8, 8, 8))
    write_tczyx(tmp_path / "image.zarr", values, choice.get("channel", 0), counts)
    place = zipped(tmp_path / "image.zarr") if packed else tmp_path / "image.zarr"
    predictor()(tmp_path / "plain.zarr", tmp_path / "expected")
    done = predictor()(place, tmp_path / "found", **choice)
    assert done.complete
    for name in ("sheet", "normals"):
        np.testing.assert_array_equal(stored(tmp_path / "found", name), stored(tmp_path / "expected", name))
    (image,) = dict(zarr.open_group(tmp_path / "found" / "sheet.zarr", mode="r").attrs)["ome"]["multiscales"]
    assert [axis.get("unit") for axis in image["axes"]] == ["micrometer"] * 3
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [3.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["input", "mask"])
def test_prediction_refuses_chunks_that_do_not_fit_the_metadata(tmp_path, name):
    for each in ("input", "mask"):
        zarr.create_array(tmp_path / f"{each}.zarr", data=np.ones((9, 20, 18), np.uint8), chunks=(8, 8, 8))
    break_names(tmp_path / f"{name}.zarr")
    with pytest.raises(
        DataError, match=rf"{name}\.zarr: its metadata names its chunks like '0\.0\.0', but there is '\d'"
    ):
        predictor()(tmp_path / "input.zarr", tmp_path / "out", mask=tmp_path / "mask.zarr")
    assert not (tmp_path / "out").exists()
