"""Zarr to Zarr gives MONAI's numbers, and the same bytes however the work is cut."""

from contextlib import nullcontext

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr
from monai.inferers import SlidingWindowInferer
from zarr_helpers import BLOCK, ROI, TARGETS, OneHead, TwoHeads, predictor, stored, tree, volume

from monai_ext.data import decode_normals
from monai_ext.errors import ConfigError, DataError, UserError
from monai_ext.inferers import ZarrSlidingWindow
from monai_ext.inferers.streaming import job
from monai_ext.inferers.streaming.job import same_algorithms
from monai_ext.transforms import NormalizeVolume


def in_memory(values, roi=ROI, overlap=0.25, mode="gaussian", network=None, normalize=None):
    network = network or TwoHeads()
    windows = SlidingWindowInferer(roi, 4, overlap, mode)
    image = torch.from_numpy(values.astype(np.float32))[None, None]
    with torch.no_grad():
        return windows(image, lambda x: network(x if normalize is None else normalize(x)))


RAW = {"sheet": {"channels": 1}, "normals": {"channels": 3, "vector": False}}


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize(
    ("shape", "roi", "overlap"),
    [
        pytest.param((37, 41, 33), ROI, 0.25, id="odd sizes"),
        pytest.param((37, 41, 33), ROI, 0.5, id="half"),
        pytest.param((24, 30, 30), (7, 9, 11), (0.0, 0.3, 0.7), id="an overlap for each axis"),
        pytest.param((5, 41, 9), ROI, 0.25, id="smaller than a window along two axes"),
        pytest.param((3, 4, 5), ROI, 0.25, id="smaller than a window"),
        pytest.param((8, 12, 12), ROI, 0.25, id="one window"),
        pytest.param((33, 20, 20), (20, 12, 12), 0.25, id="windows longer than a block"),
    ],
)
def test_gives_the_numbers_of_monai(tmp_path, shape, roi, overlap, mode):
    values = volume(tmp_path / "in.zarr", shape)
    predict = predictor(roi_size=roi, overlap=overlap, mode=mode, targets=RAW, normalize=NormalizeVolume())
    done = predict(tmp_path / "in.zarr", tmp_path / "out")
    expected = in_memory(values, roi, overlap, mode, normalize=NormalizeVolume())
    assert done.complete
    assert done.ready == 0
    np.testing.assert_allclose(stored(tmp_path / "out", "sheet"), expected["sheet"][0, 0], atol=1e-5)
    np.testing.assert_allclose(stored(tmp_path / "out", "normals"), expected["normals"][0], atol=1e-5)


@pytest.mark.slow
def test_a_nifti_volume_gives_what_the_same_voxels_in_zarr_give(tmp_path):
    values = volume(tmp_path / "in.zarr")
    nib.save(nib.Nifti1Image(values.T, np.diag([0.5, 0.5, 2.0, 1.0])), tmp_path / "in.nii")
    for name in ("zarr", "nii"):
        predictor(normalize=NormalizeVolume())(tmp_path / f"in.{name}", tmp_path / name)
    for target in TARGETS:
        np.testing.assert_array_equal(stored(tmp_path / "nii", target), stored(tmp_path / "zarr", target))
    attributes = zarr.open_group(tmp_path / "nii" / "sheet.zarr", mode="r").attrs["ome"]["multiscales"][0]
    assert attributes["datasets"][0]["coordinateTransformations"][0]["scale"] == [2.0, 0.5, 0.5]


def test_activates_and_encodes_each_target(tmp_path):
    values = volume(tmp_path / "in.zarr")
    predictor(normalize=NormalizeVolume())(tmp_path / "in.zarr", tmp_path / "out")
    expected = in_memory(values, normalize=NormalizeVolume())
    sheet, normals = stored(tmp_path / "out", "sheet"), stored(tmp_path / "out", "normals")
    assert (sheet.dtype, normals.dtype) == (np.uint8, np.uint16)
    assert np.abs(sheet - 255 * torch.sigmoid(expected["sheet"][0, 0]).numpy()).max() <= 0.51
    decoded = decode_normals(normals, channel_axis=0)
    np.testing.assert_allclose(decoded, torch.nn.functional.normalize(expected["normals"][0], dim=0), atol=1e-4)


