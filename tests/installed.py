"""A package's folder as `pip install --editable` leaves it, without pip: importable, its entry points declared."""

import sys
import tomllib


def install(folder, monkeypatch):
    """Until the test ends; the folder has a pyproject.toml."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, found in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in found.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(folder)


def forget(name):
    """Let the next test import another package of this name."""
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]
