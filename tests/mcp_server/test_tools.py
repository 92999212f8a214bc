"""The tools of `erase mcp`, called in this process: each does what a method of `Erase` does, or says what is wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from erase_core.erase import Erase
from erase_core.errors import LLMError
from erase_core.examples.example import Example
from erase_core.mcp_server import make_server
from mcp import Client, MCPError
from mcp_client import called, said, values, with_client
from mcp_types import ReadResourceResult, TextResourceContents, Tool
from small_stores import CountingLLM, WordEmbedder, contents, create, example, exported, fresh, seen, some

READING = ["demonstrations", "prompt", "status", "verify", "forget_dry_run"]
QUERY = {"query": "where is my parcel"}
CANARY = "canary in a coal mine"


@pytest.fixture
def erase(path: Path) -> Erase:
    return create(path, some(12))


def tools(erase: Erase, **options: bool) -> list[Tool]:
    async def work(client: Client) -> list[Tool]:
        return (await client.list_tools()).tools

    return with_client(make_server(erase, **options), work)


def untimed(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if "seconds" not in name}


def as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def stored(path: Path) -> dict[str, bytes]:
    """The store's files, but for the one in which SQLite notes who reads."""
    return {name: content for name, content in contents(path).items() if not name.endswith("-shm")}


# ---- which tools there are ----
def test_there_is_a_tool_that_forgets_only_if_it_is_allowed(erase: Erase) -> None:
    assert [tool.name for tool in tools(erase)] == READING
    assert [tool.name for tool in tools(erase, allow_forget=True)] == [*READING, "forget"]


def test_annotations_say_which_tools_change_something(erase: Erase) -> None:
    hints = {tool.name: tool.annotations for tool in tools(erase, allow_forget=True)}
    assert {name for name, hint in hints.items() if hint and hint.read_only_hint} == set(READING)
    assert {name for name, hint in hints.items() if hint and hint.destructive_hint} == {"forget"}
    assert all(hint and hint.open_world_hint is False for hint in hints.values())


def test_all_is_described_and_no_other_arguments_are_accepted(erase: Erase) -> None:
    for tool in tools(erase, allow_forget=True):
        assert tool.description
        assert "\n    " not in tool.description
        assert tool.output_schema is not None
        assert tool.input_schema["additionalProperties"] is False
        assert all("description" in each for each in tool.input_schema["properties"].values())


# ---- what tools return ----
@pytest.mark.parametrize("strategy", ["knn", "kmeans"])
def test_a_question_gets_the_demonstrations_and_the_prompt_of_the_store(path: Path, strategy: str) -> None:
    erase = create(path, strategy=strategy)
    erase.ingest([*some(12), Example(50, "a late parcel", "late", rationale="it is late", subject=CANARY)])
    shown, prompt = values(make_server(erase), ("demonstrations", QUERY), ("prompt", QUERY))
    expected, made = erase.demonstrations(QUERY["query"]), erase.prompt(QUERY["query"])
    fields = ("id", "input", "output", "rationale")
    assert shown == {"demonstrations": [{name: getattr(each, name) for name in fields} for each in expected]}
    assert prompt == {"text": made.text, "messages": made.messages, "demonstrations": [each.id for each in expected]}
    assert CANARY not in json.dumps([shown, prompt])


def test_status_and_verification_are_those_of_the_store(erase: Erase) -> None:
    erase.forget(3)
    absent, known = ["no such text here", "number 4"], [erase.newest_receipt, (7, "0" * 64)]
    arguments = {"absent": absent, "known": [{"number": number, "hash": hash_} for number, hash_ in known]}
    status, sound, wrong = values(make_server(erase), ("status", {}), ("verify", {}), ("verify", arguments))
    assert status == as_json(erase.status().to_dict())
    assert untimed(sound) == as_json(untimed(erase.verify().to_dict()))
    assert untimed(wrong) == as_json(untimed(erase.verify(absent, known=known).to_dict()))
    assert (sound["ok"], wrong["ok"]) == (True, False)


def test_receipts_are_resources(erase: Erase) -> None:
    for ids in ([1, 2], [5]):
        erase.forget(ids)
    server = make_server(erase)

    async def work(client: Client) -> list[ReadResourceResult]:
        uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
        assert uris == ["erase://receipts"]
        return [await client.read_resource(uri) for uri in [*uris, "erase://receipts/1", "erase://receipts/2"]]

    texts = []
    for result in with_client(server, work):
        [content] = result.contents
        assert isinstance(content, TextResourceContents)
        texts.append(content.text)
    receipts = erase.receipts()
    assert [text.encode() for text in texts[1:]] == [each.to_bytes() for each in receipts]
    named = [(each["number"], each["hash"], each["time"], each["n_removed"]) for each in json.loads(texts[0])]
    assert named == [(each.number, each.hash, each.time, len(each.rows)) for each in receipts]


