"""What the documents say has to exist: links, commands, options, settings and their defaults."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest
import typer

from monai_ext.cli.app import app
from monai_ext.settings.schema import settings_schema

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md")]
)
BUNDLE_PAGES = sorted(path for path in ROOT.glob("docs/*.md") if (ROOT / "bundles" / path.stem).is_dir())
COMMANDS = typer.main.get_command(app).commands
# Arguments of `monai.bundle run` itself.
RUN_ARGUMENTS = {"config_file", "tracking"}


def named(paths):
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def anchors(text):
    """Anchors of a document's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def command_lines(text):
    """Commands in shell blocks and in inline code, continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", without_blocks(text))]


def without_blocks(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def options(words):
    return [word[2:].partition("=")[0] for word in words if word.startswith("--")]


def invocations(path, program):
    """Words behind ``python -m <program>`` or ``torchrun ... -m <program>`` in a document's commands."""
    for line in command_lines(path.read_text(encoding="utf-8")):
        match = re.search(rf"-m {re.escape(program)}(?= |$)", line)
        if match:
            yield shlex.split(line[match.end() :], comments=True)


def knobs(config):
    """Settings: what stands above the recipe, but for the block that reads a checkpoint."""
    names = list(config)
    return [name for name in names[: names.index("network_settings")] if name != "saved"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_relative_links_and_images_exist(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("SECURITY.md", "importing `monai_ext` switches that off"),
        ("SECURITY.md", "`MLFLOW_DISABLE_TELEMETRY=false` in the environment"),
        ("docs/comparing-runs.md", "`export MLFLOW_DISABLE_TELEMETRY=true`"),
        ("docs/reading-a-config.md", "A stranger's config is a stranger's program."),
        ("docs/brats_resnet50.md", "On a CPU bf16 can be wrong"),
    ],
)
def test_the_pages_say_what_nobody_would_guess(file, sentence):
    assert sentence in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_images_are_small_and_described(path):
    for text, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        assert text, target
        assert (path.parent / target).stat().st_size <= 250_000, target


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_commands_and_their_options_exist(path):
    for words in invocations(path, "monai_ext"):
        words = words[1:] if words[:1] == ["--debug"] else words
        if not words or words[0] in ("COMMAND", "--help"):
            continue
        command = COMMANDS[words[0]]
        several = getattr(command, "commands", None)  # of several bundles, the first by default
        if several:
            command = several.get(words[1], next(iter(several.values())))
        known = {name.removeprefix("--") for parameter in command.params for name in parameter.opts} | {"help"}
        if command.context_settings.get("ignore_unknown_options"):
            known |= {name for config in ROOT.glob("bundles/*/configs/train.json") for name in knobs(read(config))}
        unknown = set(options(words)) - known
        assert not unknown, f"{words[0]}: {unknown}"


def bundle_of(document, file):
    """The bundle that a config file named in a document belongs to; general pages take brats_resnet50 as example."""
    known = [folder.parent.name for folder in ROOT.glob("bundles/*/configs")]
    named_by_file = [name for name in known if f"{name}/" in file]
    named_by_page = [name for name in known if name in str(document)]
    return [*named_by_file, *named_by_page, "brats_resnet50"][0]


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_settings_behind_a_run_exist(path):
    checked = 0
    if path.name == "extending.md":
        return  # its commands are run: test_pages_are_true.py
    for words in invocations(path, "monai.bundle"):
        if words[:1] != ["run"] or "--config_file" not in words:
            continue
        files = re.findall(r"[\w/.]+\.json", words[words.index("--config_file") + 1])
        bundle = bundle_of(path, " ".join(files))
        configs = [read(ROOT / "bundles" / bundle / "configs" / Path(file).name) for file in files]
        for option in options(words):
            if option in RUN_ARGUMENTS:
                continue
            top = option.split("#")[0]
            assert any(top in config for config in configs), f"--{option} with {files}"
            checked += 1
    if path.name in ("README.md", "quick-start.md"):
        assert checked


@pytest.mark.parametrize("path", named(BUNDLE_PAGES))
def test_the_table_lists_the_settings_as_they_are(path):
    with_table = runpy.run_path(str(ROOT / ".ci" / "settings_tables.py"))["with_table"]
    text = path.read_text(encoding="utf-8")
    assert with_table(path) == text, "run .ci/settings_tables.py"
    assert all(f"\n| `{name}` | " in text for name in settings_schema(ROOT / "bundles" / path.stem))


@pytest.mark.parametrize("path", named(DOCUMENTS))
def test_names_no_machine_of_its_authors(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w/])/(?:work|root|tmp|home)/", text)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_readme_and_make_say_the_same_of_the_time_of_the_tests():
    said = [
        re.search(r"make test[ `].*?bout (\d+) minutes", (ROOT / file).read_text(encoding="utf-8"))
        for file in ("README.md", "Makefile")
    ]
    assert said[0][1] == said[1][1]
