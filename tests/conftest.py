import contextlib
import gc
import logging
import multiprocessing.util
import os
import sys
import tempfile

import pytest
from empty_figures import save_empty
from hypothesis import settings

# absl, which OpenVINO and TensorBoard import, closes what was standard error then as soon as logging is configured
# anew; that must not be pytest's.
with contextlib.redirect_stderr(sys.__stderr__):
    import absl.logging  # noqa: F401

# A first example imports MONAI, and the machine may be busy.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Two OpenMP threads per test process fight for two cores with whatever else runs; small tensors need only one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """What is there before the first test stays: collections of garbage needn't look at it again and again, nor after
    every 700 new objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An MLflow store without runs. MLflow takes seconds to make one, and a copy is as good."""
    from monai_ext.handlers.mlflow_store import make_sound

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    make_sound(database)
    return database


@pytest.fixture(scope="session", autouse=True)
def _nothing_left(tmp_path_factory):
    """What libraries put into the folder for temporary files (MLflow its downloads, killed processes their sockets)
    goes with the session.
    """
    tmp_path_factory.getbasetemp()  # pytest's own stays where it is
    multiprocessing.util.get_temp_dir()  # and that of multiprocessing, which removes it as the interpreter ends
    with (
        tempfile.TemporaryDirectory(prefix="tests-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch):
    """Tests must not depend on a tracking server or a launcher of the shell they run in."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MONAI_EXT_DEBUG")
    for name in [*names, *(name for name in os.environ if name.startswith("SLURM_"))]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_closed_handlers():
    """A bundle's ``logging.conf`` sets a handler on standard output, which a `CliRunner` closes as it ends: whatever is
    logged later would be an error that tests find in other outputs.
    """
    yield
    for handler in logging.getLogger().handlers[:]:
        if isinstance(handler, logging.StreamHandler) and handler.stream.closed:
            logging.getLogger().removeHandler(handler)


# Folders and modules whose tests train or write reports again and again. Rendering, which takes longer than a small
# training, is tested with the figures, and by the training that the tests of a bundle share (made before this fixture).
_UNRENDERED = {
    *("bundles", "engines", "handlers", "spine"),
    *("test_html.py", "test_instances.py", "test_masks_best.py", "test_multi_label_best.py"),
    "test_multi_label_report.py",
}


@pytest.fixture(autouse=True)
def _unrendered(request, monkeypatch):
    """Figures are saved as empty ones where rendering isn't what is tested; ``pytest.mark.rendered`` for a test."""
    if not _UNRENDERED.intersection(request.path.parts) or request.node.get_closest_marker("rendered"):
        return
    save_empty(monkeypatch.setattr)
