"""What MkDocs calls when it builds the site: see mkdocs.yml.

On two pages a comment stands for generated content: the reference of the command line, and the executed notebook.
On all pages, links to files that the site does not have lead to the repository, and a link whose text is the name of a
page has the page's title instead. A page that loads anything from another server ends the build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line_reference
import notebook_page

GENERATED: dict[str, Callable[[], str]] = {
    "<!-- the reference of the command line -->": command_line_reference.reference,
    "<!-- the executed notebook -->": notebook_page.executed,
}
LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<link>[^)\s]+)\)")
# Of a page: an element that a browser loads without a click. Of a style sheet: a file that it names.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:url\(|@import )["']?((?:https?:)?//[^"')\s]+)"""
)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Return a page's text with its generated content, and with links that work in the site."""
    for mark, content in GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, content())
    docs = Path(config.docs_dir)
    pages = {file.src_uri for file in files if not file.inclusion.is_excluded()}
    here = (docs / page.file.src_uri).parent

    def shown(match: re.Match[str]) -> str:
        link = in_site(match["link"], here, docs, pages, config.repo_url)
        return f"[{title(match['text'], here / match['link'].partition('#')[0])}]({link})"

    return LINK.sub(shown, markdown)


def on_post_build(*, config: Any) -> None:
    """Write the executed notebook as a file, and check that no page loads anything from elsewhere."""
    site = Path(config.site_dir)
    notebook_page.write(site)
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        for address in loaded(file.read_text(encoding="utf-8")):
            raise SystemExit(f"{file.relative_to(site)} loads {address}: the site must need no other server.")


def in_site(link: str, here: Path, docs: Path, pages: set[str], repository: str) -> str:
    """Return a link as it is, or the address of its target in the repository if the site does not have it.

    Parameters
    ----------
    link : str
        As in the page.
    here, docs : Path
        Folder of the page, and of all pages.
    pages : set of str
        What the site has, relative to `docs`.
    repository : str
    """
    path, mark, anchor = link.partition("#")
    target = Path(os.path.normpath(here / path))
    root = docs.parent
    if not path or ":" in path or not target.exists() or not target.is_relative_to(root):
        return link  # MkDocs reports a dead one
    if target.is_relative_to(docs) and target.relative_to(docs).as_posix() in pages:
        return link
    kind = "tree" if target.is_dir() else "blob"
    return f"{repository}/{kind}/main/{target.relative_to(root).as_posix()}{mark}{anchor}"


def title(text: str, page: Path) -> str:
    """Return the title of the page that a link leads to, if the text of the link is the page's name; else the text."""
    if page.name != text or page.suffix != ".md" or not page.exists():
        return text
    first, _, _ = page.read_text(encoding="utf-8").partition("\n")
    return f"*{first.removeprefix('# ')}*"


def loaded(text: str) -> list[str]:
    """Return the addresses on other servers that a page or a style sheet loads."""
    return [address for match in LOADED.finditer(text) for address in match.groups() if address]
