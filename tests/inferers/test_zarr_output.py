"""What is written: OME-Zarr metadata, pyramids, checksums; and that nothing else is taken for finished."""

import errno
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from failing_system import failing
from zarr_helpers import ROI, TARGETS, TwoHeads, predictor, stored, tree, volume

from monai_ext.data import decode_normals
from monai_ext.errors import ConfigError, DataError, WriteError
from monai_ext.inferers import ZarrInferer, ZarrPrediction
from monai_ext.inferers.streaming.manifest import ProgressManifest
from monai_ext.inferers.streaming.pyramid import default_levels
from monai_ext.inferers.streaming.shard import shard_of_launcher

SCALED = {
    "ome": {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"],
                "datasets": [
                    {
                        "path": "full",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [7.91, 2, 2]},
                            {"type": "translation", "translation": [10, 0, 0]},
                        ],
                    }
                ],
            }
        ],
    }
}


@pytest.fixture(scope="module")
def ome_input(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "scaled.zarr"
    group = zarr.create_group(path, attributes=SCALED)
    group.create_array("full", data=np.random.default_rng(0).integers(1, 255, (18, 21, 17)).astype(np.uint8))
    return path


@pytest.mark.parametrize("zarr_format", [3, 2], ids=["0.5", "0.4"])
def test_the_metadata_are_valid_ome_zarr(ome_input, tmp_path, zarr_format):
    from ome_zarr_models.v04.image import Image as Image04
    from ome_zarr_models.v05.image import Image as Image05
    from pydantic_zarr.v2 import ArraySpec

    # imported for type checkers only in ome-zarr-models 1.6, so that pydantic doesn't know it
    Image04.model_rebuild(_types_namespace={"ArraySpec": ArraySpec})
    predictor(zarr_format=zarr_format, pyramid_levels=2)(ome_input, tmp_path / "out")
    for name in TARGETS:
        group = zarr.open_group(tmp_path / "out" / f"{name}.zarr", mode="r", zarr_format=zarr_format)
        image = (Image05 if zarr_format == 3 else Image04).from_zarr(group)
        (scales,) = image.ome_attributes.multiscales
        assert [axis.name for axis in scales.axes] == (list("zyx") if name == "sheet" else list("czyx"))
        assert [axis.unit for axis in scales.axes][-3:] == ["micrometer"] * 3
        steps = [[step.model_dump() for step in data.coordinateTransformations] for data in scales.datasets]
        assert [level[0]["scale"][-3:] for level in steps] == [[7.91 * n, 2.0 * n, 2.0 * n] for n in (1, 2, 4)]
        # the first corner stays where it is
        corners = [level[1]["translation"][-3] - level[0]["scale"][-3] / 2 for level in steps]
        np.testing.assert_allclose(corners, corners[0])


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_another_reader_opens_the_output(ome_input, tmp_path, zarr_format):
    tensorstore = pytest.importorskip("tensorstore")
    predictor(zarr_format=zarr_format, pyramid_levels=1)(ome_input, tmp_path / "out")
    for name in TARGETS:
        for level in (0, 1):
            place = {"driver": "file", "path": str(tmp_path / "out" / f"{name}.zarr" / str(level))}
            array = tensorstore.open({"driver": "zarr" if zarr_format == 2 else "zarr3", "kvstore": place}).result()
            assert np.array_equal(array.read().result(), stored(tmp_path / "out", name, level))


def test_zarr_v2_names_its_compressor_as_all_readers_know_it(ome_input, tmp_path):
    """Older numcodecs, tensorstore and others refuse further keys, such as ``checksum``."""
    predictor(zarr_format=2)(ome_input, tmp_path / "out")
    metadata = json.loads((tmp_path / "out" / "sheet.zarr" / "0" / ".zarray").read_text())
    assert metadata["compressor"] == {"id": "zstd", "level": 3}
    assert metadata["filters"] is None
    chunk = (tmp_path / "out" / "sheet.zarr" / "0" / "0" / "0" / "0").read_bytes()
    assert chunk[4] & 0b100  # the frame's header (RFC 8878) says that a checksum follows


def test_levels_hold_means_and_unit_vectors(ome_input, tmp_path):
    predictor(pyramid_levels=2)(ome_input, tmp_path / "out")
    sheet, coarse = (stored(tmp_path / "out", "sheet", level) for level in (0, 1))
    assert coarse.shape == (9, 11, 9)
    assert abs(int(coarse[3, 4, 5]) - sheet[6:8, 8:10, 10:12].mean()) <= 0.51
    assert abs(int(coarse[8, 10, 8]) - sheet[16:18, 20:, 16:].mean()) <= 0.51
    normals, coarse = (decode_normals(stored(tmp_path / "out", "normals", level), 0) for level in (0, 1))
    mean = normals[:, 6:8, 8:10, 10:12].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(coarse[:, 3, 4, 5], mean / np.linalg.norm(mean), atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "levels"), [((512, 300, 9), 0), ((64, 513, 64), 1), ((27144, 27144, 27144), 6)], ids=str
)
def test_a_large_volume_gets_coarser_levels_by_default(shape, levels):
    assert default_levels(shape) == levels


