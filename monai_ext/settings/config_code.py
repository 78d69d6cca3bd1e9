"""The code in a bundle's configs: expressions, and targets that aren't known to be harmless."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import ismodule
from itertools import islice
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError, DataError
from monai_ext.io import read_json
from monai_ext.settings.components import find_target, full_name
from monai_ext.settings.tree import nodes, parts_of

TRUSTED = ("monai", "torch", "ignite", "monai_ext")
# In these packages, but they import, compile, unpickle or start whatever they are told to. No list can be complete.
LOADS_CODE = (
    *("torch.utils.cpp_extension", "torch.hub", "torch.package", "torch.load", "torch.serialization", "torch.ops"),
    *("torch.classes", "torch.export", "torch.multiprocessing", "torch.distributed", "torch.testing", "torch.jit"),
    *("torch._ops", "torch._inductor", "torch._dynamo", "torch.fx", "torch.library", "torch.utils.collect_env"),
    *("torch.utils.benchmark", "torch.utils.bundled_inputs", "torch.utils.hipify", "torch.utils.show_pickle"),
    *("monai.bundle", "monai.utils.module", "monai.utils.optional_import", "monai.utils.misc", "monai.apps"),
    *("monai.utils.safeeval", "monai.auto3dseg", "monai.fl", "monai.data.image_reader", "monai.data.PersistentDataset"),
    *("ignite.distributed", "monai_ext.cli", "monai_ext.task", "monai_ext.settings", "monai_ext.conformance"),
    *("monai_ext.lazy", "monai_ext.moved", "monai_ext.engines.CrossValidation", "monai_ext.inferers.streaming.dask"),
)
# Where MONAI takes a class by its dotted name: LoadImage, SaveImage, PatchInferer.
_BY_NAME = ("reader", "writer", "merger_cls")
# More can't be meant: a YAML file of a few lines can hold itself, or billions of entries.
_MOST_ENTRIES = 100_000
_LONGEST_CHAIN = 20


def code_in_configs(bundle_root: Path) -> Iterator[dict[str, str]]:
    """The code in a bundle's configs, and in the files that they take parts from.

    A config is code: read these lines before running it, unless you trust its author. The list helps to read; it is no
    proof that a config is harmless.

    Args:
        bundle_root: folder of one bundle, with ``configs/*.json`` (or ``.yaml``, ``.yml``).

    Yields:
        ``kind``, ``file``, ``id`` (path in the config) and ``text`` of each entry. Kinds: "code" for every ``$``
        expression; "target" for a ``_target_`` outside well-known packages, or in them but one that loads code;
        "unknown" for a target or a ``%`` file that couldn't be resolved.

    Raises:
        ConfigError: when there are no such files.
        DataError: for a config that can't be read.
    """
    files = sorted(path for path in (bundle_root / "configs").rglob("*") if _is_config(path))
    if not files:
        raise ConfigError(f"check: no configs/*.json in {bundle_root}; --bundle_root is the folder of one bundle")
    folder = bundle_root / "configs"
    configs = {str(file.relative_to(folder)): read_config_file(file) for file in files}
    yield from _Listing(configs, bundle_root).entries()


class _Listing:
    def __init__(self, configs: dict[str, Any], bundle_root: Path) -> None:
        self.configs = configs
        self.own = list(configs)
        self.roots = (Path(), bundle_root, bundle_root / "configs")

    def entries(self) -> Iterator[dict[str, str]]:
        waiting = list(self.own)
        while waiting:
            file = waiting.pop(0)
            for place, text in nodes(self.configs[file]):
                if not isinstance(text, str):
                    continue
                known = len(self.configs)
                kind = self._kind(file, place, text)
                waiting += list(self.configs)[known:]  # files that it takes something from
                if kind:
                    yield {"kind": kind, "file": file, "id": place, "text": text}

    def _kind(self, file: str, place: str, text: str) -> str | None:
        if text.startswith("$"):
            return "code"
        key = next((part for part in reversed(parts_of(place)) if not part.isdigit()), "")
        if key == "_target_" or (key in _BY_NAME and (text.startswith(("@", "%")) or "." in text)):
            return self._kind_of_target(file, place, text)
        return "unknown" if text.startswith("%") and not self._meant(file, place, text) else None

    def _kind_of_target(self, file: str, place: str, text: Any) -> str | None:
        """Of the name of a target, or of what is referred to in its place."""
        waiting = [text]
        for _ in range(_LONGEST_CHAIN):
            if not waiting:
                return None
            text = waiting.pop()
            if not isinstance(text, str):
                return "unknown"
            if text.startswith("$"):
                return "target"
            if text.startswith(("@", "%")):
                meant = self._meant(file, place, text)
                if not meant:
                    return "unknown"
                waiting += meant
            elif kind := _kind_of_name(text):
                return kind
        return "unknown"

    def _meant(self, file: str, place: str, text: str) -> list[Any]:
        """The values that a reference (``@``) or a macro (``%``) may have: overlays can give a key another one."""
        from monai.bundle import ConfigParser

        try:
            absolute = ConfigParser.resolve_relative_ids("::".join(parts_of(place)), text)[1:]
        except ValueError:  # more levels up than there are
            return []
        path, key = ConfigParser.split_path_id(absolute) if text.startswith("%") else ("", absolute)
        if path and path not in self.configs:
            found = next((root / path for root in self.roots if (root / path).is_file()), None)
            if found is None:
                return []
            self.configs[path] = read_config_file(found)
        searched = [path] if path else [file, *self.own]
        # By the parts: "a::b" and "+a" at the top of a file are entries of "a", as MONAI merges them.
        entries = (entry for name in dict.fromkeys(searched) for entry in nodes(self.configs[name]))
        return [value for place, value in entries if parts_of(place) == parts_of(key)]


def _kind_of_name(name: str) -> str | None:
    full = full_name(name)
    parts = full.split(".")
    if parts[0] not in TRUSTED:  # and isn't imported here, which would run it
        return "target" if len(parts) > 1 else "unknown"
    if any(part.startswith("_") for part in parts):  # loaders, globals, what reads any attribute
        return "target"
    way = [find_target(".".join(parts[:end])) for end in range(1, len(parts) + 1)]
    if way[-1] is None:
        return "unknown"
    # A package of ours reaches others: torch.os.system, torch.sys.modules.get
    homes = [str(found.__name__ if ismodule(found) else getattr(found, "__module__", None) or full) for found in way]
    real = f"{homes[-1]}.{getattr(way[-1], '__qualname__', '')}"
    harmful = any(f"{each}.".startswith(f"{prefix}.") for each in (full, real) for prefix in LOADS_CODE)
    return "target" if harmful or any(home.split(".")[0] not in TRUSTED for home in homes) else None


def _is_config(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".yaml", ".yml") and path.is_file()


def read_config_file(file: Path) -> Any:
    """The content of a JSON or YAML config, references and macros as they are written.

    Args:
        file: of either kind, by its suffix.

    Raises:
        DataError: naming the file, when it can't be read, or holds itself or more than a config can mean.
    """
    if file.suffix.lower() == ".json":
        content = read_json(file)
    else:
        from monai.bundle import ConfigParser

        try:
            content = ConfigParser.load_config_file(file)
        except Exception as error:  # whatever the parser makes of a damaged file
            raise DataError(f"not valid YAML ({error})", file) from error
    try:
        entries = sum(1 for _ in islice(nodes(content), _MOST_ENTRIES))
    except RecursionError:
        raise DataError("its entries are nested too deeply, or hold themselves", file) from None
    if entries == _MOST_ENTRIES:
        raise DataError(f"has {_MOST_ENTRIES} entries or more, which no config needs", file)
    return content
