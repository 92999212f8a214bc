"""What a user meets first: the version, what is in the way of a store, what a store needs, numbers with their nouns."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import erase_core
import numpy as np
import pytest
from command_line import check_refused as check_ended
from command_line import erase as command
from command_line import json_of
from erase_core import principal_axes
from erase_core.erase import Erase
from erase_core.errors import (
    DuplicateIdError,
    ExampleError,
    ForgottenError,
    KeyFileError,
    OldCopyWarning,
    ParameterError,
    PromptTooLongError,
    StoreError,
    UnknownIdError,
)
from erase_core.examples.example import counted
from erase_core.llm.prompt import Prompt, Template, fit_budget
from erase_core.reports import IngestReport, PromptChanges
from small_stores import CountingLLM, WordEmbedder, contents, create, example, refused, some

NOBODY = 65534
MANY = "0|[2-9]|[1-9][0-9]+"
# A number with a noun, or a verb, of the other number.
PLURAL = re.compile(r"\b1 (?:other |more |bad )*(?:examples|subjects|receipts|shots|demonstrations|rows|tokens|ids)\b")
SINGULAR = re.compile(rf"\b(?:{MANY}) (?:other |more |bad )*(?:example|subject|receipt|shot|token|row)\b")
VERB = re.compile(rf"\b1 (?:remain|are|were|have|look|give)\b|\b(?:{MANY}) (?:remains|is|was|has|looks|gives)\b")


def check_numbers(text: str) -> None:
    """Numbers in a text agree with their nouns and verbs."""
    wrong = [found for each in (PLURAL, SINGULAR, VERB) for found in each.findall(text)]
    assert not wrong, (wrong, text)


# ---- the version ----
def test_the_version_is_that_of_the_package() -> None:
    result = command("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"erase-core {erase_core.__version__}\n", "")
    assert "--version" in command("--help").stdout
    with suppress(PackageNotFoundError):  # run from the sources
        assert version("erase-core") == erase_core.__version__
    check_ended(command("status", "--version"), 2)


# ---- a folder that is not vacant ----
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lost+found/"], ("'lost+found' is in the way", "new folder")),
        ([".DS_Store"], ("'.DS_Store' is in the way",)),
        (["b", "a/"], ("'a', 'b' are in the way",)),
        (["d", "c", "b", "a"], ("'a', 'b', 'c' and 1 more are in the way",)),
        ([f"{i:03}" for i in range(50)], ("'000', '001', '002' and 47 more are in the way",)),
        (["two\nlines"], (r"'two\nlines' is in the way",)),
        (["examples.sqlite", "model.qkm"], ("holds a store already", "Open the store")),
        (["receipts/"], ("'receipts' is in the way",)),
    ],
    ids=lambda value: value[0][:12] if isinstance(value, list) else "",
)
def test_what_is_in_the_way_is_named(tmp_path: Path, names: list[str], words: tuple[str, ...]) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    before = contents(tmp_path)
    refused(lambda: create(folder), StoreError, "is not empty", str(folder), *words)
    check_ended(command("init", "--store", folder), 5, "is not empty", *words)
    assert contents(tmp_path) == before
    create(folder / "store", some(2)).close()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(lambda: create(tmp_path / "file"), StoreError, "is a file")
    refused(lambda: create(tmp_path / "file" / "a" / "b"), StoreError, f"{tmp_path / 'file'} is a file")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    with pytest.raises(StoreError):
        create(tmp_path / "link")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "link"]


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "examples.sqlite.partial-77").touch()
    create(tmp_path, some(2)).close()
    assert not list(tmp_path.glob("*.partial-*"))


# ---- a store that cannot be written ----
@contextmanager
def unprivileged(path: Path) -> Iterator[None]:
    """Be a user whom rights of files hold for."""
    if os.geteuid():
        yield
        return
    for file in (path, *path.rglob("*")):
        os.chown(file, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


RIGHTS = {"all": (0o555, 0o444), "folder": (0o555, 0o644), "closed": (0o000, 0o644), "unreadable": (0o755, 0o000)}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may look into."""
    folder = Path("/tmp" if os.path.isdir("/tmp") else ".") / f"shared-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("rights", RIGHTS)
def test_a_store_says_what_it_needs(shared: Path, rights: str) -> None:
    of_folder, of_files = RIGHTS[rights]
    path = shared / "store"
    create(path, some(6)).close()
    for file in path.iterdir():
        file.chmod(of_files)
    path.chmod(of_folder)
    try:
        with unprivileged(path):
            call = lambda: Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM())  # noqa: E731
            refused(call, StoreError, "needs write access", str(path))
            check_ended(command("status", "--store", path), 13, "needs write access")
    finally:
        path.chmod(0o755)


