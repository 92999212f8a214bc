"""The documents: their code, Python and shell, runs; their links, file names and step numbers are right."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import plain_english
import pytest
from chat_server import says, serving
from checkout import ROOT
from command_line_reference import commands
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from erase_core import Erase, _core
from processes import HANG
from small_stores import create, some

PROJECT = r"https://(?:github|raw\.githubusercontent)\.com/erase-core/erase-core"
DOCS = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.glob("docs/**/*.md"))
TEXTS = ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", *DOCS]
# The model server of docs/servers.md. One that runs here takes its place.
SERVER = "http://localhost:8000/v1"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: str) -> list[tuple[str, str]]:
    """The page's fenced blocks, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


PAGES = [page for page in ["README.md", *TEXTS] if {"python", "sh"} & dict(blocks(page)).keys()]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_dead(link: str, folder: Path) -> bool:
    """Whether a link from a page of the folder leads to no file, or to no heading of it."""
    path, _, anchor = link.partition("#")
    target = folder / path if path else None
    return target is not None and (not target.exists() or (anchor != "" and anchor not in anchors(target)))


def test_links_of_the_readme_work_on_a_package_index_and_lead_to_files_that_are_here() -> None:
    """An index shows the README without the repository around it, so links must be absolute."""
    links = LINK.findall((ROOT / "README.md").read_text())
    ours = [match[1] for link in links if (match := re.fullmatch(rf"{PROJECT}/(?:blob/|tree/|)main/(.+)", link))]
    assert all(link.startswith("https://") for link in links)
    assert len(ours) > 10
    assert [link for link in ours if is_dead(link, ROOT)] == []


@pytest.mark.parametrize("page", TEXTS)
def test_links_between_pages_lead_to_files_and_headings_that_are_here(page: str) -> None:
    file = ROOT / page
    links = [link for link in LINK.findall(file.read_text()) if not link.startswith("https://")]
    own = [link for link in links if link.startswith("#")]
    assert [link for link in links if is_dead(link, file.parent)] == []
    assert [link for link in own if link[1:] not in anchors(file)] == []


def test_a_dead_link_is_found() -> None:
    assert is_dead("docs/nowhere.md", ROOT)
    assert is_dead("docs/limits.md#nothing", ROOT)
    assert not is_dead("docs/limits.md#clustering", ROOT)


def test_every_page_is_named_by_another() -> None:
    """A page that no other page links to is not found by a reader."""
    links = [link for page in ["README.md", *TEXTS] for link in LINK.findall((ROOT / page).read_text())]
    assert {Path(page).name for page in DOCS} <= {Path(link.partition("#")[0]).name for link in links}


