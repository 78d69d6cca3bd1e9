"""Type, range and meaning of a bundle's settings: its ``configs/settings.json``, a JSON Schema (2020-12)."""

from __future__ import annotations

import ast
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.io import read_json
from monai_ext.settings.tree import nodes

Rule = Mapping[str, Any]  # the schema of one setting

_WORDS: dict[str, Any] = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
    "null": None,
    "none": None,
}
_TYPES = {"null": "null", "string": "text", "object": "settings by name"}


def settings_schema(bundle_root: str | Path) -> dict[str, Rule]:
    """Settings of a bundle by name; none where the bundle has no ``configs/settings.json``.

    Args:
        bundle_root: folder of the bundle, or of a run, which has them under ``config``.

    Returns:
        Setting → its JSON Schema: ``type`` or ``enum``, range, ``description``, ``x-original`` (names in the original
        pipeline).

    Raises:
        DataError: for a file that is no JSON.
    """
    files = (Path(bundle_root) / folder / "settings.json" for folder in ("configs", "config"))
    file = next((file for file in files if file.is_file()), None)
    return {} if file is None else dict(read_json(file)["properties"])


def settle(schema: Mapping[str, Rule], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are meant, in their own types.

    Where a setting may be boolean, ``true/false/yes/no/on/off`` are; where null is allowed, ``null/none`` are; a number
    in quotes is a number where text isn't allowed. Expressions (``$``, ``@``) and components pass: nobody knows their
    value yet.

    Args:
        schema: from `settings_schema`.
        settings: by name; those that the schema doesn't have pass.

    Returns:
        All of ``settings``, converted.

    Raises:
        ConfigError: one sentence with each setting that has a wrong type or value, and what is allowed.
    """
    settled, wrong = dict(settings), []
    for name, value in settings.items():
        known = computed_value(value) if name in schema else "$"
        if is_computed(known):
            continue
        if not is_computed(value):  # an expression stays, and has to give what is allowed
            settled[name] = known = convert(schema[name], value)
        # A folder called null is nobody's wish.
        null = isinstance(value, str) and value.strip().lower() == "null" and known is not None
        if null or not is_valid(schema[name], known):
            wrong.append(_refusal(name, value, schema[name]))
    if wrong:
        raise ConfigError("; ".join(wrong))
    return settled


def _refusal(name: str, value: Any, rule: Rule) -> str:
    """What is wrong with a setting; with the entry below it, where that is what is wrong."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    description = meaning(rule)
    for place, part in nodes(convert(rule, value), name):
        if _is_beyond(part) and (place != name or isinstance(part, int)):
            return f"--{place} {part}: must be a finite number below 2^63 ({description})"
    error = best_match(Draft202012Validator(rule).iter_errors(value)) if isinstance(value, Mapping) else None
    if error is not None:
        name, value, rule = "#".join([name, *map(str, error.absolute_path)]), error.instance, error.schema
        if error.validator == "required":
            missing = ", ".join(part for part in rule["required"] if part not in value)
            return f"--{name} {value}: needs {missing} ({description})"
    given = value if str(value).strip() else repr(value)
    return f"--{name} {given}: must be {allowed(rule)} ({description})"


def computed_value(value: Any) -> Any:
    """What an expression gives that refers to nothing else; any other value as it is."""
    from monai.bundle import ConfigParser

    if not (isinstance(value, str) and value.startswith("$") and "@" not in value):
        return value
    try:
        return ConfigParser({"value": value}).get_parsed_content("value")
    except Exception:  # it may need the config's imports, and is evaluated with them later
        return value


def is_computed(value: Any) -> bool:
    """Whether a value of a config is an expression, a reference or a component, or holds one."""
    if isinstance(value, str):
        return value.startswith(("$", "@", "%"))
    if isinstance(value, Mapping):
        return "_target_" in value or any(is_computed(part) for part in value.values())
    return isinstance(value, (list, tuple)) and any(is_computed(part) for part in value)


def convert(rule: Rule, value: Any) -> Any:
    """A value as a setting means it; unchanged where it can't be converted.

    Args:
        rule: the setting's JSON Schema.
        value: from a config or a command line.
    """
    if isinstance(value, (list, tuple)):
        return [convert(rule.get("items", {}), part) for part in value]
    if isinstance(value, Mapping):
        others = rule.get("additionalProperties", {})
        below = rule.get("properties", {})
        return {name: convert(below.get(name, others), part) for name, part in value.items()}
    if isinstance(value, str) and not _takes_text(rule, value):
        word = _WORDS.get(value.strip().lower(), value)
        if not isinstance(word, str) and is_valid(rule, word):
            return word
        value = _literal(value)
        if isinstance(value, (list, tuple)):
            return convert(rule, value)
    if isinstance(value, float) and value.is_integer() and "integer" in types(rule) and "number" not in types(rule):
        return int(value)
    if type(value) in (int, float) and "string" in types(rule) <= {"string", "array", "null"}:
        return str(value)  # the command line reads a run named 7 as a number
    return value


def is_valid(rule: Rule, value: Any) -> bool:
    """Whether a converted value is allowed.

    NaN, infinity and 2^63 never are, an empty text only with ``"minLength": 0``: it is mostly a shell variable
    without a value, and would be weights to begin with that nobody loads.
    """
    import jsonschema

    if any(_is_beyond(part) for _, part in nodes(value)):
        return False
    if isinstance(value, str) and not value.strip() and rule.get("minLength") != 0:
        return False
    return bool(jsonschema.Draft202012Validator(rule).is_valid(value))


def _is_beyond(value: Any) -> bool:
    """Whether this is no finite number, or one that Python's own loops can't count to."""
    return (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and abs(value) > sys.maxsize
    )


def types(rule: Rule) -> set[str]:
    """JSON Schema types of a setting, those of its alternatives and choices among them."""
    found = set(_listed(rule.get("type")))
    for choice in rule.get("anyOf", ()):
        found |= types(choice)
    return found


def allowed(rule: Rule) -> str:
    """The values that a setting may have, in words: ``a number greater than 0, or null``.

    Args:
        rule: the setting's JSON Schema.
    """
    return _either(_alternatives(rule)) or "any value"


def _alternatives(rule: Rule) -> list[str]:
    if "enum" in rule:
        return [_shown(value) for value in rule["enum"]]
    if "anyOf" in rule:
        return [text for choice in rule["anyOf"] for text in _alternatives(choice)]
    names = [_of_type(rule, name) for name in _listed(rule.get("type")) if name != "boolean"]
    return [*names, *(["true", "false"] if "boolean" in _listed(rule.get("type")) else [])]


def meaning(rule: Rule) -> str:
    """Description of a setting as part of a sentence."""
    text = str(rule.get("description", "")).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _of_type(rule: Rule, name: str) -> str:
    if name in ("integer", "number"):
        noun = "a whole number" if name == "integer" else "a number"
        step = f" divisible by {rule['multipleOf']}" if "multipleOf" in rule else ""
        other = f" other than {_shown(rule['not']['const'])}" if "const" in rule.get("not", {}) else ""
        return f"{noun}{step}{_range(rule)}{other}"
    if name == "array":
        entries = allowed(rule["items"]) if "items" in rule else "any value"
        few, many = rule.get("minItems"), rule.get("maxItems")
        count = f" of {few}" if few == many and few else f" of {few} to {many}" if few and many else ""
        count = count or (f" of at least {few}" if few else "")
        return f"a list{count} ({entries} each)"
    if name == "object" and rule.get("minProperties"):
        return f"one or more {_TYPES[name]}"
    return _TYPES[name]


def _range(rule: Rule) -> str:
    bounds = [
        (f"from {rule['minimum']}" if "minimum" in rule else ""),
        (f"greater than {rule['exclusiveMinimum']}" if "exclusiveMinimum" in rule else ""),
        (f"to {rule['maximum']}" if "maximum" in rule else ""),
        (f"less than {rule['exclusiveMaximum']}" if "exclusiveMaximum" in rule else ""),
    ]
    text = " and ".join(bound for bound in bounds if bound).replace(" and to ", " to ")
    return f" {text}" if text else ""


def _takes_text(rule: Rule, value: str) -> bool:
    """Whether this text is allowed as text, and isn't one of the words for null, true or false that are allowed too."""
    word = _WORDS.get(value.strip().lower(), value)
    return is_valid(rule, value) and (isinstance(word, str) or not is_valid(rule, word))


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _either(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}" if texts else ""