def test_the_default_levels_are_made(tmp_path):
    volume(tmp_path / "in.zarr", (8, 8, 600), chunks=(8, 8, 64))
    predictor(block_size=(8, 8, 600))(tmp_path / "in.zarr", tmp_path / "default")
    assert stored(tmp_path / "default", "sheet", 1).shape == (4, 4, 300)


def test_levels_can_be_added_later(ome_input, tmp_path):
    predictor(pyramid_levels=2)(ome_input, tmp_path / "at once")
    predictor()(ome_input, tmp_path / "later")
    network = TwoHeads()
    assert predictor(network, pyramid_levels=2)(ome_input, tmp_path / "later").complete
    assert network.calls == 0
    assert tree(tmp_path / "later") == tree(tmp_path / "at once")


def test_zeros_within_a_written_block_are_stored(tmp_path):
    volume(tmp_path / "in.zarr", (8, 16, 16))
    mask = np.zeros((8, 16, 16), np.uint8)
    mask[:, :8, :8] = 1
    zarr.create_array(tmp_path / "mask.zarr", data=mask)
    predictor()(tmp_path / "in.zarr", tmp_path / "out", mask=tmp_path / "mask.zarr")
    assert len([path for path in (tmp_path / "out" / "sheet.zarr" / "0" / "c").rglob("*") if path.is_file()]) == 4


@pytest.mark.parametrize(
    ("changed", "call", "message"),
    [
        ({"network": TwoHeads(seed=1)}, {}, r'settings \(network\.weights: there "\w{64}", now "\w{64}"\);'),
        ({"overlap": 0.5}, {}, r"overlap: there \[0.25, 0.25, 0.25\], now \[0.5, 0.5, 0.5\]"),
        (
            {"dtypes": {"sheet": "uint16"}, "mode": "constant"},
            {},
            r'settings \(mode: there "gaussian", now "constant"; targets\.sheet\.dtype: there "uint8", now "uint16"\);',
        ),
        ({"identity": {"checkpoint": "other"}}, {}, r'settings \(network\.checkpoint: there null, now "other"\);'),
        ({}, {"bbox": ((0, 5), (0, 5), (0, 5))}, "bbox: there null"),
        ({}, {"input": "other"}, r'input\.path: there ".*scaled\.zarr/full", now ".*other\.zarr/full"'),
    ],
    ids=["network", "overlap", "dtype and mode", "identity", "bbox", "input"],
)
def test_an_output_begun_with_other_settings_is_refused(ome_input, tmp_path, changed, call, message):
    changed, call = dict(changed), dict(call)
    predictor()(ome_input, tmp_path / "out")
    before = tree(tmp_path / "out")
    source = ome_input
    if call.pop("input", None):
        source = tmp_path / "other.zarr"
        shutil.copytree(ome_input, source)
    with pytest.raises(ConfigError, match=message) as raised:
        predictor(changed.pop("network", None), **changed)(source, tmp_path / "out", **call)
    assert str(tmp_path / "out") in str(raised.value)
    assert tree(tmp_path / "out") == before


def test_a_changed_input_is_refused(tmp_path):
    volume(tmp_path / "in.zarr")
    predictor()(tmp_path / "in.zarr", tmp_path / "out")
    zarr.open_array(tmp_path / "in.zarr", mode="r+")[0, 0, 0] = 0
    with pytest.raises(ConfigError, match=r"settings \(input\.chunks: there"):
        predictor()(tmp_path / "in.zarr", tmp_path / "out")


