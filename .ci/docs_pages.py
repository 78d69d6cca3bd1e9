"""MkDocs hook: a page for each package and module of `monai_ext`, and the files outside docs/ that pages link to.

In the repository a page may link to any file (``../bundles/.../train.json``). A site has only what is in docs/, so
the files that are linked to are added to it, at their place in the repository, and the links follow.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?=[)#])")


def api_modules(config):
    """Packages with public names, then plain modules, as ``monai_ext.losses``."""
    package = root(config) / "monai_ext"
    packages = [file.parent for file in sorted(package.glob("*/__init__.py")) if "__all__" in file.read_text("utf-8")]
    modules = [file for file in sorted(package.glob("*.py")) if not file.stem.startswith("_")]
    return [f"monai_ext.{path.stem}" for path in (*packages, *modules)]


def on_config(config):
    pages = [{module.removeprefix("monai_ext."): f"api/{module}.md"} for module in api_modules(config)]
    config.nav.append({"Reference: Python": pages})
    return config


def on_files(files, config):
    pages = list(files.documentation_pages())

    def add(path):
        files.append(File.generated(config, path, abs_src_path=str(root(config) / path)))
        if path.endswith(".md"):
            pages.append(files.get_file_from_path(path))

    for name in ROOT_PAGES:
        add(name)
    for page in pages:  # grows
        for link in LINK.finditer(page.content_string):
            path = repository_path(page, link, config)
            if in_site(path) not in files.src_uris and (root(config) / path).is_file():
                add(path)
    for module in api_modules(config):
        files.append(File.generated(config, f"api/{module}.md", content=f"# `{module}`\n\n::: {module}\n"))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as they are in the repository become links of the site."""
    if page.file.abs_src_path is None:
        return markdown
    folder = posixpath.dirname(page.file.src_uri) or "."

    def as_in_site(link):
        return posixpath.relpath(in_site(repository_path(page.file, link, config)), folder)

    return LINK.sub(as_in_site, markdown)


def root(config):
    return Path(config.config_file_path).parent


def repository_path(page, link, config):
    """What a link leads to, as a path below the repository's root."""
    folder = Path(page.abs_src_path).relative_to(root(config)).parent.as_posix()
    return posixpath.normpath(posixpath.join(folder, link["path"]))


def in_site(path):
    return path.removeprefix("docs/")
