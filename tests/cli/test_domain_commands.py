import pytest
import typer
from typer.testing import CliRunner

from monai_ext.cli.domain_commands import add_command
from monai_ext.task import Command


@pytest.fixture
def app():
    made = typer.Typer()

    def first(edge: int = typer.Option(1, "--edge")) -> None:
        typer.echo(f"first {edge}")

    def second(edge: int = typer.Option(2, "--edge")) -> None:
        typer.echo(f"second {edge}")

    add_command(made, "cut", {"one": Command(first), "two": Command(second)})
    add_command(made, "alone", {"one": Command(first)})
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["alone", "--edge", "5"], "first 5"),
        (["cut", "--edge", "5"], "first 5"),
        (["cut", "one"], "first 1"),
        (["cut", "two", "--edge", "7"], "second 7"),
    ],
    ids=" ".join,
)
def test_a_command_of_several_bundles_is_that_of_the_bundle_it_names_else_of_the_first(app, words, said):
    assert CliRunner().invoke(app, words).output.strip() == said