def test_the_first_of_several_settings_stays(tmp_path):
    ProgressManifest(tmp_path).begin({"a": 1})
    ProgressManifest(tmp_path).begin({"a": 1})
    with pytest.raises(ConfigError, match="a: there 1, now 2"):
        ProgressManifest(tmp_path).begin({"a": 2})
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["settings.json"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    volume(folder / "in.zarr", (20, 20, 20))
    for shards in (None, 16):
        predictor(pyramid_levels=1, shard_size=shards, block_size=16)(folder / "in.zarr", folder / f"out {shards}")
    return folder


def flip_a_bit(chunk):
    content = bytearray(chunk.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    chunk.write_bytes(content)


def truncate(chunk):
    chunk.write_bytes(chunk.read_bytes()[: random.randrange(chunk.stat().st_size)])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, lambda chunk: chunk.unlink()], ids=["flip", "cut", "missing"])
@pytest.mark.parametrize("shards", [None, 16], ids=["chunks", "shards"])
def test_damage_is_found_and_repaired(finished, tmp_path, shards, damage):
    output = tmp_path / "out"
    shutil.copytree(finished / f"out {shards}", output)
    assert ZarrPrediction(output).verify() == []
    chunks = sorted(path for path in output.glob("*.zarr/*/c/**/*") if path.is_file())
    for chunk in random.Random(shards).sample(chunks, 8):
        whole = chunk.read_bytes()
        damage(chunk)
        problems = ZarrPrediction(output).verify()
        assert len(problems) == 1
        assert chunk.relative_to(output).parts[0] in problems[0].path
        chunk.write_bytes(whole)
    damage(chunks[0])
    damage(chunks[-1])
    assert len(ZarrPrediction(output).verify(repair=True)) == 2
    assert len(ZarrPrediction(output).missing_blocks()) == 1
    predictor(pyramid_levels=1, shard_size=shards, block_size=16)(finished / "in.zarr", output)
    assert tree(output) == tree(finished / f"out {shards}")


def test_a_changed_byte_in_zarr_v2_is_found_though_it_can_be_decoded(tmp_path):
    volume(tmp_path / "in.zarr", (16, 16, 16))
    predictor(zarr_format=2, block_size=16)(tmp_path / "in.zarr", tmp_path / "out")
    assert ZarrPrediction(tmp_path / "out").verify() == []
    # the other target's chunks hold one value, and so hardly more than header and checksum
    chunk = tmp_path / "out" / "normals.zarr" / "0" / "0" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    for at in range(20, len(whole) - 4, len(whole) // 20):  # behind the header, in front of the checksum
        chunk.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert len(ZarrPrediction(tmp_path / "out").verify()) == 1


def test_a_block_is_on_the_disk_before_it_is_recorded(tmp_path, monkeypatch):
    volume(tmp_path / "in.zarr", (16, 16, 16))
    flushed, recorded = [], []
    flush, record = os.fsync, ProgressManifest.record

    def fsync(handle):
        flushed.append(os.readlink(f"/proc/self/fd/{handle}"))
        flush(handle)

    def checked(self, block, content):
        chunks = [
            str(tmp_path / "out" / f"{name}.zarr" / key) for name, keys in content["chunks"].items() for key in keys
        ]
        recorded.append(set(chunks) <= set(flushed))
        record(self, block, content)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(ProgressManifest, "record", checked)
    predictor(block_size=16)(tmp_path / "in.zarr", tmp_path / "out")
    assert recorded == [True]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_a_file_system_without_hard_links_is_named(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "link", failing(number))
    with pytest.raises(WriteError, match=f"could not write .*/ledger/settings.json: {os.strerror(number)}; .* folder"):
        ProgressManifest(tmp_path).begin({"a": 1})
    assert os.listdir(tmp_path / "ledger") == []


def test_an_output_without_locks_is_named(tmp_path, monkeypatch):
    manifest = ProgressManifest(tmp_path)
    manifest.begin({"a": 1})
    monkeypatch.setattr("monai_ext.inferers.streaming.folder.fcntl.flock", failing(errno.ENOLCK))
    with pytest.raises(WriteError, match=r"ledger/\.lock: No locks available; its file system"), manifest.alone():
        pass


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("sftp://host/out", "must be a folder, or in an object store"),
        ("https://host/out", "must be a folder, or in an object store"),
        ("FTP://host/out", "the output must be a folder, or in an object store"),
        (Path("s3://bucket/out"), "a URL as a Path has lost a slash"),
    ],
    ids=str,
)
def test_what_keeps_no_promises_is_refused_as_output(ome_input, tmp_path, monkeypatch, output, message):
    monkeypatch.chdir(tmp_path)
    for use in (lambda: predictor()(ome_input, output), lambda: ZarrPrediction(output)):
        with pytest.raises(ConfigError, match=message):
            use()
    assert not list(tmp_path.iterdir())