def test_a_reader_that_may_not_write_is_told_when_it_wants_to(shared: Path) -> None:
    path = shared / "store"
    create(path, some(6)).close()
    for file in path.iterdir():
        file.chmod(0o444)
    with unprivileged(path), Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as erase:
        assert erase.status().n_examples == 6
        refused(lambda: erase.forget(1), KeyFileError, "needs write access", "nothing was changed")
        refused(lambda: erase.ingest(some(1, 90)), KeyFileError, "needs write access", "nothing was changed")
        assert erase.status().n_examples == 6


# ---- numbers ----
@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [
        (0, "example", "0 examples"),
        (1, "example", "1 example"),
        (2, "example", "2 examples"),
        (3, "query", "3 queries"),
    ],
)
def test_counted(n: int, noun: str, text: str) -> None:
    assert counted(n, noun) == text


def test_the_law_can_fail() -> None:
    for wrong in ("1 examples", "2 example left", "1 remain", "3 is", "1 more bad rows"):
        with pytest.raises(AssertionError):
            check_numbers(wrong)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_reports_agree_with_their_numbers(path: Path, n: int) -> None:
    with create(path, n_shots=max(n, 1)) as erase:
        texts = [str(erase.ingest([example(i, subject=f"s{i}") for i in range(n + 1)])), str(erase.status())]
        texts.append(str(erase.forget(n)))
        texts.append(str(erase.forget([77] * bool(n) + [78, 79][: n - 1] or [77], on_missing="skip")))
        texts += [str(erase.status()), str(erase.verify())]
        report = erase.ingest([{"input": "a", "output": "b"}])
        every: dict[str, Any] = {"n_added": n, "n_skipped": n, "n_forgotten": n, "n_duplicates": n, "n_examples": n}
        texts.append(str(replace(report, **every)))
        forgotten = erase.forget(erase.examples()[-1].id or 0)
        for n_similar in (0, n):
            texts.append(str(replace(forgotten, ids=list(range(n)), n_examples=n, n_missing=n, n_similar=n_similar)))
            several: list[list[int | str]] = [[i] for i in range(n)]
            for prompts in (PromptChanges([], [[*range(n)]]), PromptChanges([], several)):
                texts.append(str(replace(forgotten, ids=list(range(n)), prompts=prompts, dry_run=True)))
    for text in texts:
        check_numbers(text)
    assert isinstance(report, IngestReport)


@pytest.mark.parametrize("n", [1, 2])
def test_errors_agree_with_their_numbers(path: Path, tmp_path: Path, n: int) -> None:
    with create(path, some(6), receipts=tmp_path / "receipts") as erase:
        shutil.copytree(path, tmp_path / "old")
        erase.forget(list(range(n)))
        calls: list[tuple[Callable[[], object], type[Exception]]] = [
            (lambda: erase.forget(list(range(n))), UnknownIdError),
            (lambda: erase.ingest(some(n)), ForgottenError),
            (lambda: erase.ingest(some(6)), ForgottenError),
            (lambda: erase.ingest([example(i) for i in range(n, 2 * n)][:n]), (DuplicateIdError)),
            (lambda: erase.ingest([{"input": "", "output": "a"}] * (n + 1)), ExampleError),
            (lambda: fit_budget(Prompt(Template(), (), "what"), 1, lambda _: n + 1), PromptTooLongError),
            (lambda: principal_axes(np.eye(8, dtype=np.float32)[:n], n + 1), ValueError),
        ]
        for call, error in calls:
            with pytest.raises(error) as caught:
                call()
            check_numbers(str(caught.value))
    with pytest.warns(OldCopyWarning) as warned, Erase.open(tmp_path / "old", embedder=WordEmbedder()) as old:
        assert old.status().n_examples == 6 - n
    check_numbers(str(warned[0].message))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_commands_agree_with_their_numbers(tmp_path: Path, n: int) -> None:
    store = tmp_path / "store"
    create(store, [example(i, subject=f"s{i}") for i in range(n + 2)], n_shots=n + 1, llm=None).close()
    texts = [command("status", "--store", store).stdout, command("export", tmp_path / "out", "-s", store).stdout]
    texts.append(command("forget", "--id", n + 1, "--yes", "--store", store).stdout)
    texts.append(command("forget", "--id", n, "--yes", "--store", store).stdout)
    every = (["status"], ["verify"], ["receipts", "list"], ["receipts", "verify"])
    texts += [command(*arguments, "--store", store).stdout for arguments in every]
    texts.append(command("export", tmp_path / "out2", "--store", store).stdout)
    for text in texts:
        assert text
        check_numbers(text)
    assert json_of("status", "--store", store)["n_examples"] == n


def test_a_parameter_that_is_none_is_named() -> None:
    refused(lambda: Erase.create(5, embedder=WordEmbedder()), ParameterError, "path")  # type: ignore[arg-type]
