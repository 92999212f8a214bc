"""A store as a collection of ids, its `repr`, and what notebooks show of stores, prompts and reports."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from decimal import Decimal
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import says, serving
from command_line import erase as run_erase
from command_line import json_of
from erase_core import (
    AsyncErase,
    Erase,
    ScanFinding,
    ScanReport,
    Status,
    StoreError,
    Template,
    UnreadPlace,
    WarmReport,
    notebook,
)
from erase_core.errors import IdKindError, UnknownIdError
from erase_core.examples.example import Example
from erase_core.llm.prompt import Prompt
from erase_core.reports import ForgetReport, PromptChanges
from small_stores import CountingLLM, WordEmbedder, create, example, new_path, parts_of, refused, some

EVIL = "<script>alert('\"&')</script>"
VOID = {"br", "hr"}
IDS: dict[str, list[Any]] = {"integers": [-5, 0, 1, 2**63 - 1, -(2**63)], "text": ["1", "a", "<b>", "é\n"]}
# What no store has as an id, and what `forget` does not even take as one.
WRONG: list[Any] = [
    None,
    True,
    1.0,
    0.5,
    b"1",
    [1],
    {1},
    {"id": 1},
    (),
    object(),
    2**63,
    "\0",
    "\ud800",
    Decimal("1.5"),
]


class Parsed(HTMLParser):
    """The texts of an HTML page, its elements, and their attributes. Every element ends where it has to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.within: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        self.within.setdefault(self.open[-1] if self.open else "", []).append(data)


def displayed(thing: Any) -> Parsed:
    """What a notebook shows of an object."""
    return Parsed(thing._repr_html_())


# ---- a collection of ids ----
@pytest.mark.parametrize("kind", IDS)
def test_a_store_is_a_collection_of_its_ids(path: Path, kind: str) -> None:
    ids = IDS[kind]
    with create(path, [example(id_) for id_ in ids]) as erase:
        gone, *left = ids
        for expected in (ids, left):
            assert len(erase) == erase.status().n_examples == len(expected)
            assert list(erase) == sorted(expected) == [each.id for each in erase.examples()]
            assert all(id_ in erase for id_ in erase)
            if gone in erase:
                erase.forget(gone)
        assert gone not in erase


@pytest.mark.parametrize("kind", IDS)
def test_what_is_in_a_store_is_what_forget_finds(path: Path, kind: str) -> None:
    values = [*IDS["integers"], *IDS["text"], 7, "7", np.int64(1), np.uint8(0), Decimal(1), np.str_("a"), *WRONG]
    with create(path, [example(id_) for id_ in IDS[kind]]) as erase:
        for value in values:
            try:
                found = erase.forget([value], dry_run=True).ids != []
            except (UnknownIdError, IdKindError):
                found = False
            assert (value in erase) is found, value
        assert not any(value in erase for value in WRONG)


def test_a_store_without_examples_is_true(path: Path) -> None:
    with create(path) as erase:
        assert bool(erase)
        assert (len(erase), list(erase), 1 in erase) == (0, [], False)


def test_the_collection_follows_other_handles(path: Path) -> None:
    with create(path, some(6)) as erase, Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as other:
        assert len(other) == 6
        ids = iter(other)
        erase.forget(3)
        assert (len(other), 3 in other, list(other)) == (5, False, [0, 1, 2, 4, 5])
        assert list(ids) == list(range(6))  # as they were


@pytest.mark.parametrize("call", [len, list, lambda erase: 1 in erase], ids=["len", "iter", "in"])
def test_a_closed_store_has_no_collection(path: Path, call: Callable[[Erase], object]) -> None:
    erase = create(path, some(3))
    erase.close()
    refused(lambda: call(erase), StoreError, "closed")


def test_the_models_of_a_store(path: Path) -> None:
    embedder, llm = WordEmbedder(), CountingLLM()
    with create(path, embedder=embedder, llm=llm) as erase:
        assert erase.embedder is embedder
        assert erase.llm is llm
        twin = AsyncErase(erase)
        assert (asyncio.run(twin.embedder()), asyncio.run(twin.llm())) == (embedder, llm)
        assert repr(erase) in repr(twin)
    for name in ("embedder", "llm"):
        refused(partial(getattr, erase, name), StoreError, "closed")


# ---- repr ----
def test_the_repr_says_what_a_store_is(path: Path) -> None:
    with create(path, some(5), n_shots=4) as erase:
        shown = repr(erase)
        assert shown.startswith("<Erase ")
        for part in (repr(str(path)), "5 examples", "4 shots by kmeans", "'words'", "'counting'"):
            assert part in shown
        assert not any(each.input in shown for each in erase.examples())
    assert "closed" in repr(erase)
    assert "5 examples" not in repr(erase)


