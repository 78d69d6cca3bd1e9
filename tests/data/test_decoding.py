from __future__ import annotations

import pytest

from monai_ext.data.decoding import undecodable
from monai_ext.errors import DataError


@pytest.fixture
def decoder():
    """Decodes all but "bad", and remembers what it was asked."""
    asked: list[str] = []

    def decode(name: str) -> None:
        asked.append(name)
        if name == "bad":
            raise DataError("is damaged", name)

    return decode, asked


def test_only_what_changed_and_what_was_bad_is_decoded_again(tmp_path, decoder):
    decode, asked = decoder
    stamps = {"a": [1, 2], "bad": [3], "c": [4]}
    (problem,) = undecodable(stamps, decode, tmp_path).values()
    assert (problem.path, problem.message) == ("bad", "is damaged")
    assert sorted(asked) == ["a", "bad", "c"]
    asked.clear()
    assert list(undecodable({**stamps, "c": [5]}, decode, tmp_path)) == ["bad"]
    assert sorted(asked) == ["bad", "c"]


def test_without_a_memory_everything_is_decoded(decoder):
    decode, asked = decoder
    for _ in range(2):
        undecodable({"a": 1}, decode, None)
    assert asked == ["a", "a"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b'{"format": 1, "decoded": 3}', b"\xff"])
def test_a_damaged_memory_is_made_again(tmp_path, decoder, content, caplog):
    decode, asked = decoder
    (tmp_path / "decoded.json").write_bytes(content)
    undecodable({"a": 1}, decode, tmp_path)
    undecodable({"a": 1}, decode, tmp_path)
    assert asked == ["a"]
    assert "is damaged; everything is decoded again" in caplog.text


def test_what_was_decoded_before_an_interruption_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_ext.data.decoding._BATCH", 2)
    asked: list[str] = []

    def decode(name: str) -> None:
        if name == "3" and "3" not in asked:
            asked.append(name)
            raise KeyboardInterrupt
        asked.append(name)

    stamps = {str(number): 0 for number in range(4)}
    with pytest.raises(KeyboardInterrupt):
        undecodable(stamps, decode, tmp_path)
    asked[:] = ["3"]
    assert undecodable(stamps, decode, tmp_path) == {}
    assert not {"0", "1"} & set(asked)
