"""Docstrings of public names describe every argument and every error, those of one line too.

Ruff's rules (D417, DOC102, DOC501) leave out docstrings without sections, and don't know which names are public.
"""

import ast
import re
import textwrap
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe")
ROOT = Path(__file__).parents[1]
# An interface's method that a subclass must provide; what Python itself expects of a missing name.
UNDESCRIBED = {"NotImplementedError", "AttributeError"}


def described(docstring, *kinds):
    """Names in some sections; an entry may describe several (``title, unit: ...``)."""
    sections = docstring.parse("google", warnings=False) if docstring else []
    entries = [entry for section in sections if section.kind.value in kinds for entry in section.value]
    names = [getattr(entry, "name", None) or str(entry.annotation) for entry in entries]
    return {name.strip("`* ") for entry in names for name in entry.split(",")}


def raised(function):
    """Errors that a function raises itself, also one that a function of its module makes."""
    nodes = ast.walk(ast.parse(textwrap.dedent("\n".join(function.lines))))
    calls = [node.exc.func for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    makers = {
        name: member for name, member in function.module.members.items() if not member.is_alias and member.is_function
    }
    names = [call.id for call in calls if isinstance(call, ast.Name)]
    return {str(makers[name].returns) if name in makers else name for name in names} - UNDESCRIBED


def left_out(docstring, function):
    """Arguments and errors of a function that a docstring doesn't describe."""
    arguments = {parameter.name.lstrip("*") for parameter in function.parameters} - {"self", "cls"}
    known = described(docstring, "parameters", "attributes")  # a dataclass's arguments are its attributes
    return sorted(arguments - known) + sorted(raised(function) - described(docstring, "raises"))


def functions(name):
    """Pairs of a docstring and the function that it describes: for a class, its own with ``__init__``."""
    if name.is_function:
        yield name.docstring, name
    elif name.is_class:
        for key, method in name.members.items():
            if key == "__init__" and method.is_function:
                yield name.docstring, method
            # without a docstring: an interface's method, such as `forward`, which the class describes
            elif method.is_function and method.docstring and not key.startswith("_"):
                yield method.docstring, method


def public_names():
    """What packages export, and what configs name."""
    extensions = griffe.load_extensions(str(ROOT / ".ci/docs_names.py"))
    package = griffe.load("monai_ext", search_paths=[ROOT], resolve_aliases=True, extensions=extensions)
    paths = {f"{room.name}.{name}" for room in package.modules.values() for name in room.exports or []}
    for config in ROOT.glob("bundles/*/configs/*.json"):
        paths.update(re.findall(r"monai_ext\.(\w+(?:\.\w+)+)", config.read_text()))
    names = [package[path] for path in sorted(paths)]
    return {name.canonical_path: name.final_target if name.is_alias else name for name in names}


@pytest.mark.parametrize("name", public_names().values(), ids=lambda name: name.path.removeprefix("monai_ext."))
def test_the_docstring_describes_every_argument_and_error(name):
    assert name.docstring, f"{name.path} has no docstring"
    missing = {
        function.path: left for docstring, function in functions(name) if (left := left_out(docstring, function))
    }
    assert not missing, f"docstrings leave out arguments or errors: {missing}"