# ---- removals ----
REQUESTS: dict[str, dict[str, Any]] = {
    "ids": {"ids": [1, 2]},
    "ids, some missing": {"ids": [1, 100], "on_missing": "skip"},
    "nothing that is there": {"ids": [100], "on_missing": "skip"},
    "a subject": {"subjects": ["ann"]},
    "subjects, another spelling": {"subjects": ["ANN ", "bob"], "match": "normalised"},
}


def of_erase(request: dict[str, Any]) -> dict[str, Any]:
    """A request as `Erase.forget` takes it."""
    return {"subject" if name == "subjects" else name: value for name, value in request.items()}


@pytest.mark.parametrize("name", REQUESTS)
def test_forget_is_erase_forget(erase: Erase, path: Path, name: str) -> None:
    request = REQUESTS[name]
    with create(path.with_name("twin"), some(12)) as twin:
        expected = twin.forget(**of_erase(request))
    [report] = values(make_server(erase, allow_forget=True), ("forget", request))
    receipt = erase.newest_receipt
    assert report["receipt"] == (receipt._asdict() if expected.ids else None)
    # A receipt has the name of its store, and random salts.
    assert untimed({**report, "receipt": None}) == as_json(untimed({**expected.to_dict(), "receipt": None}))
    assert seen(erase) == fresh([each for each in some(12) if each.id not in expected.ids])


@pytest.mark.parametrize("name", REQUESTS)
def test_a_dry_run_says_what_would_happen_and_changes_nothing(erase: Erase, path: Path, name: str) -> None:
    before = stored(path)
    [report] = values(make_server(erase), ("forget_dry_run", REQUESTS[name]))
    assert stored(path) == before
    assert untimed(report) == as_json(untimed(erase.forget(**of_erase(REQUESTS[name]), dry_run=True).to_dict()))
    assert report["dry_run"]


def test_without_permission_forget_says_how_to_get_it_and_changes_nothing(erase: Erase, path: Path) -> None:
    before = stored(path)
    [result] = called(make_server(erase), ("forget", {"ids": [1]}))
    assert result.is_error
    assert "--allow-forget" in said(result)
    assert stored(path) == before


def test_a_removal_that_is_done_but_not_clean_is_an_error_with_its_report(path: Path) -> None:
    class Stubborn(CountingLLM):
        stubborn = False

        def forget(self) -> None:
            if self.stubborn:
                raise LLMError("the device is gone")

    llm = Stubborn()
    erase = create(path, some(12), llm=llm)
    llm.stubborn = True
    [result] = called(make_server(erase, allow_forget=True), ("forget", {"ids": [1]}))
    assert result.is_error
    assert "the removal is done, but" in said(result)
    assert "the device is gone" in said(result)
    assert "\n" not in said(result)
    assert result.structured_content is not None
    llm.stubborn = False
    assert result.structured_content["receipt"] == erase.newest_receipt._asdict()


