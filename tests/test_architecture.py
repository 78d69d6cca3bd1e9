"""Imports run one way, heavy packages are imported late, nothing knows the bundles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "monai_ext"
# Each level may import from its own and from those below.
FLOOR = [
    {"mlflow_entries", "mlflow_outbox"}
    | {"errors", "io", "arrays", "error_report", "runs", "settings", "workflow", "devices", "targets", "heads"}
    | {"lazy", "moved", "renamed", "task", "blocks", "places", "parent", "owners", "chosen_workers", "memory"}
    | {"provenance", "csv_text", "system_errors", "console", "download", "large_files", "bundle_archive"},
    {"networks", "losses", "transforms", "data", "metrics", "pages"},
    {"predictions"},
    {"inferers", "reports", "conformance"},
    {"handlers"},
    {"engines"},
]
ROOMS = {path.parent.name for path in PACKAGE.glob("*/task.py")}
LEVELS = [*FLOOR, ROOMS, {"cli"}]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
LEVEL_OF |= dict.fromkeys(("__init__", "__main__", "__version__", "py"), 0)
LATE = {
    "mlflow",
    "matplotlib",
    "itk",
    "pydicom",
    "highdicom",
    "onnx",
    "onnxruntime",
    "openvino",
    "jinja2",
    "tensorboard",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def place(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported(tree, top_level_only=False):
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import: the tests here know absolute ones"
            if node.module == "monai_ext":
                yield from (f"monai_ext.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = place(path)
    assert here in LEVEL_OF, f"{here} has no level: say in this test where it belongs"
    if here == "__main__":
        return
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        if name.startswith("monai_ext."):
            there = name.split(".")[1]
            assert LEVEL_OF[there] <= LEVEL_OF[here], f"{here} imports {name}, which is above it"
        assert not name.startswith("bundles")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_and_optional_packages_are_imported_where_they_are_used(path):
    found = {name.split(".")[0] for name in imported(ast.parse(path.read_text(encoding="utf-8")), top_level_only=True)}
    assert not found & LATE


def test_networks_need_torch_and_monai_only():
    for path in (PACKAGE / "networks").glob("*.py"):
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            root = name.split(".")[0]
            standard = root in sys.stdlib_module_names
            own = name.startswith(("monai_ext.networks", "monai_ext.errors", "monai_ext.io"))
            assert standard or own or root in ("torch", "monai", "numpy"), f"{path.name} imports {name}"


def test_the_command_line_s_help_needs_no_heavy_import():
    program = (
        "import sys\nsys.argv = ['monai_ext', '--help']\n"
        "try:\n    from monai_ext.__main__ import main; main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'monai', 'numpy', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "cross-validate" in done.stdout