def test_the_repr_of_a_damaged_store_does_not_fail(path: Path) -> None:
    with create(path, some(5)) as erase:
        with closing(sqlite3.connect(path / "examples.sqlite")) as db, db:
            db.execute("DROP TABLE state")
        assert "not readable" in repr(erase)
        assert "not readable" in "".join(displayed(erase).texts)
        shutil.rmtree(path)
        assert "not readable" in repr(erase)
        assert "not readable" in "".join(displayed(erase).texts)


def test_the_repr_waits_for_no_thread_and_survives_any_model(path: Path) -> None:
    class Odd(CountingLLM):
        broken = False

        @property
        def name(self) -> str:  # type: ignore[override]
            if self.broken:
                raise ValueError("no name")
            return "odd"

    llm = Odd()
    with create(path, some(5), llm=llm) as erase:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with parts_of(erase).lock:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        assert "in use" in repr(erase)
        done.set()
        thread.join()
        llm.broken = True
        assert "5 examples" in repr(erase)


def test_the_repr_changes_nothing(path: Path) -> None:
    with create(path, some(5)) as erase, Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as other:
        assert other.prompt("late").demonstrations
        erase.forget([each.id for each in other.demonstrations()])
        before = parts_of(other).clustering.is_current
        assert "2 examples" in repr(other)
        with parts_of(other).store.reading() as reads:
            assert not before(reads)


# ---- HTML ----
def evil_example(id_: int | str) -> Example:
    return Example(id_, f"input {EVIL}", f"output {EVIL}", f"rationale {EVIL}", f"subject {EVIL}")


def evil_things(path: Path) -> dict[str, Any]:
    """One of each, with a script in every text that a caller can give."""
    evil = [evil_example(f"{i}{EVIL}") for i in range(4)]
    embedder, llm = WordEmbedder(EVIL), CountingLLM()
    llm.name = EVIL
    template = Template(*(f"{name} {EVIL}" for name in ("instruction", "in", "out", "between", "stop")))
    rows: list[Any] = [*evil, {"id": EVIL, "input": None}]
    settings: dict[str, Any] = {"embedder": embedder, "llm": llm, "template": template, "options": [EVIL, "b"]}
    erase = create(path / EVIL.replace("/", ""), strategy="routed", n_prompts=2, **settings)
    things: dict[str, Any] = {"erase": erase, "ingest": erase.ingest(rows, skip_bad=True)}
    things |= {"prompt": erase.prompt(f"query {EVIL}"), "route": erase.route("late"), "verification": erase.verify()}
    things |= {"forget": erase.forget(evil[0].id), "dry forget": erase.forget(evil[1].id, dry_run=True)}
    things |= {"status": erase.status(), "warm": WarmReport(1, 2, 3, 0, 0, 5, 0.1)}
    things["problems"] = replace(things["verification"], ok=False, problems=[f"problem {EVIL}"])
    finding = ScanFinding("text", 1, f"form {EVIL}", f"place {EVIL}", 7, True)
    unread = UnreadPlace(f"unread {EVIL}", f"reason {EVIL}")
    things["scan"] = ScanReport(f"folder {EVIL}", 1, 2, 1, 0, 0, [finding], [unread])
    return things


def test_every_text_is_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    things = evil_things(tmp_path)
    for name, thing in things.items():
        page = displayed(thing)
        assert "script" not in page.elements, name
        assert not page.attributes & {"src", "href", "onload", "srcset"}, name
        assert not set(page.elements) & {"img", "link", "iframe", "object", "style", "svg"}, name
    # What is escaped is still there.
    assert displayed(things["prompt"]).within["pre"] == [things["prompt"].text]
    for name in ("prompt", "status", "erase", "ingest", "problems", "scan", "forget"):
        assert EVIL in "".join(displayed(things[name]).texts), name
    things["erase"].close()


def test_ipython_shows_it(tmp_path: Path) -> None:
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    things = evil_things(tmp_path)
    for thing in things.values():
        data, _ = formatter.format(thing)
        assert data["text/html"] == thing._repr_html_()
        assert data["text/plain"]
    things["erase"].close()


def test_a_prompt_shows_its_demonstrations(path: Path) -> None:
    with create(path, [evil_example(1), Example(2, "b", "c")], n_shots=2) as erase:
        made = erase.prompt("late?")
    texts = displayed(made).within["td"]
    for shown in made.demonstrations:
        for field in fields(Example):
            value = getattr(shown, field.name)
            assert value is None or str(value) in texts
    assert displayed(Prompt(Template(), (), "q")).within["pre"] == ["Q: q\nA:"]


