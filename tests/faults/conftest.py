import subprocess
import sys
from pathlib import Path

import pytest

from monai_ext.demo.brats import make_demo

CONFIGS = Path(__file__).parents[2] / "bundles" / "brats_resnet50" / "configs"


@pytest.fixture(scope="session")
def brats_data(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("brats"), counts=(5, 8))


# A narrow ResNet-10 instead of 46 million parameters, whose checkpoints would fill a disk in these tests.
NETWORK = {
    "_target_": "resnet10",
    "spatial_dims": 3,
    "n_input_channels": 1,
    "num_classes": 2,
    "widen_factor": 0.25,
    "conv1_t_stride": 2,
}


class Training:
    """Command lines of short trainings with a small network, as a user types them."""

    def __init__(self, data, folder):
        self.data, self.folder = data, folder

    def command(self, output, *overrides, launcher=(sys.executable,), overlay=""):
        settings = {
            "dataset_dir": self.data,
            "cache_dir": self.folder / "cache",
            "output_dir": self.folder / output,
            "num_folds": 3,
            "image_size": 32,
            "batch_size": 4,
            "max_epochs": 3,
            "drw_start_epoch": 2,
            "plot_every": 0,
            "channels_last": False,
            "tracking_uri": "none",
            "num_workers": 0,
            "network_def": NETWORK,
        }
        given = dict(zip(overrides[::2], overrides[1::2], strict=True))
        files = f"['{CONFIGS / 'train.json'}'{overlay}]"
        words = [*launcher, "-m", "monai.bundle", "run", "--config_file", files]
        for key, value in {**settings, **{key.removeprefix("--"): value for key, value in given.items()}}.items():
            words += [f"--{key}", str(value)]
        return words

    def start(self, output, *overrides, **options):
        return subprocess.Popen(
            self.command(output, *overrides, **options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
        )

    def run(self, output, *overrides, **options):
        return subprocess.run(
            self.command(output, *overrides, **options),
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=900,
            check=False,
        )

    def only_run(self, output, fold=1):
        (run,) = (self.folder / output / f"fold_{fold}").glob("run_*")
        return run


@pytest.fixture(scope="module")
def training(brats_data, tmp_path_factory):
    return Training(brats_data, tmp_path_factory.mktemp("faults"))
