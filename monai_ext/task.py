"""Data domains: the interface that the command line uses, and how it finds them.

A domain is a package with a module ``task`` that has the names of `Task`: one in this package (a room), or in another
distribution that declares it as an entry point of the group ``monai_ext.tasks``. The module is imported whenever the
command line starts, so it imports heavy packages where they are used.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from monai_ext.errors import ConfigError
from monai_ext.places import Place

GROUP = "monai_ext.tasks"


class Command(NamedTuple):
    """A command of a domain's own.

    Args:
        function: the command, in typer's form.
        overrides: whether unknown options are passed on in the context, as settings of a config.
        words: whether an option may be followed by several values.
    """

    function: Callable[..., Any]
    overrides: bool = False
    words: bool = False


class Task(Protocol):
    """A module. Optional beside these: ``COMMANDS``, name → `Command`; ``demo(configs, dataset_dir, output_dir,
    overrides)`` in place of the usual demo; and ``trainings(dataset_dir)``, name → overlay of ``train.json``, where a
    bundle trains several networks: those that the data are for.
    """

    BUNDLE: str

    def demo_data(self, output: Path, seed: int = 0, size: str = "small") -> Path:
        """Write synthetic data that a training can use; returns their folder."""

    def check(self, dataset_dir: Path, workers: int | Place | None = None, **options: Any) -> list[Any]:
        """Open all data and list the problems, as `monai_ext.data.Problem`; ``options`` are settings of training."""


def find_tasks() -> dict[str, Task]:
    """All domains by the name of their bundle."""
    rooms = sorted(file.parent.name for file in Path(__file__).parent.glob("*/task.py"))
    modules = [importlib.import_module(f"{__package__}.{room}.task") for room in rooms]
    modules += [entry.load() for entry in entry_points(group=GROUP)]
    return {module.BUNDLE: cast(Task, module) for module in modules}


def find_task(bundle: str, command: str) -> Task:
    """The domain of a bundle.

    Raises:
        ConfigError: naming the command, and the nearest bundle there is.
    """
    tasks = find_tasks()
    if bundle not in tasks:
        near = difflib.get_close_matches(bundle, list(tasks), 1, 0.4)
        advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(tasks)}"
        raise ConfigError(f"{command}: no bundle {bundle!r}; {advice}")
    return tasks[bundle]


def commands_of(task: Task) -> Mapping[str, Command]:
    """The domain's own commands."""
    return getattr(task, "COMMANDS", {})
