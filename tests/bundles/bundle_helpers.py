"""What the tests of several bundles need."""

import csv
import json

from typer.testing import CliRunner

from monai_ext.cli.app import app

# In place of the 46 million parameters of `brats_resnet50`, which its demo and the emulated device train.
SMALL_RESNET = {
    "_target_": "resnet10",
    "spatial_dims": 3,
    "n_input_channels": 1,
    "num_classes": 2,
    "widen_factor": 0.25,
    "conv1_t_stride": 2,
}


def user_error(error):
    """What MONAI wraps in layers of "Failed to ..."."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def rows_of(path):
    """Rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_demo(bundle, root):
    """One command from made-up data to exports; the folders of data and runs."""
    words = ["demo", bundle, "--dataset_dir", root / "data", "--output_dir", root / "runs"]
    words += ["--tracking_uri", "none", "--plot_every", "0"]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return root / "data", root / "runs"


def only_run(folder):
    (run_folder,) = folder.glob("fold_1/run_*")
    return run_folder


def evaluation(folder):
    (path,) = folder.glob("evaluation/fold_1/run_*/metrics/metrics.json")
    return json.loads(path.read_text())
