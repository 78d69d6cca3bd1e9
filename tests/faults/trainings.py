"""Short trainings of the bundles in processes of their own."""

import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from empty_figures import save_empty
from fork_server import Forked

BUNDLES = Path(__file__).parents[2] / "bundles"

# Small networks instead of 46 and 5 million parameters, whose checkpoints would fill a disk in these tests.
BRATS = {
    "num_folds": 3,
    "image_size": 32,
    "batch_size": 4,
    "max_epochs": 3,
    "drw_start_epoch": 2,
    "network_def": {
        "_target_": "resnet10",
        "spatial_dims": 3,
        "n_input_channels": 1,
        "num_classes": 2,
        "widen_factor": 0.25,
        "conv1_t_stride": 2,
    },
}
NUCLEI = {
    "num_folds": 2,
    "test_fraction": 0.25,
    "crop_size": 40,
    "margin": 4,
    "fmaps": 4,
    "classifier_size": 16,
    "batch_size": 4,
    "max_epochs": 5,
    "unfreeze_interval": 1,
}
SURFACE = {
    "patch_size": [16, 32, 32],
    "f_maps": [8, 16],
    "batch_size": 2,
    "max_epochs": 4,
    "max_train_batches": 3,
    "max_val_batches": 2,
}
CT = {
    "num_folds": 2,
    "num_slices": 3,
    "slice_size": 32,
    "backbone": "efficientnet_b0",
    "batch_size": 4,
    "max_epochs": 4,
    "max_train_batches": 2,
    "max_val_batches": 2,
    "unfreeze_epoch": 2,
    "unfreeze_interval": 2,
    "cutmix_prob": 0.5,
    "weighted_sampler": True,
}
SPINE = {
    "num_folds": 2,
    "image_size": 32,
    "features": 4,
    "batch_size": 4,
    "max_epochs": 4,
    "max_train_batches": 3,
    "max_val_batches": 2,
    "synthetic_prob": 0.9,
    "synthetic_size": [3, 5],
    "synthetic_val": True,
}
COMMON = {"plot_every": 0, "channels_last": False, "tracking_uri": "none", "num_workers": 0}


class Training:
    """Command lines of short trainings with a small network, as a user types them."""

    def __init__(self, bundle, settings, folder):
        self.configs, self.settings, self.folder = BUNDLES / bundle / "configs", settings, folder

    def command(self, output, *overrides, launcher=(sys.executable,), overlays=()):
        given = {key.removeprefix("--"): value for key, value in zip(overrides[::2], overrides[1::2], strict=True)}
        files = [str(self.configs / name) for name in ("train.json", *overlays)]
        words = [*launcher, "-m", "monai.bundle", "run", "--config_file", str(files)]
        settings = {**COMMON, **self.settings, "output_dir": self.folder / output, **given}
        for key, value in settings.items():
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

    def fork(self, output, *overrides, before=save_empty, environment=None, **options):
        """The same without the seconds of imports and, where ``before`` isn't another function, of rendering."""
        words = self.command(output, *overrides, launcher=(), **options)
        return Forked(words[1:], self.folder, before, environment)

    def fork_ranks(self, output, *overrides, processes=2, **options):
        """To its end in several processes, which meet as those of ``torchrun`` do: in a store that their parent keeps.

        The imports of launcher and processes take longer than the training.
        """
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        found = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
        }
        ranks = [
            self.fork(output, *overrides, environment={**found, "RANK": rank, "LOCAL_RANK": rank}, **options)
            for rank in map(str, range(processes))
        ]
        said = read_all(ranks)
        assert [rank.wait() for rank in ranks] == [0] * processes, "\n".join(said)

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


def wait_for(process, text, timeout=300):
    """Read the output of a training until a line holds ``text``."""
    deadline = time.monotonic() + timeout
    for line in process.stdout:
        if text in line:
            return
        assert time.monotonic() < deadline
    raise AssertionError(f"the process ended without {text!r}")


def kill(training, output, text, *overrides, pause=0.5, **options):
    """Start a training and kill it up to ``pause`` seconds after a line that holds ``text``."""
    process = training.fork(output, "--checkpoint_every", "1", *overrides, **options)
    wait_for(process, text)
    time.sleep(random.uniform(0, pause))
    assert process.poll() is None, "the training was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def read_all(processes):
    """What each has printed at its end; while one's pipe is full it waits, and others may wait for it."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda process: process.stdout.read(), processes))


def told_by(process):
    """The last line of a process that ends with 2, as after a user's error."""
    said = process.stdout.read()
    assert process.wait() == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def finish(training, output, *overrides, **options):
    """Run a training to its end; its run folder."""
    process = training.fork(output, *overrides, **options)
    said = process.stdout.read()
    assert process.wait() == 0, said
    return training.only_run(output)
