"""A bundle's settings as users read them: on the terminal and in the tables of the docs."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import read_json
from monai_ext.settings.choices import choices
from monai_ext.settings.schema import Rule, allowed, is_computed, settings_schema

HEADER = ("setting", "default in train.json", "default in inference.json", "allowed", "meaning")
ABSENT = "–"
_CONFIGS = ("train.json", "inference.json", "evaluate.json")
_SAVED = re.compile(r"\$@saved\['\w+'\]")
_CHOSEN = re.compile(r"\$@\w+\[@(?P<setting>\w+)\]")
# Settings and texts that are put together: "$@models_dir + '/cord/' + @weights".
_JOINED = re.compile(r"\$?(?:@\w+|'[^']*')(?: \+ (?:@\w+|'[^']*'))*")


@dataclass(frozen=True)
class ListedSetting:
    """One setting in words.

    Attributes:
        name: of the setting.
        training: default in ``train.json``; `ABSENT` where that doesn't have the setting.
        inference: the same of ``inference.json``.
        evaluation: the same of ``evaluate.json``, an overlay on ``train.json``.
        allowed: the values that it may have.
        meaning: its description.
        originals: what the original pipeline calls it.
        stages: overlays (``stage_*.json``) with another default.
    """

    name: str
    training: str
    inference: str
    evaluation: str
    allowed: str
    meaning: str
    originals: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()

    def is_about(self, word: str) -> bool:
        """Whether a word stands in the name, an original's name or the description, whatever the case."""
        texts = (self.name, self.meaning, *self.originals)
        return any(_plain(word) in _plain(text) for text in texts)


def listed_settings(bundle_root: str | Path) -> list[ListedSetting]:
    """The settings of a bundle, in the order of its ``configs/settings.json``.

    Args:
        bundle_root: folder of the bundle.

    Raises:
        ConfigError: for a bundle without ``configs/settings.json``.
        DataError: for a config that is missing or no JSON.
    """
    folder = Path(bundle_root) / "configs"
    schema = settings_schema(bundle_root)
    if not schema:
        raise ConfigError(f"{folder}: has no settings.json, which says what the settings of this bundle may be")
    configs = {
        name: read_json(folder / name) for name in _CONFIGS if name != "evaluate.json" or (folder / name).is_file()
    }
    stages = {file.name: read_json(file) for file in sorted(folder.glob("stage_*.json"))}
    return [_listed(name, rule, configs, stages) for name, rule in schema.items()]


def markdown_table(settings: Sequence[ListedSetting]) -> str:
    """The settings as a table in Markdown, a line each."""
    rows: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for setting in settings:
        training = _markdown(setting.training)
        if setting.training == ABSENT != setting.evaluation:
            training = f"{_markdown(setting.evaluation)} (evaluate.json)"
        words = (_escaped(setting.allowed), _escaped(setting.meaning))
        rows.append([f"`{setting.name}`", training, _markdown(setting.inference), *words])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def originals_table(bundle_root: str | Path) -> str:
    """Options of the original pipeline as a table in Markdown: what each is here, also those that are gone.

    Args:
        bundle_root: folder of the bundle.

    Raises:
        DataError: for a bundle without ``configs/settings.json``.
    """
    schema = read_json(Path(bundle_root) / "configs" / "settings.json")
    rows = [
        (old, f"`{name}`", note)
        for name, rule in schema["properties"].items()
        for old, note in rule.get("x-original", {}).items()
    ]
    rows += [(old, "gone", note) for old, note in schema.get("x-gone", {}).items()]
    lines = [f"| {_escaped(f'`{old}`')} | {ours} | {_escaped(note)} |" for old, ours, note in sorted(rows)]
    return "\n".join(["| option of the original | setting | notes |", "| --- | --- | --- |", *lines])