@pytest.mark.parametrize(
    ("definition", "dtype"),
    [
        ({"channels": 4, "activation": "softmax"}, "uint16"),
        ({"channels": 4, "activation": "softmax"}, "float32"),
        ({"channels": 4, "activation": "sigmoid"}, "uint8"),
    ],
    ids=["softmax uint16", "softmax float32", "sigmoid uint8"],
)
def test_scores_of_several_channels(tmp_path, definition, dtype):
    class Joined(TwoHeads):
        def forward(self, x):
            return torch.cat(list(super().forward(x).values()), dim=1)

    values = volume(tmp_path / "in.zarr", (10, 14, 14))
    predictor(Joined(), targets={"kind": definition}, dtypes={"kind": dtype})(tmp_path / "in.zarr", tmp_path / "out")
    logits = in_memory(values, network=Joined())[0]
    expected = torch.softmax(logits, 0) if definition["activation"] == "softmax" else torch.sigmoid(logits)
    found = stored(tmp_path / "out", "kind")
    largest = 1 if dtype == "float32" else np.iinfo(dtype).max
    assert found.dtype == dtype
    np.testing.assert_allclose(found / largest, expected, atol=0.51 / largest if largest > 1 else 1e-5)


def test_a_network_with_one_tensor_needs_no_definition(tmp_path):
    values = volume(tmp_path / "in.zarr", (9, 14, 14))
    predict = ZarrSlidingWindow(OneHead(), ROI, chunk_size=8, progress=False)
    predict(tmp_path / "in.zarr", tmp_path / "out")
    np.testing.assert_allclose(stored(tmp_path / "out", "pred"), in_memory(values, network=OneHead())[0, 0], atol=1e-5)


def test_only_chosen_targets_are_written(tmp_path):
    volume(tmp_path / "in.zarr", (9, 14, 14))
    predictor(output_targets=["normals"])(tmp_path / "in.zarr", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ledger", "normals.zarr"]


def test_flips_are_averaged_and_vectors_flipped_back(tmp_path):
    values = volume(tmp_path / "in.zarr", (8, 12, 12))
    options = {"targets": {**RAW, "normals": {"channels": 3}}, "dtypes": {"normals": "float32"}}
    predictor(test_time_flips="zx", **options)(tmp_path / "in.zarr", tmp_path / "out")
    image, network = torch.from_numpy(values.astype(np.float32))[None, None], TwoHeads()
    sheet, normals = torch.zeros(1, 1, *ROI), torch.zeros(1, 3, *ROI)
    with torch.no_grad():
        for axes in ([], [2], [4], [2, 4]):
            found = network(torch.flip(image, axes))
            signs = torch.tensor([-1.0 if 4 in axes else 1, 1, -1.0 if 2 in axes else 1]).reshape(1, 3, 1, 1, 1)
            sheet += torch.flip(found["sheet"], axes) / 4
            normals += torch.flip(found["normals"], axes) * signs / 4
    np.testing.assert_allclose(stored(tmp_path / "out", "sheet"), sheet[0, 0], atol=1e-5)
    np.testing.assert_allclose(
        stored(tmp_path / "out", "normals"), torch.nn.functional.normalize(normals[0], dim=0), atol=1e-5
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    volume(folder / "in.zarr")
    predictor(pyramid_levels=2)(folder / "in.zarr", folder / "out")
    return folder


@pytest.mark.parametrize("parts", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)])
def test_parts_give_the_same_bytes(undisturbed, tmp_path, parts):
    # the last part first: it begins within a column
    for part in reversed(range(parts)):
        done = predictor(pyramid_levels=2)(undisturbed / "in.zarr", tmp_path / "out", part=part, parts=parts)
        assert done.complete == (part == 0)
    assert tree(tmp_path / "out") == tree(undisturbed / "out")


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.slow
def test_batches_at_the_same_time_give_the_same_bytes(undisturbed, tmp_path, torch_threads):
    for batches, folder in ((1, "alone"), (3, "together")):
        torch_threads(batches)
        predictor(network_threads=batches)(undisturbed / "in.zarr", tmp_path / folder)
    assert tree(tmp_path / "together") == tree(tmp_path / "alone")


@pytest.mark.slow
def test_every_block_alone_gives_the_same_bytes(undisturbed, tmp_path):
    job = predictor(pyramid_levels=2).job(undisturbed / "in.zarr", tmp_path / "out")
    for block in reversed(range(len(job.grid))):
        job.compute([block])
    assert job.finish()
    assert tree(tmp_path / "out") == tree(undisturbed / "out")


def test_a_second_call_computes_nothing(undisturbed, tmp_path):
    network = TwoHeads()
    before = tree(undisturbed / "out")
    done = predictor(network, pyramid_levels=2)(undisturbed / "in.zarr", undisturbed / "out")
    assert (done.blocks, done.complete, network.calls) == (0, True, 0)
    assert tree(undisturbed / "out") == before


def test_blocks_of_a_column_compute_no_window_twice(tmp_path):
    volume(tmp_path / "in.zarr", (64, 12, 12))
    network = TwoHeads()
    predictor(network, overlap=0.5)(tmp_path / "in.zarr", tmp_path / "out")
    assert network.calls == 15


