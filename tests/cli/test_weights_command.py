"""``weights BUNDLE`` lists public files, downloads and imports them, and keeps none that isn't the published one."""

import hashlib
import io

import pytest
import torch
import typer
import yaml
from file_server import file_server
from monai.bundle import download_large_files
from typer.testing import CliRunner

from monai_ext.cli.weights import weights
from monai_ext.errors import ConfigError, WeightsError

app = typer.Typer()
app.command()(weights)
PATH = "models/net.pth"


def saved(value):
    file = io.BytesIO()
    torch.save({"weight": torch.full((3,), float(value))}, file)
    return file.getvalue()


CONTENT = saved(1)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with file_server(CONTENT) as found:
        yield found


@pytest.fixture
def bundle(tmp_path, server):
    """Writes a bundle's large_files.yml; gives its folder."""

    def write(path=PATH, notes=None, **entry):
        root = tmp_path / "bundle"
        (root / "configs").mkdir(parents=True, exist_ok=True)
        content = {"large_files": [{"path": path, "url": server.url, **entry}]}
        if notes is not None:
            content["notes"] = [{"path": path, **notes}]
        (root / "large_files.yml").write_text(yaml.safe_dump(content))
        return root

    return write


def call(root, *words):
    words = ["b", "--bundle_root", str(root), *map(str, words)]
    return CliRunner().invoke(app, words, catch_exceptions=False).stdout


def test_the_list_has_what_one_should_know_before(bundle, server):
    root = bundle(notes={"size": "1 kB", "licence": "MIT", "leakage": "your cases", "use": "--dilated True"})
    assert call(root).splitlines() == [
        "net.pth, 1 kB",
        f"  file:     {server.url}",
        "  licence:  MIT",
        "  leakage:  your cases",
        "  hash:     no published hash is known, so that nothing but its format is checked",
        f"  use:      --pretrained_path {root / PATH} --dilated True",
    ]
    assert server.ranges == []


@pytest.mark.parametrize(
    ("entry", "notes", "said"),
    [
        ({"hash_val": DIGEST, "hash_type": "sha256"}, None, "checked by the published sha256."),
        ({"hash_val": hashlib.md5(CONTENT).hexdigest()}, None, "checked by the published md5."),
        ({}, {"sha256_begins": DIGEST[:8]}, "checked by the published sha256 (8 digits)."),
        ({}, None, "no published hash is known, so that nothing but its format is checked."),
    ],
    ids=["sha256", "md5, MONAI's default", "first digits", "none"],
)
def test_a_right_file_is_downloaded_once(bundle, server, entry, notes, said):
    root = bundle(notes=notes, **entry)
    for _ in range(2):
        line, use = call(root, "--get", "net.pth").splitlines()
        assert line == f"{root / PATH}: complete; {said} Its sha256 is {DIGEST}"
        assert use == f"start from it with --pretrained_path {root / PATH}"
    assert (root / PATH).read_bytes() == CONTENT
    assert server.ranges == [None]
    assert "file:     here" in call(root)


def test_an_interrupted_download_goes_on_and_is_checked_as_a_whole(bundle, server):
    root = bundle(hash_val=DIGEST, hash_type="sha256")
    server.ends_after = 100
    with pytest.raises(WeightsError, match="ended after 100 of"):
        call(root, "--get", "net.pth")
    assert not (root / PATH).exists()
    server.ends_after = None
    call(root, "--get", "net.pth")
    assert server.ranges == [None, "bytes=100-"]
    assert (root / PATH).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("entry", "notes"),
    [({"hash_val": DIGEST, "hash_type": "sha256"}, None), ({}, {"sha256_begins": DIGEST[:8]})],
    ids=["sha256", "first digits"],
)
def test_a_wrong_hash_is_refused_and_nothing_kept(bundle, server, entry, notes):
    root = bundle(notes=notes, **entry)
    server.content = saved(2)
    with pytest.raises(WeightsError, match=rf"net\.pth: is another file .* should begin with {DIGEST[:8]}"):
        call(root, "--get", "net.pth")
    assert list((root / "models").iterdir()) == []


def test_a_web_page_in_place_of_a_file_without_a_hash_is_refused(bundle, server):
    root = bundle()
    server.content = b"<html>please log in</html>"
    with pytest.raises(WeightsError, match=r"net\.pth: is no checkpoint that loads safely; was a web page saved"):
        call(root, "--get", "net.pth")
    assert list((root / "models").iterdir()) == []


def test_a_file_is_imported_offline(bundle, server, tmp_path):
    root = bundle(hash_val=DIGEST, hash_type="sha256")
    (tmp_path / "net.pth").write_bytes(saved(2))
    with pytest.raises(WeightsError, match="is another file"):
        call(root, "--import", tmp_path / "net.pth")
    assert list((root / "models").iterdir()) == []
    (tmp_path / "net.pth").write_bytes(CONTENT)
    assert "checked by the published sha256" in call(root, "--import", tmp_path / "net.pth")
    assert (root / PATH).read_bytes() == CONTENT
    assert server.ranges == []
    with pytest.raises(WeightsError, match=r"--import .*none\.pth: file not found"):
        call(bundle("models/none.pth"), "--import", tmp_path / "none.pth")


def test_a_file_that_lies_in_its_place_is_checked_and_left_there(bundle):
    root = bundle(hash_val=DIGEST, hash_type="sha256")
    (root / PATH).parent.mkdir()
    (root / PATH).write_bytes(saved(2))
    for words in (["--import", root / PATH], ["--get", "net.pth"]):
        with pytest.raises(WeightsError, match=r"is another file .*\. Remove .*net\.pth first"):
            call(root, *words)
    assert (root / PATH).read_bytes() == saved(2)


def test_a_file_without_a_public_address_is_imported_only(bundle, tmp_path):
    root = bundle()
    (root / "large_files.yml").write_text(yaml.safe_dump({"large_files": [], "notes": [{"path": PATH}]}))
    assert "file:     no public address" in call(root)
    with pytest.raises(WeightsError, match=r"net\.pth: has no public address; get it from its authors"):
        call(root, "--get", "net.pth")
    (tmp_path / "net.pth").write_bytes(CONTENT)
    call(root, "--import", tmp_path / "net.pth")
    assert (root / PATH).read_bytes() == CONTENT


def test_a_name_that_isn_t_listed_and_two_wishes_at_once_are_errors(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"other\.pth: is no listed file of b \(net\.pth\)"):
        call(bundle(), "--get", "other.pth")
    with pytest.raises(ConfigError, match="give one of them"):
        call(bundle(), "--get", "net.pth", "--import", "net.pth")


def test_a_bundle_without_public_files_says_so(tmp_path):
    (tmp_path / "configs").mkdir()
    assert "no public file is known" in call(tmp_path)


def test_monai_s_own_program_downloads_the_same_files(bundle):
    root = bundle(notes={"licence": "MIT"}, hash_val=DIGEST, hash_type="sha256")
    download_large_files(bundle_path=str(root))
    assert (root / PATH).read_bytes() == CONTENT
