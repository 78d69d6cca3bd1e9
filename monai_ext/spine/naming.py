"""Names of folders and files as results and reports show them."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

# A name may have 255 bytes; a temporary one is longer than its final one, and a number may follow.
_MOST_BYTES = 120
# Files that lie beside the folders.
_TAKEN = ("report.json", "report.html", "summary.json")


def one_line(text: str | Path) -> str:
    """Text on one line that can be written as UTF-8: other bytes of a file's name, and control characters, become "?".

    Args:
        text: of a name or a message.
    """
    decoded = os.fsencode(text).decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    return "".join("?" if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in decoded)


def folder_name(name: str) -> str:
    """A name for a folder of results: of bounded length, different for different names, and none of the reports'.

    Args:
        name: of a folder or file of the input, or several of them joined.
    """
    plain = one_line(name)
    if plain == name and plain.lower() not in _TAKEN and len(plain.encode()) <= _MOST_BYTES:
        return plain
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{plain.encode()[: _MOST_BYTES - len(digest) - 1].decode(errors='ignore')}~{digest}"
