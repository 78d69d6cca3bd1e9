"""What a prediction says before it begins, and while it runs."""

import gc
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tqdm
import zarr
from zarr_helpers import TwoHeads, predictor, volume

from monai_ext.allocator import keep_freed_memory
from monai_ext.errors import ConfigError
from monai_ext.inferers.streaming import estimate as module
from monai_ext.inferers.streaming.waits import Waits

BOX = ((3, 30), (0, 18), (4, 11))


@pytest.mark.slow
@pytest.mark.parametrize("call", [{}, {"bbox": BOX}], ids=["whole", "box"])
def test_the_estimate_is_what_is_done_then(tmp_path, call):
    volume(tmp_path / "in.zarr")
    network = TwoHeads()
    predict = predictor(network)
    found = predict.estimate(tmp_path / "in.zarr", tmp_path / "out", **call)
    assert not (tmp_path / "out").exists()
    network.calls = 0
    done = predict(tmp_path / "in.zarr", tmp_path / "out", **call)
    assert network.calls == found.batches
    arrays = [zarr.open_array(tmp_path / "out" / f"{name}.zarr" / "0", mode="r") for name in ("sheet", "normals")]
    if not call:
        assert found.blocks == done.blocks == 45
        assert found.written == sum(array.nbytes for array in arrays)
        # a column's sides are read for its neighbours, too
        assert 1 < found.read / (37 * 41 * 33) < 3.5
    left = predict.estimate(tmp_path / "in.zarr", tmp_path / "out", **call)
    assert (left.blocks, left.windows, left.read, left.written) == (0, 0, 0, 0)


def test_time_and_memory_are_those_of_a_measured_batch(tmp_path, monkeypatch):
    volume(tmp_path / "in.zarr")
    peaks, clock = iter((1000, 5000)), iter((10.0, 12.0))
    monkeypatch.setattr(module, "_peak", lambda device: next(peaks))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = predictor().estimate(tmp_path / "in.zarr", tmp_path / "out")
    assert found.seconds == 2 * found.batches
    # sums of (8 + 8) · 16 · 16 voxels, four channels and the weights, in float32
    assert found.on_device == 16 * 16 * 16 * 5 * 4 + 4000
    assert re.search(r"windows  \d+ in \d+ batches\n(.*\n)*memory .*\ntime     \d+ h \d+ min", str(found))


@pytest.mark.slow
def test_the_memory_of_a_batch_is_measured_whatever_was_needed_before(tmp_path):
    class Wide(TwoHeads):
        def forward(self, x):
            gc.collect()
            return {name: logits + x.new_ones(2**25).sum() for name, logits in super().forward(x).items()}

    volume(tmp_path / "in.zarr")
    keep_freed_memory()  # as every run does
    np.ones(2**27, np.uint8)
    gc.disable()
    try:
        cycle = [np.ones(2**28, np.uint8)]
        cycle.append(cycle)
        del cycle
        found = predictor(Wide(), device="cpu").estimate(tmp_path / "in.zarr", tmp_path / "out")
    finally:
        gc.enable()
    assert found.on_device > 2**26


@pytest.mark.slow
def test_what_cannot_fit_is_refused(tmp_path, monkeypatch):
    volume(tmp_path / "in.zarr")
    monkeypatch.setattr(module, "free_memory", lambda device: 2**29)
    with pytest.raises(ConfigError, match=r"needs 1\.\d\d GiB of memory on cpu, where 0\.50 GiB are free; take a"):
        predictor().estimate(tmp_path / "in.zarr", tmp_path / "out")
    predictor(input_cache_gib=0).estimate(tmp_path / "in.zarr", tmp_path / "out")


def test_a_batch_that_does_not_fit_is_refused(tmp_path):
    class Full(TwoHeads):
        def forward(self, x):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 26214400000 bytes.")

    volume(tmp_path / "in.zarr")
    with pytest.raises(ConfigError, match="a batch of 4 windows doesn't fit the memory of cpu; take a smaller batch_s"):
        predictor(Full(), device="cpu").estimate(tmp_path / "in.zarr", tmp_path / "out")


def test_other_settings_than_those_of_the_output_are_refused_before(tmp_path):
    volume(tmp_path / "in.zarr")
    predictor().job(tmp_path / "in.zarr", tmp_path / "out")
    with pytest.raises(ConfigError, match="overlap: there"):
        predictor(overlap=0.5).estimate(tmp_path / "in.zarr", tmp_path / "out")


def test_the_bar_says_who_is_waited_for(tmp_path, monkeypatch):
    shown, waited, on = [], set(), Waits.on

    class Bar(tqdm.tqdm):
        def set_postfix_str(self, text, refresh):
            shown.append(text)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(Waits, "on", lambda self, who: waited.add(who) or on(self, who))
    volume(tmp_path / "in.zarr", (37, 16, 16))
    predictor()(tmp_path / "in.zarr", tmp_path / "out")
    assert waited == {"network", "reader", "writer"}
    assert re.fullmatch(r"waits for network \d+%, reader \d+%, writer \d+%", shown[-1])


def test_shares_are_those_of_the_whole_time(monkeypatch):
    clock = iter((0.0, 1.0, 3.0, 4.0, 5.0, 8.0))
    monkeypatch.setattr("monai_ext.inferers.streaming.waits.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    waits = Waits()
    with waits.on("reader"):
        pass
    with waits.on("network"):
        pass
    assert str(waits) == "waits for network 12%, reader 25%, writer 0%"
