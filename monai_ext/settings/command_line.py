"""Words of a command line as settings, files and bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

from monai_ext.errors import ConfigError
from monai_ext.settings.names import nearest


def parse_value(text: str) -> Any:
    """A number, ``True``, ``None``, list (``[a,b]``, ``a,b``), dict or, failing that, the text itself, as in
    ``python -m monai.bundle``.

    Args:
        text: one word of a command line.
    """
    bare = "#" in text and text[0] not in "'\"[({"
    return text if bare else DefaultParseValue(text)  # to Fire, what follows a # is a comment


def parse_files(text: str) -> str | list[str]:
    """One config file or a list of them in brackets.

    Args:
        text: value of ``--config_file``.

    Raises:
        ConfigError: for something else in brackets.
    """
    value = parse_value(text) if text.lstrip().startswith(("[", "(")) else text
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return list(value)
    if isinstance(value, str) and not value.lstrip().startswith(("[", "(")):
        return value
    raise ConfigError(f"--config_file {text}: give a path, or a list of paths like \"['a.json','b.json']\"")


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Pairs of ``--key value`` or ``--key=value``.

    Args:
        arguments: the words of a command line.

    Raises:
        ConfigError: for a key without a value, or a value without a key.
    """
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"{word!r}: expected --key value")
        key, separator, value = word[2:].partition("=")
        if not separator:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key}: has no value")
            value = rest.pop(0)
        found[key] = parse_value(value)
    return found


def as_typed(given: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Settings with lists and tables as they were typed: MONAI turns each ``#`` in them into ``::``, in place.

    Args:
        given: settings by key.
        words: of the command line.
    """
    found = dict(given)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        key, separator, value = word.removeprefix("--").partition("=")
        typed = parse_value(value if separator else following)
        if word.startswith("--") and isinstance(given.get(key), (list, dict)) and type(typed) is type(given[key]):
            found[key] = typed
    return found


def find_bundle(bundle: str, folder: Path | None = None, advice: str = "or give its folder by --bundle_root") -> Path:
    """The bundle's folder: that which is given, or below the current one, or beside this package in a source checkout.

    Args:
        bundle: its name.
        folder: value of ``--bundle_root``.
        advice: what else a user could do, for the message.

    Raises:
        ConfigError: for a folder without configs, or naming the nearest bundle there is, or where bundles come from: a
            wheel brings none.
    """
    if folder is not None:
        if not (folder / "configs").is_dir():
            raise ConfigError(f"--bundle_root {folder}: has no folder configs; give the folder of a bundle")
        return folder
    places = [Path("bundles"), Path(__file__).resolve().parents[2] / "bundles"]
    found = next((place / bundle for place in places if (place / bundle / "configs").is_dir()), None)
    if found is None:
        known = sorted({path.name for place in places if place.is_dir() for path in place.iterdir()})
        if not known:
            raise ConfigError(
                f"no bundle {bundle!r}: the package comes without bundles; unpack {bundle}_v*.zip, an asset of the "
                f"release (a checkout writes it: python -m monai_ext bundle zip {bundle}), into bundles/, {advice}"
            )
        raise ConfigError(f"no bundle {bundle!r}{nearest(bundle, known)}; {advice}")
    return found
