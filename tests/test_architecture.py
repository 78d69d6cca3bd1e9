"""Imports run one way, heavy packages are imported late, nothing knows the bundles."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "monai_ext"
# Each level may import from its own and from those below.
FLOOR = [
    {"mlflow_entries", "mlflow_outbox", "mlflow_uri"}
    | {"errors", "io", "arrays", "error_report", "runs", "settings", "workflow", "devices", "targets", "heads"}
    | {"lazy", "moved", "renamed", "task", "blocks", "places", "parent", "owners", "chosen_workers", "memory"}
    | {"provenance", "csv_text", "system_errors", "console", "download", "large_files", "bundle_archive"}
    | {"allocator"},
    {"networks", "losses", "transforms", "data", "metrics", "pages"},
    {"predictions", "mlflow_network"},
    {"inferers", "reports", "conformance"},
    {"handlers"},
    {"engines"},
]
ROOMS = {path.parent.name for path in PACKAGE.glob("*/task.py")}
LEVELS = [*FLOOR, ROOMS, {"cli"}]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
LEVEL_OF |= {**dict.fromkeys(("__init__", "__version__", "py"), 0), "__main__": len(LEVELS)}
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
    "wandb",
}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


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


def test_imports_run_one_way():
    unknown = {place(path) for path in TREES} - LEVEL_OF.keys()
    assert not unknown, "have no level: say in this test where they belong"
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, tree in TREES.items()
        for name in imported(tree)
        if name.startswith("bundles")
        or (name.startswith("monai_ext.") and LEVEL_OF[name.split(".")[1]] > LEVEL_OF[place(path)])
    ]
    assert upwards == []


def test_heavy_and_optional_packages_are_imported_where_they_are_used():
    early = {
        str(path.relative_to(PACKAGE)): found
        for path, tree in TREES.items()
        if (found := {name.split(".")[0] for name in imported(tree, top_level_only=True)} & LATE)
    }
    assert early == {}


def test_networks_need_torch_and_monai_only():
    for path in (PACKAGE / "networks").glob("*.py"):
        for name in imported(TREES[path]):
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


def test_a_source_distribution_has_what_its_tests_read(monkeypatch):
    from setuptools.command.egg_info import FileList

    monkeypatch.chdir(PACKAGE.parent)
    files = FileList()
    for line in Path("MANIFEST.in").read_text().splitlines():
        if line and not line.startswith("#"):
            files.process_template_line(line)
    found = [path for folder in (".ci", "bundles", "docs", "tests") for path in Path(folder).rglob("*.*")]
    assert {str(path) for path in found if path.is_file() and path.suffix != ".pyc"} <= set(files.files)
