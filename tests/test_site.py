"""The documentation site: its pages are in its menu, its references are complete, and it needs no other server.

`make docs` builds it. What runs here needs no MkDocs, but for the tests of docs/site/hooks.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import command_line_reference
import erase_core
import pytest
import yaml
from checkout import ROOT
from erase_core import errors
from processes import HANG

DOCS = ROOT / "docs"
INTEGRATIONS = "erase_core.integrations."
REPOSITORY = "https://github.com/erase-core/erase-core"


def entries(menu: Any) -> Iterator[str]:
    """The pages that a menu leads to."""
    if isinstance(menu, str):
        yield menu
    else:
        for part in menu.values() if isinstance(menu, dict) else menu:
            yield from entries(part)


def documented() -> list[str]:
    """The objects that the pages of the API describe, by module and name."""
    return [
        name for page in DOCS.glob("api/*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]


def cells_of(row: str) -> list[str]:
    """The cells of a row. A bar within code does not end one."""
    return re.sub(r"`[^`]*`", "code", row.strip()).split("|")[1:-1]


# ---- the menu and the references ----
def test_the_menu_has_every_page_once() -> None:
    menu = sorted(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert menu == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_reference_has_every_public_name_once() -> None:
    """And each is where the page says: the same object that `erase_core` has under that name."""
    modules = {"erase_core.errors", *(name for name in documented() if name.startswith(INTEGRATIONS))}
    names = [each.rpartition(".") for each in documented() if each not in modules]
    found = sorted(name for _, _, name in names if name != "DistributedQKMeans")  # not in `erase_core` itself
    assert found == sorted({*erase_core.__all__} - {"__version__"})
    assert {*errors.__all__} <= {name for module, _, name in names if module == "erase_core.errors"}
    for module, _, name in names:
        if hasattr(erase_core, name):
            assert getattr(import_module(module), name) is getattr(erase_core, name)


def test_the_reference_has_every_framework_once() -> None:
    files = (ROOT / "python" / "erase_core" / "integrations").glob("[!_]*.py")
    described = sorted(name for name in documented() if name.startswith(INTEGRATIONS))
    assert described == sorted(f"{INTEGRATIONS}{file.stem}" for file in files)


def test_the_command_line_reference_has_a_section_for_each_command_with_all_of_its_options() -> None:
    sections = re.split(r"^## ", command_line_reference.reference(), flags=re.MULTILINE)[1:]
    found = {section.partition("\n")[0]: section for section in sections}
    named = {
        f"`{name}`": [*command.get_params(context)] for name, command, context in command_line_reference.commands()
    }
    assert found.keys() == {*named, "Exit codes"}
    assert len(named) > 15
    for name, parameters in named.items():
        for option in parameters:
            assert option.param_type_name == "argument" or re.search(
                rf"^\| `[^`]*{option.opts[0]}\b", found[name], re.M
            )


def test_tables_of_the_command_line_reference_have_the_cells_of_their_head() -> None:
    for table in re.findall(r"(?:^\|.*\n?)+", command_line_reference.reference(), re.MULTILINE):
        widths = {len(cells_of(row)) for row in table.splitlines()}
        assert len(widths) == 1, table


def test_parameters_that_share_a_description_are_taken_apart() -> None:
    pytest.importorskip("griffe", reason="needs the dependency group docs")
    head, tail = "Do.\n\nParameters\n----------\na : int\n    A.\n", "d, e : int\n\nNotes\n-----\nx, y\n    z"
    docstring = f"{head}b, **c\n    Of both,\n\n    at length.\n{tail}"
    apart = "b\n    Of both,\n\n    at length.\n**c\n    Of both,\n\n    at length.\n"
    assert import_module("docstrings").one_by_one(docstring) == head + apart + tail


# ---- the notebook ----
@pytest.mark.slow  # `make docs` runs it, too
def test_the_notebook_runs_as_a_program(tmp_path: Path) -> None:
    source = DOCS / "notebook" / "support_desk.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", source], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    assert "verified: " in done.stdout


def test_the_notebook_has_all_of_its_source_in_its_cells() -> None:
    pytest.importorskip("nbclient", reason="needs the dependency group docs")
    cells = import_module("notebook_page").cells
    source = (DOCS / "notebook" / "support_desk.py").read_text()
    made = cells(source)
    assert made[0].cell_type == "markdown"
    assert made[0].source.startswith("## ")
    code = "\n".join(cell.source for cell in made if cell.cell_type == "code").split()
    assert code == " ".join(re.findall(r"^(?!#|\"\"\").+$", source, re.MULTILINE)).split()


# ---- links, and other servers ----
@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("limits.md#clustering", "limits.md#clustering"),
        ("#here", "#here"),
        ("https://example.org/x.md", "https://example.org/x.md"),
        ("../ARCHITECTURE.md#the-wings", f"{REPOSITORY}/blob/main/ARCHITECTURE.md#the-wings"),
        ("../constraints", f"{REPOSITORY}/tree/main/constraints"),
        ("site/hooks.py", f"{REPOSITORY}/blob/main/docs/site/hooks.py"),
        ("nowhere.md", "nowhere.md"),
    ],
)
def test_links_to_what_the_site_does_not_have_lead_to_the_repository(link: str, leads_to: str) -> None:
    pytest.importorskip("nbclient", reason="needs the dependency group docs")
    hooks = import_module("hooks")
    assert hooks.in_site(link, DOCS, DOCS, {"limits.md"}, REPOSITORY) == leads_to


def test_a_link_that_is_named_by_a_page_shows_the_title_of_the_page() -> None:
    pytest.importorskip("nbclient", reason="needs the dependency group docs")
    hooks = import_module("hooks")
    assert hooks.title("limits.md", DOCS / "api" / ".." / "limits.md") == "*Limits*"
    assert hooks.title("nowhere.md", DOCS / "nowhere.md") == "nowhere.md"
    assert hooks.title("the limits", DOCS / "limits.md") == "the limits"


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<img alt="a" src="//cdn.example/x.png">', ["//cdn.example/x.png"]),
        ('<link href="https://cdn.example/x.css" rel="stylesheet">', ["https://cdn.example/x.css"]),
        ("@font-face { src: url(https://cdn.example/x.woff) }", ["https://cdn.example/x.woff"]),
        ('<a href="https://example.org">', []),
        ('<script src="assets/x.js"></script><link rel="stylesheet" href="x.css">', []),
        ('<img src="data:image/png;base64,//">', []),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(page: str, found: list[str]) -> None:
    pytest.importorskip("nbclient", reason="needs the dependency group docs")
    assert import_module("hooks").loaded(page) == found
