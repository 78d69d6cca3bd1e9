"""Windows that touch no kept voxel aren't computed, memory isn't taken for them, and their voxels spoil nothing."""

import itertools

import numpy as np
import pytest
import zarr
from zarr_helpers import ROI, TARGETS, TwoHeads, predictor, stored, tree, volume

from monai_ext.errors import ConfigError, DataError
from monai_ext.inferers.streaming.geometry import window_axes
from monai_ext.transforms import NormalizeVolume

SHAPE, CHUNK = (40, 52, 44), 8
BOX = ((11, 19), (15, 33), (2, 9))


def extents():
    axes = [[slice(max(z, 0), z + axis.length) for z in axis.starts] for axis in window_axes(SHAPE, ROI, (0.25,) * 3)]
    return list(itertools.product(*axes))


def box_of(inside):
    kept = np.zeros(SHAPE, bool)
    kept[tuple(slice(*part) for part in inside)] = True
    return kept


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A dense volume, a sparse one, and a mask; and the kept voxels of each case."""
    folder = tmp_path_factory.mktemp("inputs")
    volume(folder / "dense.zarr", SHAPE)
    mask = np.random.default_rng(1).random(SHAPE) > 0.9998
    mask[:, :10, 30:] = True
    zarr.create_array(folder / "mask.zarr", data=mask.astype(np.uint8), chunks=(CHUNK,) * 3)
    sparse = zarr.create_array(folder / "sparse.zarr", shape=SHAPE, chunks=(CHUNK,) * 3, dtype="uint8", fill_value=0)
    sparse[16:24, 8:16, 16:32] = 7
    chunks = np.zeros(SHAPE, bool)
    chunks[16:24, 8:16, 16:32] = True
    near = np.zeros(SHAPE, bool)
    for window in extents():
        near[window] |= chunks[window].any()
    return folder, {"box": box_of(BOX), "mask": mask, "both": mask & box_of(BOX), "sparse": near}


CALLS = {"box": {"bbox": BOX}, "mask": {"mask": "mask.zarr"}, "both": {"bbox": BOX, "mask": "mask.zarr"}, "sparse": {}}


def arguments(folder, case):
    call = dict(CALLS[case])
    if "mask" in call:
        call["mask"] = folder / call["mask"]
    return folder / ("sparse.zarr" if case == "sparse" else "dense.zarr"), call


@pytest.mark.parametrize(
    ("case", "block_size"),
    [*((case, (16, 56, 48)) for case in CALLS), ("mask", (8, 32, 24)), ("sparse", (8, 32, 24))],
    ids=lambda value: value if isinstance(value, str) else f"block of {value}",
)
def test_only_windows_that_touch_a_kept_voxel_are_computed(inputs, tmp_path, case, block_size):
    folder, kept = inputs
    source, call = arguments(folder, case)
    network = TwoHeads()
    options = {"normalize": NormalizeVolume(), "batch_size": 1, "chunk_size": block_size, "block_size": block_size}
    predictor(network, **options)(source, tmp_path / "out", **call)
    touching = sum(bool(kept[case][window].any()) for window in extents())
    if block_size[1] >= SHAPE[1]:
        assert network.calls == touching < len(extents()) / 2
    everywhere = folder / f"dense {block_size}"
    if case == "sparse":
        everywhere = tmp_path / "everywhere"
        values = zarr.open_array(source, mode="r")[:]
        zarr.create_array(
            tmp_path / "in.zarr", data=values, chunks=(CHUNK,) * 3, fill_value=9, config={"write_empty_chunks": True}
        )
        source = tmp_path / "in.zarr"
    if not everywhere.exists():
        predictor(**options)(source, everywhere)
    for name in TARGETS:
        whole = stored(everywhere, name)
        assert np.array_equal(stored(tmp_path / "out", name), np.where(kept[case], whole, 0)), name


@pytest.mark.parametrize("case", ["both", "mask", "sparse"])
def test_the_bytes_are_the_same_wherever_the_work_begins(inputs, tmp_path, case):
    folder, _ = inputs
    source, call = arguments(folder, case)
    options = {"chunk_size": (8, 56, 48), "block_size": (8, 56, 48)}
    predictor(**options)(source, tmp_path / "at once", **call)
    job = predictor(**options).job(source, tmp_path / "alone", **call)
    batches = []
    of = job.steps.of
    job.steps.of = lambda blocks: (batches.append(getattr(step, "starts", None)) or step for step in of(blocks))
    for block in reversed(range(len(job.grid))):
        job.compute([block])
    assert job.finish()
    assert tree(tmp_path / "alone") == tree(tmp_path / "at once")
    # a layer's batches are the same in each of the blocks it reaches
    layers = {}
    for starts in filter(None, batches):
        assert layers.setdefault(starts[0], starts) == starts


def test_memory_is_taken_for_the_volume_not_for_a_larger_block(tmp_path):
    volume(tmp_path / "in.zarr", (9, 14, 14))
    predict = predictor(block_size=(8 << 20, 8 << 20, 8 << 20))
    assert predict(tmp_path / "in.zarr", tmp_path / "out").complete
    predictor()(tmp_path / "in.zarr", tmp_path / "small")
    assert np.array_equal(stored(tmp_path / "out", "sheet"), stored(tmp_path / "small", "sheet"))


@pytest.fixture
def with_nan(tmp_path):
    """A float volume with NaN and infinite voxels, the same one with 0 there, and a mask without them."""
    values = np.random.default_rng(0).random((20, 24, 24)).astype(np.float32) + 1
    bad = np.zeros(values.shape, bool)
    bad[12:14, 5:20, 3] = True
    for name, wrong in {"in": np.nan, "inf": -np.inf, "filled": 0}.items():
        zarr.create_array(tmp_path / f"{name}.zarr", data=np.where(bad, np.float32(wrong), values), chunks=(8, 8, 8))
    zarr.create_array(tmp_path / "mask.zarr", data=(~bad).astype(np.uint8), chunks=(8, 8, 8))
    return tmp_path


@pytest.mark.parametrize("name", ["in", "inf"])
def test_nan_and_infinite_voxels_are_refused_or_filled(with_nan, name):
    predictor().job(with_nan / f"{name}.zarr", with_nan / "out").compute([0])
    with pytest.raises(
        DataError, match=rf"{name}\.zarr: the region \[8:16, 0:16, 0:16\] has 22 voxels that are NaN or infinite"
    ):
        predictor()(with_nan / f"{name}.zarr", with_nan / "out")
    # what was finished before the refusal is the same as under the other policy
    assert predictor(nonfinite_voxels="fill")(with_nan / f"{name}.zarr", with_nan / "out").ready == 1
    predictor()(with_nan / "filled.zarr", with_nan / "expected")
    for target in TARGETS:
        assert np.array_equal(stored(with_nan / "out", target), stored(with_nan / "expected", target))


def test_nan_voxels_without_an_output_stop_nothing(with_nan):
    predictor()(with_nan / "in.zarr", with_nan / "out", mask=with_nan / "mask.zarr")
    predictor()(with_nan / "filled.zarr", with_nan / "expected", mask=with_nan / "mask.zarr")
    box = ((0, 20), (0, 24), (4, 24))
    predictor()(with_nan / "in.zarr", with_nan / "boxed", bbox=box)
    for target in TARGETS:
        expected = stored(with_nan / "expected", target)
        assert np.array_equal(stored(with_nan / "out", target), expected)
        assert np.array_equal(stored(with_nan / "boxed", target)[..., 4:], expected[..., 4:])


def test_another_policy_is_refused():
    with pytest.raises(ConfigError, match="nonfinite_voxels must be one of reject, fill, got 'ignore'"):
        predictor(nonfinite_voxels="ignore")


def test_an_input_of_which_nothing_is_stored_is_refused(tmp_path):
    zarr.create_array(tmp_path / "in.zarr", shape=SHAPE, chunks=(CHUNK,) * 3, dtype="uint8")
    with pytest.raises(DataError, match=r"in\.zarr: has no stored chunk: every voxel is 0"):
        predictor()(tmp_path / "in.zarr", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stored", [True, False], ids=["zeros", "nothing"])
def test_a_prediction_without_a_kept_voxel_says_so(inputs, tmp_path, caplog, stored):
    mask = zarr.create_array(tmp_path / "mask.zarr", shape=SHAPE, chunks=(CHUNK,) * 3, dtype="uint8")
    if stored:
        mask.with_config({"write_empty_chunks": True})[:] = 0
    assert predictor()(inputs[0] / "dense.zarr", tmp_path / "out", mask=tmp_path / "mask.zarr").complete
    assert "no voxel of these blocks is kept, all are 0; look at mask and bbox" in caplog.text


def test_voxels_that_are_finite_in_float64_only_are_infinite(tmp_path):
    volume(tmp_path / "in.zarr", (9, 14, 14), dtype="float64")
    zarr.open_array(tmp_path / "in.zarr", mode="r+")[3, 3, 3] = 1e300
    with pytest.raises(DataError, match=r"has 1 voxels that are NaN or infinite"):
        predictor()(tmp_path / "in.zarr", tmp_path / "out")
    assert predictor(nonfinite_voxels="fill")(tmp_path / "in.zarr", tmp_path / "filled").complete