def test_blocks_that_read_nothing_are_skipped(tmp_path):
    array = zarr.create_array(tmp_path / "in.zarr", shape=(64, 16, 16), chunks=(8, 8, 8), dtype="uint8", fill_value=0)
    array[19:24, 3:9, 3:9] = 7
    network = TwoHeads()
    predictor(network)(tmp_path / "in.zarr", tmp_path / "out")
    sheet = stored(tmp_path / "out", "sheet")
    expected = torch.sigmoid(in_memory(array[:])["sheet"][0, 0]).numpy()
    # windows from 12 and 18 on touch the stored chunks from 16 to 23
    assert np.flatnonzero(sheet.any(axis=(1, 2))).tolist() == list(range(12, 26))
    assert np.abs(sheet[12:26] - 255 * expected[12:26]).max() <= 0.51
    assert network.calls < 9
    assert not list((tmp_path / "out" / "sheet.zarr" / "0" / "c" / "0").rglob("*"))


def test_zeros_that_are_stored_are_skipped_too(tmp_path):
    zarr.create_array(
        tmp_path / "in.zarr",
        data=np.zeros((16, 16, 16), np.uint8),
        chunks=(8, 8, 8),
        config={"write_empty_chunks": True},
    )
    network = TwoHeads()
    assert predictor(network)(tmp_path / "in.zarr", tmp_path / "out").complete
    assert network.calls == 0


def test_a_mask_and_a_bounding_box_limit_the_output(tmp_path):
    values = volume(tmp_path / "in.zarr", (40, 40, 20))
    mask = np.zeros(values.shape, np.uint8)
    mask[3:30, 5:21, :] = 1
    zarr.create_array(tmp_path / "mask.zarr", data=mask, chunks=(8, 8, 8))
    bbox = ((2, 20), (0, 18), (4, 11))
    predictor()(tmp_path / "in.zarr", tmp_path / "whole")
    network = TwoHeads()
    predict = predictor(network)
    assert predict(tmp_path / "in.zarr", tmp_path / "part", mask=tmp_path / "mask.zarr", bbox=bbox).complete
    wanted = mask.astype(bool)
    inside = np.zeros_like(wanted)
    inside[2:20, 0:18, 4:11] = True
    for name in TARGETS:
        whole = stored(tmp_path / "whole", name)
        assert np.array_equal(stored(tmp_path / "part", name), np.where(wanted & inside, whole, 0)), name


def test_a_volume_of_another_type_and_layout(tmp_path):
    values = volume(tmp_path / "in.zarr", (20, 20, 20), chunks=(10, 5, 5), shards=(20, 10, 10), dtype="int16")
    predictor(targets=RAW, shard_size=(8, 16, 16))(tmp_path / "in.zarr", tmp_path / "out")
    np.testing.assert_allclose(stored(tmp_path / "out", "sheet"), in_memory(values)["sheet"][0, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, "overlap must be"),
        ({"mode": "linear"}, "mode must be one of"),
        ({"roi_size": (8, 0, 8)}, "roi_size must be"),
        ({"engine": "auto"}, "choose by timing"),
        ({"output_targets": ["ink"]}, "no target 'ink'"),
        ({"output_targets": []}, "name at least one"),
        ({"dtypes": {"sheet": "int32"}}, "holds scores"),
        ({"test_time_flips": "t"}, "test_time_flips"),
        ({"pyramid_levels": -1}, "pyramid_levels"),
        ({"network_threads": 0}, "network_threads"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        predictor(**options)


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"block_size": (8, 12, 16)}, {}, "block_size must be a multiple"),
        ({"zarr_format": 4}, {}, "zarr_format"),
        ({"zarr_format": 2, "shard_size": 16, "block_size": 16}, {}, "needs zarr_format 3"),
        ({"shard_size": 12, "block_size": 12}, {}, "multiple of chunk_size"),
        ({}, {"part": 2, "parts": 2}, "part must be a shard index from 0 to parts - 1, got part 2 of parts 2"),
        ({}, {"part": 1}, "part and parts: give both"),
        ({}, {"bbox": ((0, 9), (0, 9), (5, 50))}, "bbox: x"),
        ({"targets": {"sheet": {"channels": 2, "activation": "sigmoid"}}}, {}, "channels or the network is wrong"),
        ({"targets": {"ink": {"channels": 1}}}, {}, "doesn't predict 'ink'"),
    ],
    ids=[
        "block_size",
        "zarr_format",
        "shards in v2",
        "shard_size",
        "part",
        "part alone",
        "bbox",
        "channels",
        "unknown target",
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, options, call, message):
    volume(tmp_path / "in.zarr", (9, 14, 14))
    with pytest.raises(ConfigError, match=message):
        predictor(**options)(tmp_path / "in.zarr", tmp_path / "out", **call)