@pytest.mark.parametrize("root", ["python/erase_core", "rust/core/src", "rust/kernel/src"])
def test_the_map_names_every_file(root: str) -> None:
    """So that a newcomer finds the right one, and a file that is new, moved or gone changes the map."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    files = [*(ROOT / root).rglob("*.py"), *(ROOT / root).rglob("*.rs")]
    assert [file.name for file in files if file.name not in page and not file.name.startswith("__")] == []


def test_the_map_names_no_file_that_is_gone() -> None:
    named = set(re.findall(r"\b\w+\.(?:py|rs|c)\b", (ROOT / "ARCHITECTURE.md").read_text()))
    present = {file.name for folder in ("python", "rust", "tests", "benches") for file in (ROOT / folder).rglob("*.*")}
    assert named - present == set()


def test_the_core_imports_one_way_as_the_map_says() -> None:
    """Cargo checks this of crates, not of the modules in one."""
    _, _, page = (
        (ROOT / "ARCHITECTURE.md").read_text().partition("A module of the core uses only those to the right of it:")
    )
    groups = [re.findall(r"\w+", group) for group in page.partition("\n\n## ")[0].split("->")]
    places = {module: place for place, group in enumerate(groups) for module in group}
    files = {file.stem: file for file in (ROOT / "rust/core/src").glob("*.rs") if file.stem not in ("lib", "golden")}
    assert places.keys() == files.keys()
    uses = {module: set(re.findall(r"\bcrate::(\w+)", file.read_text())) for module, file in files.items()}
    assert sum(map(len, uses.values())) > len(files)
    wrong = {
        (module, used) for module in files for used in uses[module] & places.keys() if places[used] <= places[module]
    }
    assert wrong - {(module, module) for module in files} == set()


@pytest.mark.parametrize("name", ["forget", "verify"])
def test_the_code_has_every_step_of_the_map_and_no_other(name: str) -> None:
    _, _, steps = (ROOT / "ARCHITECTURE.md").read_text().partition(f"## The steps of `{name}`")
    numbers = set(map(int, re.findall(r"^(\d+)\. ", steps.partition("\n## ")[0], re.MULTILINE)))
    code = "".join(file.read_text() for file in (ROOT / "python").rglob("*.py"))
    ranges = re.findall(rf"# {name} (\d+)(?: to (\d+))?", code)
    tagged = {number for first, last in ranges for number in range(int(first), int(last or first) + 1)}
    assert numbers
    assert tagged == numbers


@pytest.mark.parametrize("page", ["README.md", *TEXTS])
def test_pages_are_in_plain_english(page: str) -> None:
    assert list(plain_english.findings(ROOT / page)) == []


@pytest.mark.parametrize("turn", plain_english.TURNS, ids=lambda turn: turn.example)
def test_the_check_of_language_can_fail(tmp_path: Path, turn: plain_english.Turn) -> None:
    """Each turn is found in its example: in a document, a docstring, a message and a comment, but not in code."""
    document, source = tmp_path / "page.md", tmp_path / "source.py"
    document.write_text(f"# A page\n\n    {turn.example}\n\n{turn.example}\n")
    assert [finding.line for finding in plain_english.findings(document)] == [5]
    source.write_text(f'"""A module.\n\n{turn.example}\n"""\n\nraise ValueError({turn.example!r})  # {turn.example}\n')
    assert {finding.line for finding in plain_english.findings(source)} == {3, 6}


def test_a_turn_that_a_line_break_divides_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("A process goes\non with it.\n")
    assert [finding.line for finding in plain_english.findings(tmp_path / "page.md")] == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads an ELF file")
def test_the_compiled_core_carries_no_debug_symbols() -> None:
    content = Path(_core.__file__).read_bytes()
    (first,), (size, count, index) = struct.unpack_from("<Q", content, 40), struct.unpack_from("<3H", content, 58)
    headers = [struct.unpack_from("<IIQQQQ", content, first + size * i) for i in range(count)]
    names = content[headers[index][4] : headers[index][4] + headers[index][5]]
    sections = [names[header[0] :].partition(b"\0")[0] for header in headers]
    assert b".text" in sections
    assert [name for name in sections if name.startswith(b".debug")] == []


@pytest.mark.parametrize("page", ["README.md", *TEXTS])
def test_every_block_is_one_that_runs_or_plain_text(page: str) -> None:
    """A block in another language, such as `bash`, would not be run."""
    fences = re.findall(r"^ *```.*$", (ROOT / page).read_text(), re.MULTILINE)
    languages = [language for language, _ in blocks(page)]
    assert len(fences) == 2 * len(languages)
    assert {*languages} <= {"python", "sh", "json", "text", ""}
    assert "README.md" in PAGES
    for language, code in blocks(page):
        assert language != "json" or json.loads(code)


def before(page: str, folder: Path) -> None:
    """Make what a page's code finds: a receipt and the key that signed it; a store."""
    if page == "docs/receipts.md":
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "private.pem").write_bytes(pem)
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "public.pem").write_bytes(public)
        with create(folder / "store", some(2), receipts=folder / "all", signing_key=folder / "private.pem") as erase:
            erase.forget(1)
        shutil.copy(folder / "all" / "00000001.json", folder)
    if page == "docs/mcp.md":
        with Erase.create(folder / "store", n_shots=2, strategy="kmeans") as erase:
            erase.ingest(
                [{"input": "where is my parcel?", "output": "delivery"}, {"input": "refund!", "output": "refund"}]
            )


@pytest.mark.parametrize("page", PAGES)
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("openssl", "xxd"):
        if any(program in code for _, code in blocks(page)) and shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    monkeypatch.chdir(tmp_path)
    # The command `erase` of the package that is tested.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    before(page, tmp_path)
    names: dict[str, Any] = {}
    try:
        with serving(says("delivery")) as server:
            for language, code in blocks(page):
                run(language, code.replace(SERVER, server.url), page, names)
    finally:
        for file in tmp_path.glob("*.pid"):  # a server that the page has started, if it did not come to its end
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


def run(language: str, code: str, page: str, names: dict[str, Any]) -> None:
    if language == "sh":
        subprocess.run(["bash", "-euc", code], check=True, timeout=HANG)
    elif language == "python":
        # Not the name of a file, of which a library would read the page as the source of a function.
        exec(compile(code, f"<{page}>", "exec"), names)


def commands_of(page: str) -> Iterator[str]:
    """Yield each command that a page names in its code: in fenced blocks, indented ones, and lines of text."""
    text = (ROOT / page).read_text()
    code = [block for language, block in blocks(page) if language == "sh"]
    code += re.findall(r"^ {4}\S.*$", text, re.MULTILINE) + re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
    for part in re.split(r"\||\n|&&|;|#", "\n".join(code).replace("\\\n", " ")):
        if re.match(r"erase [a-z-]", part.strip()):
            yield " ".join(part.split())


@pytest.mark.parametrize("page", ["README.md", *TEXTS])
def test_every_command_and_option_exists(page: str) -> None:
    known = {
        name: {each for option in command.get_params(context) for each in (*option.opts, *option.secondary_opts)}
        for name, command, context in commands()
    }
    for line in commands_of(page):
        name = max((name for name in known if f"{line} ".startswith(f"{name} ")), key=len)
        given = {word for word in line.split() if re.fullmatch("--[a-z-]+", word)}
        assert name != "erase" or given, f"{line}: there is no such command"
        assert given - known[name] == set(), line