def test_an_evaluator_refuses_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="an evaluator writes to a folder"):
        ZarrInferer("memory://out", roi_size=ROI)
    assert not list(tmp_path.iterdir())


def test_a_lost_record_is_computed_again(finished, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(finished / "out None", output)
    (output / "ledger" / "blocks" / "00000003.json").unlink()
    (output / "ledger" / "blocks" / "00000005.json").write_text("")
    (problem,) = ZarrPrediction(output).verify(repair=True)
    assert (problem.path, problem.message[:14]) == (str(output / "ledger/blocks/00000005.json"), "not valid JSON")
    done = predictor(pyramid_levels=1, block_size=16)(finished / "in.zarr", output)
    assert (done.blocks, done.ready, done.complete) == (2, 6, True)
    assert tree(output) == tree(finished / "out None")


def test_records_without_their_settings_prove_nothing(finished, tmp_path, caplog):
    output = tmp_path / "out"
    shutil.copytree(finished / "out None", output)
    (output / "ledger" / "settings.json").unlink()
    done = predictor(TwoHeads(seed=1), pyramid_levels=1, block_size=16)(finished / "in.zarr", output)
    assert (done.blocks, done.ready) == (8, 0)
    assert "settings.json is lost; all blocks are computed again" in caplog.text
    predictor(TwoHeads(seed=1), pyramid_levels=1, block_size=16)(finished / "in.zarr", tmp_path / "other")
    assert tree(output) == tree(tmp_path / "other")


def test_a_folder_without_a_prediction_is_named(tmp_path):
    with pytest.raises(DataError, match=r"settings\.json: file not found"):
        ZarrPrediction(tmp_path)


def test_the_records_name_the_chunks(finished):
    record = json.loads((finished / "out None" / "ledger" / "blocks" / "00000000.json").read_text())
    assert len(record["chunks"]["sheet"]) == 8
    assert "0/c/1/1/1" in record["chunks"]["sheet"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"SLURM_JOB_ID": "12", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}, (2, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_COUNT": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "4",
            },
            (5, 8),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "9",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "13",
                "SLURM_ARRAY_TASK_STEP": "4",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            (2, 4),
        ),
    ],
    ids=["alone", "torchrun", "srun", "script of a batch job", "array", "array of several tasks", "array in steps"],
)
def test_a_launcher_gives_the_shard(environment, expected):
    assert shard_of_launcher(environment) == expected


def test_each_task_of_a_list_takes_its_own_shard_and_the_same_again(tmp_path, monkeypatch):
    """``sbatch --array=3,7,8``: SLURM tells a task its number, the first, the last and the count."""
    volume(tmp_path / "in.zarr")
    array = {"JOB_ID": "99", "TASK_MIN": "3", "TASK_MAX": "8", "TASK_COUNT": "3", "TASK_STEP": "1"}
    for name, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_{name}", value)
    done = []
    for task in ("7", "3", "7", "8"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        done.append(predictor()(tmp_path / "in.zarr", tmp_path / "out"))
    assert [each.blocks for each in done] == [15, 15, 0, 15]
    assert [each.complete for each in done] == [False, False, False, True]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    with pytest.raises(ConfigError, match="more than 3 tasks of job 99"):
        predictor()(tmp_path / "in.zarr", tmp_path / "out")


def test_a_launcher_s_number_must_be_one():
    with pytest.raises(ConfigError, match="SLURM_PROCID must be a number"):
        shard_of_launcher({"SLURM_PROCID": "a"})


@pytest.mark.parametrize("kind", ["array", "image"])
@pytest.mark.parametrize("zarr_format", [3, 2])
def test_what_no_prediction_wrote_is_not_overwritten(tmp_path, kind, zarr_format):
    """Labels are called like their targets: ``--output`` in the folder of a training set would replace them."""
    values = volume(tmp_path / "input.zarr", (9, 14, 14))
    if kind == "image":
        zarr.create_group(tmp_path / "sheet.zarr", zarr_format=zarr_format)
    place = tmp_path / "sheet.zarr" / ("0" if kind == "image" else "")
    zarr.create_array(place, data=values, zarr_format=zarr_format)
    with pytest.raises(ConfigError, match=r"sheet\.zarr: is there already, without the ledger"):
        predictor()(tmp_path / "input.zarr", tmp_path)
    np.testing.assert_array_equal(zarr.open_array(place, mode="r")[...], values)
    assert not (tmp_path / "ledger").exists()
