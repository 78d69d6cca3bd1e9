"""Docstrings of public names describe every argument and every error.

Ruff's rules (D417, DOC102, DOC501) leave out docstrings of one line or without a section.
"""

import ast
import re
import textwrap
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe")
ROOT = Path(__file__).parents[1]


def public_names():
    """What packages export and what configs name."""
    extensions = griffe.load_extensions(str(ROOT / ".ci/docs_names.py"))
    package = griffe.load("monai_ext", search_paths=[ROOT], resolve_aliases=True, extensions=extensions)
    paths = {f"{room.name}.{name}" for room in package.modules.values() for name in room.exports or []}
    for config in ROOT.glob("bundles/*/configs/*.json"):
        paths.update(re.findall(r"monai_ext\.(\w+(?:\.\w+)+)", config.read_text()))
    names = [package[path] for path in sorted(paths)]
    return {name.canonical_path: name.final_target if name.is_alias else name for name in names}


def functions(name):
    """Pairs of a docstring and the function that it describes: for a class, its own with ``__init__``."""
    if name.is_function:
        yield name.docstring, name
    elif name.is_class:
        methods = {key: member for key, member in name.members.items() if member.is_function and not member.is_alias}
        for key, method in methods.items():
            if key == "__init__":
                yield name.docstring, method
            elif method.docstring and not key.startswith("_"):  # without one: such as `forward`, see the class's
                yield method.docstring, method


def described(docstring, *kinds):
    """Names in sections of a docstring; an entry may describe several (``title, unit: ...``)."""
    sections = docstring.parse("google", warnings=False) if docstring else []
    entries = [entry for section in sections if section.kind.value in kinds for entry in section.value]
    names = [getattr(entry, "name", None) or str(entry.annotation) for entry in entries]
    return {name.strip("`* ") for entry in names for name in entry.split(",")}


def raised(function):
    """Errors that a function raises itself; where a helper of its module makes one, that of its annotation."""
    nodes = ast.walk(ast.parse(textwrap.dedent("\n".join(function.lines))))
    calls = [node.exc.func for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)} - {"NotImplementedError", "AttributeError"}
    helpers = {name: function.module.members[name] for name in names if name.startswith("_")}
    return {str(helpers[name].returns) if name in helpers else name for name in names}


@pytest.fixture(scope="module")
def names():
    found = list(public_names().values())
    assert found
    return found


def test_every_public_name_has_a_docstring(names):
    assert [name.path for name in names if not name.docstring] == []


def test_docstrings_describe_every_argument_and_error(names):
    missing = {}
    for docstring, function in (pair for name in names for pair in functions(name)):
        arguments = {parameter.name.lstrip("*") for parameter in function.parameters} - {"self", "cls"}
        left = arguments - described(docstring, "parameters", "attributes")  # a dataclass's arguments are attributes
        left |= raised(function) - described(docstring, "raises")
        missing |= {function.path: sorted(left)} if left else {}
    assert missing == {}, "arguments or errors that docstrings leave out"
