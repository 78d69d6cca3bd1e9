"""`surface_unet` on a volume far larger than memory, of which only some corners exist."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import zarr

pytestmark = pytest.mark.slow
SHAPE, CHUNK, EDGE = (2048, 4096, 4096), 128, 96


@pytest.fixture
def corners(tmp_path):
    """64 GiB of grey values as uint16, 32 GiB of labels and 192 GiB of normals, all but eight corners never written."""
    scroll = tmp_path / "data" / "scroll"
    options = {"chunks": (CHUNK,) * 3, "fill_value": 0}
    image = zarr.create_array(scroll / "input.zarr", shape=SHAPE, dtype="uint16", **options)
    sheet = zarr.create_array(scroll / "sheet.zarr", shape=SHAPE, dtype="uint8", **options)
    options["chunks"] = (*options["chunks"], 3)
    normals = zarr.create_array(scroll / "normals.zarr", shape=(*SHAPE, 3), dtype="uint16", **options)
    assert image.nbytes == 64 * 2**30
    rng = np.random.default_rng(0)
    layers = np.broadcast_to(np.arange(EDGE)[:, None, None] % 6 < 3, (EDGE,) * 3)
    for corner in itertools.product(*((0, length - CHUNK) for length in SHAPE)):
        place = tuple(slice(start, start + EDGE) for start in corner)
        image[place] = (layers * 20000 + rng.integers(0, 9000, layers.shape)).astype(np.uint16)
        sheet[place] = layers * np.uint8(255)
        normals[place] = layers[..., None] * np.array([32768, 32768, 65535], np.uint16)
    return tmp_path / "data"


def test_64_gib_are_scanned_and_trained_on_in_less_than_3_gb(corners, surface_configs, tmp_path):
    files = [str(surface_configs / name) for name in ("train.json", "demo.json")]
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    settings = {
        "dataset_dir": corners,
        "output_dir": tmp_path / "runs",
        "max_epochs": 1,
        "max_train_batches": 5,
        "max_val_batches": 2,
        "num_workers": 0,
        "tracking_uri": "none",
    }
    words += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    # A process inherits the peak of the one that starts it: here that of all tests before.
    between = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", between, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stderr.splitlines()[-1]) / 2**20
    print(f"peak resident set: {peak:.2f} GiB")
    assert peak > 0.3
    assert peak * 2**30 < 3e9
    (path,) = (tmp_path / "runs").glob("fold_1/run_*/metrics/metrics.json")
    metrics = json.loads(path.read_text())
    assert len(metrics["history"]) == 1
    patches = json.loads((tmp_path / "runs" / "index" / "patches.json").read_text())
    assert len({tuple(np.array(patch["start_pos"]) // 1024) for patch in patches}) == 8
