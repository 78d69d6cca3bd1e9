"""The site is built without a broken link, and every public name has its place on a page."""

import importlib
import zlib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = [f"monai_ext.{file.parent.name}" for file in sorted(ROOT.glob("monai_ext/*/__init__.py"))]


def build(config_file, site, **settings):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(config_file), site_dir=str(site), strict=True, **settings)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    config.plugins.on_shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build(ROOT / "mkdocs.yml", folder)
    return folder


@pytest.fixture(scope="module")
def names(site):
    """Python names with a place on a page, as other projects' pages can refer to them: name → page."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = (line.split() for line in zlib.decompress(content).decode().splitlines())
    return {name: page.partition("#")[0] for name, role, _, page, *_ in entries if role.startswith("py:")}


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_its_page(package, names):
    for name in getattr(importlib.import_module(package), "__all__", ()):
        assert names.get(f"{package}.{name}") == f"api/{package}.html", name


@pytest.mark.slow
def test_a_page_shows_the_docstring_of_a_name(site):
    for package, text in {"losses": "rarer classes get larger margins", "brats": "All labelled subjects"}.items():
        assert text in (site / "api" / f"monai_ext.{package}.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_files_outside_docs_that_pages_link_to_are_in_the_site(site):
    page = (site / "reading-a-config.html").read_text(encoding="utf-8")
    assert 'href="bundles/brats_resnet50/configs/train.json"' in page
    assert (site / "bundles" / "brats_resnet50" / "configs" / "train.json").is_file()


@pytest.fixture
def build_page(tmp_path):
    """Builds a site of one page with the settings of the real one, without the pages about Python."""

    def build_page(text):
        settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
        settings.update(nav=["index.md"], plugins=[], hooks=[str(ROOT / ".ci" / "docs_pages.py")])
        (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
        for name in ("docs/index.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "code/file.json"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("# Title\n")
        (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{text}\n")
        build(tmp_path / "mkdocs.yml", tmp_path / "site")

    return build_page


@pytest.mark.parametrize("target", ["index.md#title", "../CHANGELOG.md", "../code/file.json"])
def test_a_link_that_leads_somewhere_passes(target, build_page):
    build_page(f"[link]({target})")


@pytest.mark.parametrize("target", ["nowhere.md", "index.md#nowhere", "../NOWHERE.md", "../code/nowhere.json"])
def test_a_broken_link_stops_the_build(target, build_page):
    from mkdocs.exceptions import Abort

    with pytest.raises(Abort):
        build_page(f"[link]({target})")
