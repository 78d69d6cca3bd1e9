"""`check`, `prepare` and `extract-slices` on a Dask cluster do what they do on one machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from monai_ext.cli.app import app
from monai_ext.ct_rate.demo import make_demo
from monai_ext.errors import ConfigError


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return result.stdout + result.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def cluster(request):
    distributed = pytest.importorskip("distributed")
    options = {"processes": request.param == "processes", "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("ct") / "data", counts=(8, 2))


@pytest.fixture(scope="module")
def damaged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an empty volume."""
    root = shutil.copytree(data, tmp_path_factory.mktemp("damaged") / "data")
    next(root.rglob("train_2_*.nii.gz")).write_bytes(b"")
    return root


def test_the_check_finds_the_same(cluster, damaged: Path) -> None:
    words = ("check", "ct_rate_multilabel", "--dataset_dir", damaged)
    alone = run(*words)
    assert "is empty" in alone
    assert run(*words, "--dask", cluster) == alone


def test_extracted_slices_are_the_same_bytes(cluster, damaged: Path, tmp_path: Path, monkeypatch) -> None:
    words = ("extract-slices", "--dataset_dir", damaged, "--size", 32, "--metadata", "optional", "--output")
    problems = run(*words, tmp_path / "one", "--workers", 1)
    assert "is empty" in problems
    monkeypatch.chdir(tmp_path)
    assert run(*words, "two", "--dask", cluster) == problems.replace(str(tmp_path / "one"), "two")
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_prepared_volumes_are_the_same(cluster, data: Path, tmp_path: Path) -> None:
    words = ("prepare", "ct_rate_multilabel", "--dataset_dir", data, "--num_folds", 2, "--slice_size", 32, "--output")
    assert "cases prepared, 0 were ready" in run(*words, tmp_path / "one", "--workers", 1)
    assert "cases prepared, 0 were ready" in run(*words, tmp_path / "two", "--dask", cluster)
    # torch.save writes the temporary file's name into the file.
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two]
    for left, right in zip(one, two, strict=True):
        left_item, right_item = (torch.load(path, weights_only=True) for path in (left, right))
        assert torch.equal(left_item.pop("image"), right_item.pop("image"))
        assert str(left_item) == str(right_item)


def test_a_cluster_and_a_number_of_workers_exclude_each_other(data: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        run("check", "ct_rate_multilabel", "--dataset_dir", data, "--workers", 2, "--dask", "tcp://127.0.0.1:9")
