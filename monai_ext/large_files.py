"""A bundle's ``large_files.yml``: public files that a training can start from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from monai_ext.errors import ConfigError, WeightsError

NAME = "large_files.yml"
_HASHES = ("md5", "sha1", "sha256", "sha512")
_TEXTS = ("size", "source", "licence", "leakage", "use")


@dataclass(frozen=True)
class LargeFile:
    """A file that belongs to a bundle, but lies elsewhere.

    Attributes:
        path: where the bundle has it.
        url: public address; empty where there is none.
        digest: hash of the content in hexadecimal digits, or the first of them; empty where none is known.
        hash_type: such as ``sha256``.
        texts: what users should know, by name: ``size``, ``source``, ``licence``, ``leakage`` (data that it was trained
            on and that may be in a user's validation set), ``use`` (further settings).
    """

    path: Path
    url: str
    digest: str
    hash_type: str
    texts: Mapping[str, str]

    def check(self, file: Path) -> None:
        """Compare a file's hash with the published one, where there is one.

        Args:
            file: path of the file, whatever its name.

        Raises:
            WeightsError: when it is another file.
        """
        found = digest_of(file, self.hash_type)
        if not found.startswith(self.digest):
            raise WeightsError(
                f"{self.path.name}: is another file than the published one: its {self.hash_type} is {found} and should "
                f"begin with {self.digest}; get it again"
            )


def digest_of(file: Path, hash_type: str = "sha256") -> str:
    """Hash of a file's content, in hexadecimal digits.

    Args:
        file: path of the file.
        hash_type: name of the hash, as `hashlib` has it.
    """
    with open(file, "rb") as content:
        return hashlib.file_digest(content, hash_type).hexdigest()


def large_files(bundle_root: str | Path) -> list[LargeFile]:
    """The files in a bundle's ``large_files.yml``; none where it has no such file.

    MONAI's format (``large_files``: ``path``, ``url``, ``hash_val``, ``hash_type``), whose programs take no other keys;
    what else there is to say stands in a second list, ``notes``: ``path``, and any of ``size, source, licence, leakage,
    use, sha256_begins``. A file in the notes only has no public address.

    Args:
        bundle_root: folder of the bundle.

    Raises:
        ConfigError: for a file that isn't in this format, an address that isn't of the web, or a path outside of the
            bundle.
    """
    source = Path(bundle_root) / NAME
    if not source.is_file():
        return []
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        entries = {str(entry["path"]): entry for entry in content["large_files"] or ()}
        notes = {str(entry["path"]): entry for entry in content.get("notes") or ()}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{source}: has no list large_files of entries with path and url ({error!r})") from error
    return [
        _large_file(source, path, entries.get(path, {}), notes.get(path, {}))
        for path in dict.fromkeys([*entries, *notes])
    ]


def _large_file(source: Path, path: str, entry: Mapping[str, Any], note: Mapping[str, Any]) -> LargeFile:
    root = source.parent
    if not (root / path).resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{source}: {path} lies outside of the bundle")
    url = str(entry.get("url") or "")
    if entry and not url.startswith(("https://", "http://")):
        raise ConfigError(f"{source}: {path}: its url must begin with https:// or http://, got {url!r}")
    digest = entry.get("hash_val") or note.get("sha256_begins") or ""
    hash_type = (entry.get("hash_type") or "md5") if entry.get("hash_val") else "sha256"  # MONAI's default
    if hash_type not in _HASHES:
        raise ConfigError(f"{source}: {path}: hash_type must be one of {', '.join(_HASHES)}, got {hash_type!r}")
    texts = {name: str(note[name]) for name in _TEXTS if note.get(name)}
    return LargeFile(root / path, url, str(digest).lower(), str(hash_type), texts)
