"""Pages of the documentation site that lie outside of docs/, and links between all pages.

GitHub shows README.md and docs/ where they lie in the repository, so links are written for that.
This hook of MkDocs makes pages of the files below, and turns each link between pages into a link of
the site.  A link to another file of the repository becomes its text.
"""

import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "integrations/comfyui/README.md": "comfyui.md",
    "tools/demo_model/README.md": "demo-model.md",
}
"""Where files of the repository stand on the site; those in docs/ stand where they are there."""

SOURCES = {page: source for source, page in PAGES.items()}

LINK = re.compile(r"\[(?P<text>[^\[\]]+)\]\((?P<target>[^()\s]+)\)")

FIGURES = re.compile(r"\(-?[\d.]+…-?[\d.]+\)|[\d.]+ \| [\d.]+")
"""An interval; two numbers side by side."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/."""
    for source, page in PAGES.items():
        with open(source, encoding="utf-8") as file:
            files.append(File.generated(config, page, content=file.read()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page lead to pages of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def replaced(link: re.Match[str]) -> str:
        path, mark, anchor = link["target"].partition("#")
        if not path or "://" in path:
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, path))
        there = PAGES.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(there) is None and not path.startswith("docs/"):
            return link["text"]
        return (
            f"[{link['text']}]({posixpath.relpath(there, posixpath.dirname(here))}{mark}{anchor})"
        )

    return LINK.sub(replaced, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let site.css keep figures that belong together in one line."""
    return FIGURES.sub(r'<span class="figures">\g<0></span>', html)
