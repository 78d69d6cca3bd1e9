"""Downloads go on where they ended, and nothing but a complete and right file has the final name."""

import fcntl
import http.client

import pytest
from file_server import file_server

from monai_ext.download import download
from monai_ext.errors import WeightsError

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def server():
    with file_server(CONTENT) as found:
        yield found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models" / "file.pt"


def anything(file):
    pass


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


def interrupt(server, path, after=300):
    server.ends_after = after
    with pytest.raises(WeightsError, match=r"ended after \d+ of 1024 bytes; give the same command again"):
        download(server.url, path, anything)
    server.ends_after = None


def test_a_file_is_downloaded(server, path):
    assert download(server.url, path, anything) == path
    assert path.read_bytes() == CONTENT
    assert files(path) == ["file.pt"]
    assert path.stat().st_mode & 0o044  # readable for others, as any other file


def test_an_interrupted_download_goes_on(server, path):
    interrupt(server, path)
    assert not path.exists()
    interrupt(server, path)
    download(server.url, path, anything)
    assert server.ranges == [None, "bytes=300-", "bytes=600-"]
    assert path.read_bytes() == CONTENT
    assert files(path) == ["file.pt"]


def test_a_connection_that_breaks_is_an_interruption_too(server, path, monkeypatch):
    real = http.client.HTTPResponse.read
    calls = []

    def read(response, amount=None):
        calls.append(amount)
        if len(calls) == 2:
            raise ConnectionResetError(104, "Connection reset by peer")
        return real(response, 100)

    monkeypatch.setattr(http.client.HTTPResponse, "read", read)
    with pytest.raises(WeightsError, match="the connection was lost"):
        download(server.url, path, anything)
    monkeypatch.undo()
    download(server.url, path, anything)
    assert server.ranges == [None, "bytes=100-"]
    assert path.read_bytes() == CONTENT


def test_the_rest_of_another_file_is_never_appended(server, path):
    interrupt(server, path)
    server.content, server.tag = CONTENT[::-1], '"2"'
    download(server.url, path, anything)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", [None, 'W/"1"'], ids=["no tag", "weak tag"])
def test_a_file_that_can_t_be_recognised_comes_anew(server, path, tag):
    server.tag = tag
    interrupt(server, path)
    download(server.url, path, anything)
    assert server.ranges == [None, None]
    assert path.read_bytes() == CONTENT


def test_a_complete_part_that_was_never_checked_comes_anew(server, path):
    interrupt(server, path)
    (path.parent / ".file.partial.pt").write_bytes(CONTENT)
    download(server.url, path, anything)
    assert server.ranges == [None, "bytes=1024-", None]
    assert path.read_bytes() == CONTENT


def test_a_refused_file_leaves_nothing_and_the_old_one_alone(server, path):
    def refuse(file):
        assert file.read_bytes() == CONTENT
        raise WeightsError("wrong")

    path.parent.mkdir()
    path.write_bytes(b"old")
    with pytest.raises(WeightsError, match="wrong"):
        download(server.url, path, refuse)
    assert path.read_bytes() == b"old"
    assert files(path) == ["file.pt"]


def test_two_processes_never_write_one_file(server, path):
    path.parent.mkdir()
    with open(path.parent / ".file.partial.pt", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(WeightsError, match="another process is downloading it"):
            download(server.url, path, anything)
    assert server.ranges == []


def test_a_file_that_another_process_finishes_meanwhile_is_left_alone(server, path, monkeypatch):
    real = fcntl.flock

    def finished_just_before(file, how):
        (path.parent / ".file.partial.pt").rename(path)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", finished_just_before)
    with pytest.raises(WeightsError, match="another process"):
        download(server.url, path, anything)
    assert files(path) == ["file.pt"]


def test_an_answer_without_the_file_is_one_sentence(server, path):
    server.status = 404
    with pytest.raises(WeightsError, match=r"file\.pt: the server answers 404 \(Not Found\)"):
        download(server.url, path, anything)
    server.stop()
    with pytest.raises(WeightsError, match=r"could not be reached \(.*refused\)"):
        download(server.url, path, anything)
    assert files(path) == []