@pytest.mark.parametrize("target", ["sheet", "normals"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, target):
    class Infinite(TwoHeads):
        def forward(self, x):
            found = super().forward(x)
            return {**found, target: found[target] / 0}

    volume(tmp_path / "in.zarr", (9, 14, 14))
    with pytest.raises(DataError, match=f"target '{target}': the network gives NaN or infinite"):
        predictor(Infinite())(tmp_path / "in.zarr", tmp_path / "out")


def test_full_memory_of_a_gpu_is_a_sentence_and_finished_blocks_stay(tmp_path):
    class Full(TwoHeads):
        def forward(self, x):
            if self.calls == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(x)

    volume(tmp_path / "in.zarr")
    network = Full()
    with pytest.raises(UserError, match=r"4 windows at once and blocks of \[8, 16, 16\].*smaller batch_size or block"):
        predictor(network)(tmp_path / "in.zarr", tmp_path / "out")
    network.calls = 3
    assert predictor(network)(tmp_path / "in.zarr", tmp_path / "out").complete


def test_another_engine_gives_the_same_numbers_and_is_a_setting(tmp_path):
    values = volume(tmp_path / "in.zarr", (9, 14, 14))
    predictor(targets=RAW, engine="torchscript")(tmp_path / "in.zarr", tmp_path / "out")
    np.testing.assert_allclose(stored(tmp_path / "out", "sheet"), in_memory(values)["sheet"][0, 0], atol=1e-4)
    with pytest.raises(ConfigError, match='engine: there "torchscript", now "eager"'):
        predictor(targets=RAW)(tmp_path / "in.zarr", tmp_path / "out")


def test_inputs_that_do_not_fit_are_named(tmp_path):
    volume(tmp_path / "in.zarr", (9, 14, 14))
    volume(tmp_path / "other.zarr", (9, 14, 13))
    zarr.create_array(tmp_path / "channels.zarr", shape=(3, 9, 14, 14), chunks=(3, 9, 9, 9), dtype="uint8")
    with pytest.raises(DataError, match=r"other\.zarr: the mask has the shape \(9, 14, 13\), the input \(9, 14, 14\)"):
        predictor()(tmp_path / "in.zarr", tmp_path / "out", mask=tmp_path / "other.zarr")
    with pytest.raises(DataError, match=r"channels\.zarr: has 3 channels .*choose one by --channel"):
        predictor()(tmp_path / "channels.zarr", tmp_path / "out")
    with pytest.raises(DataError, match=r"no Zarr array or group found"):
        predictor()(tmp_path / "missing.zarr", tmp_path / "out")


def test_the_default_block_is_bounded_whatever_the_volume(tmp_path):
    from monai_ext.inferers.streaming.geometry import default_block_size

    sizes = [default_block_size((n, n, n), (64, 192, 192), (0.25,) * 3, (128,) * 3) for n in (256, 2000, 27000)]
    assert sizes[0] == (128, 256, 256)
    assert all(edge <= 1152 for size in sizes for edge in size)
    assert BLOCK == (8, 16, 16)


def test_a_job_gives_its_shards_under_the_old_name_too(tmp_path):
    volume(tmp_path / "in.zarr")
    job = predictor().job(tmp_path / "in.zarr", tmp_path / "out")
    with pytest.warns(DeprecationWarning, match="share is now shard"):
        assert job.share(1, 3) == job.shard(1, 3)


def test_blocks_of_a_gpu_with_and_without_tf32_are_not_mixed(tmp_path, on_gpu):
    volume(tmp_path / "in.zarr")
    begun = on_gpu(True).job(tmp_path / "in.zarr", tmp_path / "out")
    assert begun.manifest.settings()["tf32"] is True
    on_gpu(True).job(tmp_path / "in.zarr", tmp_path / "out")
    with pytest.raises(ConfigError, match="tf32: there true, now false"):
        on_gpu(False).job(tmp_path / "in.zarr", tmp_path / "out")


def test_on_a_cpu_tf32_makes_no_difference(tmp_path):
    volume(tmp_path / "in.zarr")
    for tf32 in (True, False):
        predictor(tf32=tf32, device="cpu").job(tmp_path / "in.zarr", tmp_path / "out")


@pytest.mark.parametrize("tf32", [True, False])
def test_a_gpu_computes_in_tf32_as_asked_for_and_by_fixed_algorithms(tf32):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    outside = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    with same_algorithms(torch.device("cuda"), tf32):
        within = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    assert within == (tf32, tf32, False, True)
    assert outside == (cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic)


def test_a_job_is_computed_as_its_predictor_asks(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(job, "same_algorithms", lambda device, tf32: seen.append((device, tf32)) or nullcontext())
    volume(tmp_path / "in.zarr", (8, 12, 12))
    for tf32 in (True, False):
        predictor(tf32=tf32, device="cpu")(tmp_path / "in.zarr", tmp_path / f"out {tf32}")
    assert seen == [(torch.device("cpu"), True), (torch.device("cpu"), False)]