# ---- bad input ----
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no question": ("demonstrations", {}, "query"),
    "a question of the wrong type": ("prompt", {"query": [CANARY]}, "query"),
    "a blank question": ("prompt", {"query": " \n"}, "query"),
    "an argument that there is not": ("forget", {"ids": [1], "dry_run": True}, "dry_run"),
    "neither ids nor subjects": ("forget", {}, "neither"),
    "both": ("forget", {"ids": [1], "subjects": ["ann"]}, "both"),
    "no id": ("forget", {"ids": []}, "ids"),
    "a truth value as id": ("forget", {"ids": [True]}, "ids.0"),
    "a fraction as id": ("forget", {"ids": [1.0]}, "ids.0"),
    "many wrong ids": ("forget", {"ids": [None] * 1000}, "more"),
    "ids of two types": ("forget", {"ids": [1, "1"]}, "id"),
    "an id of another type": ("forget", {"ids": ["1"]}, "'1'"),
    "an unknown id": ("forget", {"ids": [1, 100]}, "100"),
    "an unknown subject": ("forget", {"subjects": ["ann", "dora"]}, "dora"),
    "a blank subject": ("forget", {"subjects": [""]}, "subject"),
    "a way that there is not": ("forget", {"ids": [1], "on_missing": "ignore"}, "on_missing"),
    "a spelling for ids": ("forget", {"ids": [1], "match": "normalised"}, "match"),
    "a text too short to search for": ("verify", {"absent": ["ab"]}, "absent"),
    "an invalid receipt": ("verify", {"known": [{"number": 1, "hash": "12ab"}]}, "known"),
    "a receipt without a hash": ("verify", {"known": [{"number": 1}]}, "hash"),
    "a tool that there is not": ("ingest", {"source": CANARY}, "ingest"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level(logging.INFO)
    erase = create(path, some(12), strategy="knn")
    before = exported(erase)
    tool, arguments, word = BAD[name]
    [result] = called(make_server(erase, allow_forget=True), (tool, arguments))
    assert result.is_error
    assert word in said(result)
    assert len(said(result)) < 500
    assert not [part for part in ("\n", "Traceback", "pydantic", CANARY) if part in said(result)]
    assert exported(erase) == before
    assert caplog.records == []


def test_a_store_that_was_closed_is_an_error(erase: Erase, caplog: pytest.LogCaptureFixture) -> None:
    server = make_server(erase)
    erase.close()
    [result] = called(server, ("demonstrations", QUERY))
    assert result.is_error
    assert "closed" in said(result)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("error", "shown"), [(KeyError(CANARY), "KeyError"), (OSError(28, "No space left on device", CANARY), "No space")]
)
def test_an_unexpected_error_is_named_without_what_it_may_quote(
    erase: Erase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, shown: str
) -> None:
    def fail(erase: Erase) -> None:
        raise error

    for name in ("status", "receipts"):
        monkeypatch.setattr(Erase, name, fail)
    [result] = called(make_server(erase), ("status", {}))
    assert result.is_error
    with pytest.raises(MCPError) as caught:
        with_client(make_server(erase), lambda client: client.read_resource("erase://receipts"))
    for text in (said(result), str(caught.value)):
        assert shown in text
        assert not [part for part in ("\n", "Traceback", CANARY) if part in text]
    assert not [record for record in caplog.records if CANARY in record.getMessage() or record.exc_info]


def test_an_unexpected_error_is_logged_without_the_address_that_was_read(
    erase: Erase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(erase: Erase) -> None:
        raise KeyError

    monkeypatch.setattr(Erase, "receipts", fail)
    with pytest.raises(MCPError):
        with_client(make_server(erase), lambda client: client.read_resource("erase://receipts/customer-77"))
    assert [record.getMessage() for record in caplog.records] == ["unexpected KeyError"]


def test_an_error_of_a_callers_embedder_shows_no_text(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embedder = WordEmbedder()
    erase = create(path, some(12), strategy="knn", embedder=embedder)
    embedder.fails[QUERY["query"]] = KeyError(CANARY)
    [result] = called(make_server(erase), ("demonstrations", QUERY))
    assert result.is_error
    assert not [part for part in ("\n", "Traceback", CANARY) if part in said(result)]
    assert not [record for record in caplog.records if CANARY in record.getMessage() or record.exc_info]


@pytest.mark.parametrize("uri", ["erase://receipts/2", "erase://receipts/one", "erase://receipts/..", "erase://status"])
def test_a_resource_that_there_is_not_is_an_error(erase: Erase, uri: str) -> None:
    erase.forget(1)
    with pytest.raises(MCPError) as caught:
        with_client(make_server(erase), lambda client: client.read_resource(uri))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"{}"), lambda file: file.unlink()])
def test_receipts_that_are_damaged_are_an_error(erase: Erase, damage: Callable[[Path], object]) -> None:
    erase.forget(1)
    [file] = [each for each in Path(erase.status().receipts).iterdir() if each.suffix == ".json"]
    damage(file)
    with pytest.raises(MCPError, match="receipt"):
        with_client(make_server(erase), lambda client: client.read_resource("erase://receipts/1"))


def test_what_another_handle_has_forgotten_is_not_shown(path: Path) -> None:
    erase = create(path, [*some(6), example(50, CANARY)], strategy="knn", n_shots=6)
    server = make_server(erase)

    async def work(client: Client) -> list[bool]:
        query = {"query": CANARY}
        first = await client.call_tool("demonstrations", query)
        with Erase.open(path, embedder=WordEmbedder()) as other:
            other.forget(50)
        second = await client.call_tool("demonstrations", query)
        return [CANARY in said(each) for each in (first, second)]

    assert with_client(server, work) == [True, False]