def settings_table(settings: Sequence[ListedSetting], width: int = 100) -> str:
    """The settings as aligned text; long cells go on in the next line.

    Args:
        settings: at least one.
        width: of the terminal, in characters; with fewer than 80 lines are longer than that.
    """
    first = max(len(setting.name) for setting in settings)
    default, values = 22, 20
    widths = (first, default, values, max(24, width - first - default - values - 6))
    lines: list[Sequence[str]] = [("setting", "default", "allowed", "meaning"), ["-" * edge for edge in widths]]
    for setting in settings:
        meaning = [setting.meaning]
        if setting.originals:
            meaning.append(f"In the original: {', '.join(setting.originals)}.")
        cells = (setting.name, _default(setting), setting.allowed, " ".join(meaning))
        columns = [_wrapped(cell, edge) for cell, edge in zip(cells, widths, strict=True)]
        height = max(map(len, columns))
        lines += zip(*(column + [""] * (height - len(column)) for column in columns), strict=True)
    padded = ("  ".join(text.ljust(edge) for text, edge in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def stages_note(settings: Sequence[ListedSetting]) -> str:
    """A sentence on overlays of stages that set other defaults; empty where there are none."""
    files = sorted({file for setting in settings for file in setting.stages})
    if not files:
        return ""
    names = ", ".join(setting.name for setting in settings if setting.stages)
    return f"Stages have other defaults of {names}; they stand in {', '.join(files)}."


def _listed(
    name: str, rule: Rule, configs: Mapping[str, Mapping[str, Any]], stages: Mapping[str, Mapping[str, Any]]
) -> ListedSetting:
    having = [config for config in configs.values() if name in config]
    tables = [choices(config).get(name) for config in having]
    found = [choice for table in tables for choice in table or ()]
    by_name = having and all(tables)
    training, inference, evaluation = (_shown(configs.get(file, {}), name, rule) for file in _CONFIGS)
    return ListedSetting(
        name,
        training,
        inference,
        evaluation,
        allowed({"enum": list(dict.fromkeys(found))} if by_name and "enum" not in rule else rule),
        str(rule["description"]),
        tuple(rule.get("x-original", ())),
        tuple(
            file for file, stage in stages.items() if name in stage and stage[name] != configs["train.json"].get(name)
        ),
    )


def _shown(config: Mapping[str, Any], name: str, rule: Rule) -> str:
    """A default in words: what stands in the config, or where it is computed from."""
    if name not in config:
        return ABSENT
    value = config[name]
    if not is_computed(value) and not isinstance(value, Mapping):
        return value if isinstance(value, str) else json.dumps(value)
    expression = value if isinstance(value, str) else ""
    if _SAVED.fullmatch(expression):
        return "the checkpoint's"
    if chosen := _CHOSEN.fullmatch(expression):
        return f"that of the {chosen['setting']}"
    if _JOINED.fullmatch(expression):
        parts = re.findall(r"@(\w+)|'([^']*)'", expression)
        return parts[0][0] or parts[0][1] if len(parts) == 1 else "".join(text or f"<{key}>" for key, text in parts)
    return str(rule.get("x-default", "computed"))


def _default(setting: ListedSetting) -> str:
    """The default of training; others as far as they differ, or training has none."""
    found: dict[str, list[str]] = {setting.training: []}
    found.setdefault(setting.inference, []).append("inference")
    if setting.training == ABSENT:
        found.setdefault(setting.evaluation, []).append("evaluation")
    texts = (text if text == setting.training else f"{', '.join(where)}: {text}" for text, where in found.items())
    return "; ".join(text for text in texts if not text.endswith(ABSENT))


def _markdown(default: str) -> str:
    """A value, without spaces or in brackets, as code; anything else in words."""
    return f"`{default}`" if re.fullmatch(r"[^\s–]+|\[.*\]", default) else _escaped(default)


def _escaped(text: str) -> str:
    return re.sub(r"([|<*])", r"\\\1", text)


def _plain(text: str) -> str:
    return text.lower().lstrip("-").replace("-", " ").replace("_", " ")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
