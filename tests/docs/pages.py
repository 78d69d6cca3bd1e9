"""Follows a page: writes the files that it shows, runs its Python and its commands, in order, in this process."""

import glob
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

from installed import install

BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', flags=re.M | re.S)


def follow(page, monkeypatch, **names):
    """Names that the page's Python leaves.

    Blocks with a title are files. ``pip install`` isn't called, see `installed.install`.

    Args:
        page: Markdown file.
        monkeypatch: undoes what the page changes in this process.
        names: old=new for what the page calls something, such as a package that may be installed already.
    """
    namespace = {"__name__": "__page__"}
    content = page.read_text(encoding="utf-8")
    for old, new in names.items():
        content = content.replace(old, new)
    for block in BLOCK.finditer(content):
        if block["title"]:
            Path(block["title"]).write_text(block["text"], encoding="utf-8")
        elif block["language"] == "python":
            exec(compile(block["text"], f"{page.name}: {block['text'].splitlines()[0]}", "exec"), namespace)
        elif block["language"] == "bash":
            for line in block["text"].replace("\\\n", " ").splitlines():
                _run(shlex.split(line), monkeypatch)
        else:
            raise AssertionError(f"{page.name}: nobody can follow a block of {block['language']} without a title")
    return namespace


def _run(words, monkeypatch):
    if words[:1] == ["cd"]:
        monkeypatch.chdir(words[1])
    elif words[:2] == ["pip", "install"]:
        if "--editable" in words:
            install(Path.cwd(), monkeypatch)
    elif words[:2] == ["python", "-m"]:
        arguments = [found for word in words[3:] for found in (_files(word) or [word])]
        monkeypatch.setattr(sys, "argv", [words[2], *arguments])
        code = _exit_code(words[2])
        assert not code, words
    else:
        raise AssertionError(f"nobody knows how to try {words}")


def _exit_code(module):
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def _files(word):
    """What a shell makes of a pattern."""
    return sorted(glob.glob(word)) if os.sep in word and "*" in word else []