@pytest.mark.parametrize("settings", [{}, {"strategy": "routed", "n_prompts": 3}], ids=["kmeans", "routed"])
def test_a_removal_shows_what_went_and_what_came(path: Path, settings: dict[str, Any]) -> None:
    with create(path, some(12), **settings) as erase:
        gone = erase.status().prompts[0][:2]
        texts = [each.input for each in erase.examples() if each.id in gone]
        report = erase.forget(gone)
    page = displayed(report)
    assert set(map(str, report.prompts.removed)) <= set(page.within["del"])
    assert set(map(str, report.prompts.added)) <= set(page.within.get("ins", []))
    assert set(map(str, gone)) <= set(page.within["del"])
    assert not any(text in "".join(page.texts) for text in texts)


def test_the_marks_are_those_of_each_prompt() -> None:
    changes = PromptChanges([[1, 2], [3, 4], [5]], [[2, 9], [3, 4]])
    page = displayed(ForgetReport([1], 5, "replayed", changes, 0.0, 0.0))
    assert (page.within["del"], page.within["ins"]) == (["1", "5"], ["9"])
    unknown = displayed(ForgetReport([1], 5, "replayed", PromptChanges([], [[2]]), 0.0, 0.0))
    assert "not known" in unknown.within["td"]
    queries = displayed(ForgetReport([1], 5, "replayed", PromptChanges(), 0.0, 0.0))
    assert "caption" not in queries.elements


def test_long_lists_are_cut() -> None:
    ids: list[int | str] = list(range(10_000))
    report = ForgetReport(ids, 5, "replayed", PromptChanges([ids[:8]] * 1000, [ids[8:16]] * 1000), 0.0, 0.0)
    html = report._repr_html_()
    assert len(html) < 200_000
    assert f"and {10_000 - notebook.MOST_VALUES} more" in html
    assert f"and {1000 - notebook.MOST_ROWS} more" in html


def test_the_html_of_a_store_is_its_status(path: Path) -> None:
    with create(path, some(5), options=["a", "b"]) as erase:
        assert erase._repr_html_() == erase.status()._repr_html_()
        texts = displayed(erase).within["th"]
        assert texts == [field.name.replace("_", " ") for field in fields(Status)]
    assert "closed" in "".join(displayed(erase).texts)


# ---- status ----
def test_the_status_has_options_and_template(path: Path) -> None:
    template = Template(instruction="Do.", stop="\n\n")
    with create(path, options=["yes", "no"], template=template) as erase:
        status = erase.status()
    assert (status.options, status.template) == (("yes", "no"), template.to_dict())
    assert (status.base_url, status.server) == (None, None)
    with new_path() as other, create(other) as erase:
        assert (erase.status().options, erase.status().template) == ((), Template().to_dict())


def test_the_status_has_the_server_and_never_its_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-canary-0123456789"
    monkeypatch.setenv("MY_KEY", secret)
    with serving(says("yes")) as server:
        stored = {"timeout": 5, "api_key_env": "MY_KEY", "parameters": {"top_p": 0.5}}
        create(path, some(3), llm="m", base_url=server.url, server=stored).close()
        given: dict[str, Any] = {"embedder": WordEmbedder(), "api_key": secret, "server": {"max_retries": 7}}
        with Erase.open(path, **given) as erase:
            assert erase.ask("late").text == "yes"
            status = erase.status()
            shown = [repr(erase), repr(status), erase._repr_html_(), json.dumps(status.to_dict()), str(status)]
        assert status.base_url == server.url
        assert status.server is not None
        expected = {"timeout": 5.0, "max_retries": 7, "api_key_env": "MY_KEY", "parameters": {"top_p": 0.5}}
        assert {name: status.server[name] for name in expected} == expected
        text = run_erase("status", "--store", path).stdout
        shown += [text, json.dumps(json_of("status", "--store", path))]
        assert not [each for each in shown if secret in each]
        (line,) = (line for line in text.splitlines() if line.startswith("model server"))
        assert all(part in line for part in (server.url, "timeout 5.0", "MY_KEY", "top_p"))
    assert json_of("status", "--store", path)["server"]["parameters"] == {"top_p": 0.5}


def test_the_command_shows_options_and_template(path: Path) -> None:
    create(path, options=["yes", "no"], template=Template(stop="##")).close()
    lines = dict(line.split(maxsplit=1) for line in run_erase("status", "--store", path).stdout.splitlines())
    assert lines["options"] == "yes, no"
    assert json.loads(lines["template"]) == Template(stop="##").to_dict()
    assert json_of("status", "--store", path)["options"] == ["yes", "no"]
