"""The common floor knows no data domain: it neither imports nor names one, and it stays small."""

import ast
import re

import pytest
from source_lines import (
    PACKAGE,
    REPOSITORY,
    code_lines,
    configs_of,
    given_names,
    imports_of,
    named_in,
    reached_from,
    tree,
)

BUNDLES = sorted(path.name for path in (REPOSITORY / "bundles").iterdir() if path.is_dir())
TASKS = {path.parent.name: path for path in PACKAGE.glob("*/task.py")}
# The table of old names, which goes with the next version.
OLD_NAMES = PACKAGE / "moved.py"
FLOOR = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] not in TASKS and path != OLD_NAMES
]
# 6,500, and what came since: settings checked against a schema, provenance, intervals for every metric; dead
# processes, losses over nothing, gradients that are wrong; a run's beginning and end, tracking without its server;
# errors of the system; who is the same patient; how each file was read, and slices that two bundles extract; models,
# data sets and load in MLflow, three trackers; OpenVINO for all networks; loaders and lists of other programs; what
# `check` follows, stores that others lock; memory that is
# kept, what records of earlier versions leave open, metrics that are no numbers.
MOST_SHARED_LINES = 6500 + 2450 + 2200 + 900 + 80


def bundle_of(task):
    (name,) = (
        ast.literal_eval(node.value)
        for node in tree(task).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "BUNDLE"
    )
    return name


def test_each_bundle_has_one_room():
    assert sorted(map(bundle_of, TASKS.values())) == BUNDLES


def rooms_in(path):
    """Rooms and bundles that a file imports or names; in a text, too: a room may be imported by its name."""
    text = path.read_text(encoding="utf-8")
    yield from {imported.relative_to(PACKAGE).parts[0] for imported in imports_of(path)} & set(TASKS)
    # A network may have the name of a bundle: that of its module is meant where a dot stands in front.
    yield from re.findall(rf"(?<!\.)(?:{'|'.join(BUNDLES)})", text)
    yield from re.findall(rf"monai_ext[./](?:{'|'.join(TASKS)})\b", text)


def test_the_common_floor_neither_imports_nor_names_a_room():
    found = {str(path.relative_to(PACKAGE)): list(rooms_in(path)) for path in FLOOR}
    assert {path: rooms for path, rooms in found.items() if rooms} == {}


@pytest.mark.parametrize("room", TASKS)
def test_no_name_of_a_room_is_that_of_a_module_in_it(room):
    modules = {path.stem for path in (PACKAGE / room).iterdir()}
    assert not modules & set(given_names(PACKAGE / room / "__init__.py"))


@pytest.mark.parametrize("room", TASKS)
def test_no_room_imports_another(room):
    for path in (PACKAGE / room).rglob("*.py"):
        others = {imported.relative_to(PACKAGE).parts[0] for imported in imports_of(path)} & set(TASKS)
        assert others <= {room}


def test_what_several_bundles_use_stays_small():
    users = {}
    for task in TASKS.values():
        bundle = bundle_of(task)
        starts = {task}.union(*map(named_in, configs_of(bundle)))
        for path in reached_from(starts):
            users.setdefault(path, set()).add(bundle)
    shared = {path: code_lines(path) for path, bundles in users.items() if len(bundles) >= 2}
    assert len(shared) > 50
    assert sum(shared.values()) <= MOST_SHARED_LINES, sum(shared.values())
