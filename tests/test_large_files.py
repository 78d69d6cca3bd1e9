"""Bundles' ``large_files.yml``: MONAI's format, with notes, and nothing that reaches out of the bundle."""

import re
from pathlib import Path

import pytest
import yaml

from monai_ext.errors import ConfigError
from monai_ext.large_files import large_files

BUNDLES = Path(__file__).parents[1] / "bundles"
SHIPPED = sorted(BUNDLES.glob("*/large_files.yml"))


def write(folder, text):
    (folder / "large_files.yml").write_text(text)
    return folder


@pytest.mark.parametrize("path", [pytest.param(path, id=path.parent.name) for path in SHIPPED])
def test_shipped_files_are_in_monai_s_format_with_licence_and_leakage(path):
    content = yaml.safe_load(path.read_text())
    for entry in content["large_files"]:
        # MONAI hands each entry to a function as it is.
        assert list(entry) == ["path", "url", "hash_val", "hash_type"]
        assert entry["url"].endswith("/" + Path(entry["path"]).name)
    found = large_files(path.parent)
    assert found
    for file in found:
        assert file.path.parent == path.parent / "models"
        assert {"source", "licence", "leakage"} <= set(file.texts)
        # torchvision's names end in the first digits of the hash.
        named = re.search(r"-([0-9a-f]{8})\.pth$", file.path.name)
        assert file.digest == (named[1] if named else "")


def test_there_are_shipped_ones():
    assert {path.parent.name for path in SHIPPED} == {path.name for path in BUNDLES.iterdir()} - {"surface_unet"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "has no list large_files"),
        ("a: 1", "has no list large_files"),
        ("large_files: [{url: 'https://x/y'}]", "has no list large_files"),
        ("large_files: [{path: ../y, url: 'https://x/y'}]", r"\.\./y lies outside of the bundle"),
        ("large_files: [{path: /y, url: 'https://x/y'}]", "/y lies outside of the bundle"),
        ("large_files: [{path: y, url: 'file:///y'}]", "must begin with https:// or http://, got 'file:///y'"),
        ("large_files: [{path: y}]", "must begin with https:// or http://, got ''"),
        ("large_files: [{path: y, url: 'https://x/y', hash_val: a, hash_type: crc}]", "hash_type must be one of md5"),
    ],
)
def test_what_can_t_be_used_is_an_error_with_the_file(tmp_path, text, message):
    with pytest.raises(ConfigError, match=rf"large_files\.yml: .*{message}"):
        large_files(write(tmp_path, text))


def test_a_bundle_without_the_file_has_none(tmp_path):
    assert large_files(tmp_path) == []
