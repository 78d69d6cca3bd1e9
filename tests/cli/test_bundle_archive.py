"""A bundle as one file, and what is said where there are no bundles."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_ext.bundle_archive import zip_bundle
from monai_ext.cli.app import app
from monai_ext.errors import ConfigError
from monai_ext.settings import command_line

LARGE = {"path": "models/public.pth", "url": "https://example.org/public.pth", "hash_val": "", "hash_type": "sha256"}


@pytest.fixture
def bundle(tmp_path):
    root = tmp_path / "mine"
    for name in ("configs/train.json", "docs/README.md", "models/model.pt", "models/public.pth", "models/.gitkeep"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "configs" / "metadata.json").write_text(json.dumps({"version": "1.2.3"}))
    (root / "large_files.yml").write_text(json.dumps({"large_files": [LARGE]}))
    for name in ("scripts/__pycache__/a.pyc", "runs/run_1/run.json", "models/.model.pt.partial_1"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_the_release_asset_has_what_is_the_bundles_own(bundle, tmp_path) -> None:
    done = CliRunner().invoke(app, ["bundle", "zip", str(bundle), "--output", str(tmp_path / "assets")])
    path = tmp_path / "assets" / "mine_v1.2.3.zip"
    assert (done.exit_code, done.output.replace("\n", "")) == (0, str(path))
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {
            *("mine/configs/metadata.json", "mine/configs/train.json", "mine/docs/README.md", "mine/large_files.yml"),
            *("mine/models/.gitkeep", "mine/models/model.pt"),
        }
        assert archive.read("mine/models/model.pt") == b"models/model.pt"


def test_the_same_files_give_the_same_bytes(bundle, tmp_path) -> None:
    first = zip_bundle(bundle, tmp_path / "1").read_bytes()
    os.utime(bundle / "docs" / "README.md", (0, 0))
    assert zip_bundle(bundle, tmp_path / "2").read_bytes() == first


def test_a_folder_that_is_no_bundle_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"is no bundle, as it has no configs/metadata\.json"):
        zip_bundle(tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_installed_package_without_bundles_says_where_they_come_from(tmp_path, monkeypatch) -> None:
    package = tmp_path / "site-packages" / "monai_ext" / "settings" / "command_line.py"
    monkeypatch.setattr(command_line, "__file__", str(package))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(app, ["demo", "brats_resnet50"], catch_exceptions=False)
    assert str(caught.value) == (
        "no bundle 'brats_resnet50': the package comes without bundles; unpack brats_resnet50_v*.zip, an asset of the "
        "release (a checkout writes it: python -m monai_ext bundle zip brats_resnet50), into bundles/, or give its "
        "folder by --bundle_root"
    )
    assert not Path("data").exists()


def test_a_misspelt_bundle_of_a_checkout_is_still_told_by_its_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no bundle 'brats_resnet5'; did you mean"):
        command_line.find_bundle("brats_resnet5")
