"""The command line finds data domains by their ``task``, also those of other packages."""

import os
import subprocess
import sys

import pytest

from monai_ext.errors import ConfigError
from monai_ext.task import commands_of, find_task, find_tasks

SIXTH = '''
from pathlib import Path
from monai_ext.task import Command
import typer

BUNDLE = "sixth_toy"

def demo_data(output, seed=0, size="small"):
    output.mkdir(parents=True)
    (output / "data.txt").write_text(f"{seed} {size}")
    return output

def check(dataset_dir, workers=None, colour="red"):
    from monai_ext.data.problems import Problem
    return [Problem(str(dataset_dir), f"not {colour}", "error")]

def wave(times: int = 1) -> None:
    """Say hello."""
    typer.echo("hello " * times)

def also(context: typer.Context) -> None:
    """Take anything."""
    typer.echo(context.args)

COMMANDS = {"wave": Command(wave), "also": Command(also, overrides=True)}
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The command line beside an installed package with a sixth bundle."""
    site = tmp_path_factory.mktemp("site")
    (site / "sixth").mkdir()
    (site / "sixth" / "__init__.py").touch()
    (site / "sixth" / "task.py").write_text(SIXTH)
    info = site / "sixth-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sixth\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[monai_ext.tasks]\nsixth_toy = sixth.task\n")

    def run(*words):
        path = os.pathsep.join([str(site), *sys.path])
        return subprocess.run(
            [sys.executable, "-m", "monai_ext", *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            cwd=site,
        )

    return run


@pytest.mark.slow
def test_a_package_elsewhere_brings_a_bundle_of_its_own(run, tmp_path):
    done = run("demo-data", "sixth_toy", "--output", tmp_path / "data", "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "data.txt").read_text() == "3 small"
    done = run("check", "sixth_toy", "--dataset_dir", tmp_path, "--colour", "blue")
    assert done.returncode == 1
    assert "not blue" in done.stdout
    assert run("wave", "--times", 2).stdout == "hello hello \n"
    assert run("also", "--anything", 5).stdout == "['--anything', '5']\n"


@pytest.mark.slow
def test_an_option_that_a_domain_does_not_have_is_named(run, tmp_path):
    done = run("check", "sixth_toy", "--dataset_dir", tmp_path, "--color", "blue")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "check: --color is no option for the data of sixth_toy; it has ['colour']"
    )


def test_an_unknown_bundle_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="check: no bundle 'brats_resnet5'; did you mean 'brats_resnet50'"):
        find_task("brats_resnet5", "check")


def test_every_domain_has_what_the_command_line_asks_of_it():
    for bundle, task in find_tasks().items():
        assert bundle == task.BUNDLE
        assert callable(task.demo_data)
        assert callable(task.check)
        assert all(callable(command.function) for command in commands_of(task).values())
