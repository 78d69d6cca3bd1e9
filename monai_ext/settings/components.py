"""Components of a config held against their signatures before anything is made of them."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai_ext.errors import ConfigError
from monai_ext.settings.names import nearest
from monai_ext.settings.schema import convert, is_computed, is_valid
from monai_ext.settings.tree import nodes

_PLAIN = (bool, int, float, str)
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", type(None): "null"}
_NOT_ARGUMENTS = {"_target_", "_mode_", "_requires_", "_disabled_", "_desc_"}


def check_components(config: Any) -> None:
    """Check that each ``_target_`` exists and takes the arguments that stand beside it.

    Args:
        config: of a bundle, not parsed.

    Raises:
        ConfigError: naming the component's place in the config and each argument that is unknown, missing or of another
            plain type than the signature says.
    """
    wrong = [sentence for place, component in components(config) for sentence in _wrong(place, component)]
    if wrong:
        raise ConfigError("; ".join(wrong))


def components(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Components of a config that are in use, each with its place such as ``train#dataset``."""
    for place, node in nodes(config):
        if isinstance(node, Mapping) and "_target_" in node and node.get("_disabled_") is not True:
            yield place, node


def converted_arguments(config: Any) -> dict[str, Any]:
    """Arguments of components that are words or numbers in quotes where the signature takes none: what they mean.

    Args:
        config: of a bundle, not parsed.

    Returns:
        Place such as ``optimizers#adam#amsgrad`` → value.
    """
    found = {}
    for place, component in components(config):
        texts = {key: value for key, value in component.items() if isinstance(value, str) and key not in _NOT_ARGUMENTS}
        target = _found(component["_target_"]) if texts and isinstance(component["_target_"], str) else None
        hints = _hints(target) if target is not None else {}
        for key, value in texts.items():
            plain = _plain_types(hints.get(key))
            if not plain or str in plain or is_computed(value):
                continue
            rule = {"type": [_JSON_TYPES[kind] for kind in plain]}
            if is_valid(rule, convert(rule, value)):
                found[f"{place}#{key}"] = convert(rule, value)
    return found


def _wrong(place: str, component: Mapping[str, Any]) -> Iterator[str]:
    name = component["_target_"]
    if not isinstance(name, str) or is_computed(name):
        return
    target = _found(name)
    if target is None:
        yield f"{place}: there is no {name}"
        return
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # written in C
        return
    given = {key: value for key, value in component.items() if key not in _NOT_ARGUMENTS}
    short = name.rpartition(".")[2]
    takes = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in given:
            if key not in takes:
                yield f"{place}#{key}: unknown argument of {short}{nearest(key, takes)}"
    if component.get("_mode_") != "callable":
        for key in takes:
            if parameters[key].default is inspect.Parameter.empty and key not in given:
                yield f"{place}: {short} needs {key}"
    hints = _hints(target)
    for key, value in given.items():
        plain = _plain_types(hints.get(key))
        if plain and not is_computed(value) and not _fits(value, plain):
            expected = " or ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in plain))
            yield f"{place}#{key}: is {json.dumps(value)}, but {short} takes {expected}"


def _found(name: str) -> Any:
    return find_target(full_name(name))


def full_name(name: str) -> str:
    """The name of a target with its module, which isn't imported; one that MONAI doesn't know stays as it is.

    Args:
        name: as in a config. MONAI looks one without dots up in itself first.
    """
    if "." not in name:
        module = _locator().get_component_module_name(name)
        if module is not None:
            return f"{module if isinstance(module, str) else module[0]}.{name}"
    return name


def find_target(name: str) -> Any:
    """The class or function of a full name, or ``None`` where there is none; imports its module.

    Args:
        name: see `full_name`.
    """
    try:
        return locate(name)
    except ErrorDuringImport:  # it needs what isn't installed, say
        return None


@cache
def _locator() -> Any:
    """MONAI's own, which lists all of MONAI when it is first used."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # annotations of other people that can't be read say nothing
        return {}


def _plain_types(hint: Any) -> set[type] | None:
    """Types of an annotation made of plain ones alone; ``None`` for any other annotation."""
    kinds = set(typing.get_args(hint)) if typing.get_origin(hint) in (typing.Union, types.UnionType) else {hint}
    return kinds if kinds and kinds <= {*_PLAIN, type(None)} else None


def _fits(value: Any, plain: set[type]) -> bool:
    return type(value) in plain or (type(value) is int and float in plain)
