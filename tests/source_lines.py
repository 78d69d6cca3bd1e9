"""What the files of the package lead to, and how long they are, read as text."""

import ast
import json
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "monai_ext"


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def code_lines(path):
    """Lines without blanks, comments and docstrings."""
    lines = path.read_text(encoding="utf-8").splitlines()
    code = {number for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                code -= set(range(first.lineno, first.end_lineno + 1))
    return len(code)


def file_of(name):
    """The file of a module, or None."""
    path = REPOSITORY.joinpath(*name.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


@cache
def given_names(init):
    """What a package hands on, name -> the file that defines it."""
    package = ".".join(init.parent.relative_to(REPOSITORY).parts)
    found = {}
    for node in ast.walk(tree(init)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("monai_ext"):
            found |= {alias.asname or alias.name: file_of(node.module) for alias in node.names}
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_NAMES":
            names = ast.literal_eval(node.value)
            found |= {
                name: file_of(f"{package}{module}" if module.startswith(".") else module)
                for name, module in names.items()
            }
    return found


def defining_file(dotted):
    """The file that defines ``monai_ext.package.name``, or that module's own."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        path = file_of(".".join(parts[:count]))
        if path is None:
            continue
        if path.name == "__init__.py" and count < len(parts):
            return given_names(path).get(parts[count], path)
        return path
    return None


@cache
def imports_of(path):
    """Files of the package that a file imports, at its top or later."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {defining_file(alias.name) for alias in node.names if alias.name.startswith("monai_ext")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("monai_ext"):
            found |= {defining_file(f"{node.module}.{alias.name}") for alias in node.names}
    return found - {None}


def reached_from(files):
    found, waiting = set(), list(files)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path.name != "__init__.py":
                waiting += imports_of(path)
    return found


def configs_of(bundle):
    return sorted((REPOSITORY / "bundles" / bundle / "configs").glob("*.json"))


def named_in(config):
    """Files of the package that a config names."""
    text = json.dumps(json.loads(config.read_text(encoding="utf-8")))
    return {defining_file(name) for name in re.findall(r"monai_ext(?:\.\w+)+", text)} - {None}
