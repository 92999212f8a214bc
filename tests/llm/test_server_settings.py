"""What a store keeps of its model server, and what not; a server and its key from a shell."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_server import Server, by_request, constrained, fails, says, serving
from erase_core.cli.app import app
from erase_core.erase import Erase
from erase_core.errors import ParameterError
from erase_core.llm import ServerOptions
from small_stores import ONE_PROMPT, WordEmbedder, create, found, parts_of, refused, some
from typer.testing import CliRunner, Result

pytest.importorskip("openai", reason="needs openai: pip install 'erase-core[openai]'")

SECRET = "zebra-4711"
EMBEDDER = WordEmbedder()


def at_server(path: Path, there: Server, /, **options: Any) -> Erase:
    erase = Erase.create(
        path,
        embedder=EMBEDDER,
        n_shots=2,
        **ONE_PROMPT,
        llm="small",
        base_url=there.url,
        **options,
    )
    erase.ingest(some(3))
    return erase


def shell(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


# Keys


def test_a_key_is_sent_and_kept_nowhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(says("yes")) as server:
        with at_server(path, server, api_key=SECRET) as erase:
            erase.ask("what?")
            assert SECRET not in repr(erase.settings) + repr(vars(parts_of(erase))) + repr(
                vars(parts_of(erase).backends)
            )
        with Erase.open(path, embedder=EMBEDDER) as erase:
            erase.ask("what?")
        with Erase.open(path, embedder=EMBEDDER, api_key=f"{SECRET}-2") as erase:
            erase.ask("what?")
    posted = [headers["authorization"] for headers in server.headers]
    assert posted == [f"Bearer {SECRET}", "Bearer none", f"Bearer {SECRET}-2"]
    assert found(path, {"key": SECRET.encode()}) == {}


def test_the_variable_that_holds_the_key_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("SOME_KEY", SECRET)
    with serving(says("yes")) as server:
        at_server(path, server, server={"api_key_env": "SOME_KEY"}).close()
        with Erase.open(path, embedder=EMBEDDER) as erase:
            erase.ask("what?")
            assert erase.settings.server.api_key_env == "SOME_KEY"
        monkeypatch.delenv("SOME_KEY")
        with Erase.open(path, embedder=EMBEDDER) as erase:
            refused(lambda: erase.ask("what?"), ParameterError, "SOME_KEY", "not set")
    assert [headers["authorization"] for headers in server.headers] == [f"Bearer {SECRET}"]
    assert found(path, {"key": SECRET.encode()}) == {}


@pytest.mark.parametrize("key", [f"{SECRET}\n{SECRET}", f"{SECRET} \u00e9", 5])
def test_a_key_that_is_none_is_refused_before_anything_is_made(path: Path, key: Any) -> None:
    with pytest.raises(ParameterError, match="api_key") as caught:
        Erase.create(path, embedder=EMBEDDER, llm="small", base_url="http://h/v1", api_key=key)
    assert SECRET not in str(caught.value)
    assert not path.exists()


def test_a_key_without_a_server_is_refused(path: Path) -> None:
    refused(lambda: create(path, api_key=SECRET), ParameterError, "api_key", "base_url")
    assert not path.exists()
    create(path).close()
    refused(lambda: Erase.open(path, api_key=SECRET), ParameterError, "api_key", "base_url")
    refused(lambda: Erase.open(path, server={"timeout": 3}), ParameterError, "server", "base_url")


# Addresses


def test_credentials_in_an_address_are_refused_with_advice(path: Path) -> None:
    with pytest.raises(ParameterError, match=r"no user name and no password.*give api_key") as caught:
        Erase.create(path, embedder=EMBEDDER, llm="small", base_url=f"http://me:{SECRET}@h/v1")
    assert SECRET not in str(caught.value)
    assert not path.exists()
    result = shell("init", "--store", path, "--llm", "small", "--base-url", f"http://me:{SECRET}@h/v1")
    assert result.exit_code == 2
    assert SECRET not in result.output + result.stderr
    assert not path.exists()


def test_the_query_of_an_address_is_kept(path: Path) -> None:
    with serving(says("yes")) as server:
        options: dict[str, Any] = {"llm": "small", "base_url": f"{server.url}?api-version=1"}
        create(path, some(3), **options).close()
        with Erase.open(path, embedder=EMBEDDER) as erase:
            erase.ask("what?")
    assert server.paths[-1] == "/v1/chat/completions?api-version=1"


# Options


def test_options_of_a_server_are_kept_and_can_be_replaced_for_a_handle(path: Path) -> None:
    given = {"max_retries": 0, "thinking_tokens": 100, "parameters": {"top_k": 1}, "context_length": 4000}
    with serving(says("yes")) as server:
        at_server(path, server, server=given).close()
        with Erase.open(path, embedder=EMBEDDER) as erase:
            assert erase.settings.server == ServerOptions(**given)  # type: ignore[arg-type]
            erase.ask("what?", max_tokens=5)
        with Erase.open(path, embedder=EMBEDDER, server={"thinking_tokens": 7}) as erase:
            erase.ask("what?", max_tokens=5)
            assert erase.settings.server.thinking_tokens == 100
    assert [(request["max_tokens"], request["top_k"]) for request in server.requests] == [(105, 1), (12, 1)]


def test_demonstrations_that_leave_no_room_for_thoughts_are_left_out(path: Path) -> None:
    with serving(says("yes")) as server, at_server(path, server, server={"context_length": 200}) as erase:
        erase.ask("what?", max_tokens=5)
        with Erase.open(path, embedder=EMBEDDER, server={"thinking_tokens": 150}) as other:
            other.ask("what?", max_tokens=5)
    whole, less = (request["messages"] for request in server.requests)
    assert len(less) < len(whole)
    assert less[-1] == whole[-1]


# The command line


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def packaged(path: Path) -> Path:
    pytest.importorskip("sentence_transformers", reason="needs the packaged embedding model")
    return path


def test_a_server_from_a_shell(packaged: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"id": i, "input": f"n {i}", "output": "a\nb"}) for i in range(3)))
    with environment(SOME_KEY=SECRET), serving(says("one\ntwo\n\nthree")) as server:
        init = ("init", "-s", packaged, "--llm", "m", "--base-url", server.url, "--stop", r"\n\n")
        more = ("--server", "timeout=9", "--llm-parameter", "top_k=1", "--api-key-env", "SOME_KEY")
        assert shell(*init, *more).exit_code == 0
        assert shell("ingest", rows, "-s", packaged).exit_code == 0
        options = ("--server", "thinking_tokens=50", "--llm-parameter", "temperature=null")
        asked = shell("ask", "what?", "-s", packaged, *options)
        assert (asked.exit_code, asked.stdout, asked.stderr) == (0, "one\ntwo\n", "")
        server.behaviours[:] = [by_request(constrained)]
        chosen = shell("choose", "what?", "a", "b", "-s", packaged, "--json")
        assert (json.loads(chosen.stdout)["option"], json.loads(chosen.stdout)["found_by"]) == ("b", "constraint")
        server.behaviours[:] = [fails(401, f"bad key {SECRET}")]
        failed = shell("ask", "what?", "-s", packaged)
        assert failed.exit_code == 11
        server.behaviours[:] = [says("yes", reason="length")]
        assert "cut off after 64 tokens" in shell("ask", "what?", "-s", packaged).stderr
    first = server.requests[0]
    assert first["max_tokens"] == 64 + 50
    assert "temperature" not in first
    assert "top_k" not in first  # replaced, as in Python
    assert server.requests[1]["top_k"] == 1
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
    assert SECRET not in failed.output + failed.stderr
    assert found(packaged, {"key": SECRET.encode()}) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--api-key-env", SECRET),
        ("--server", SECRET),
        ("--server", f"api_key={SECRET}"),
        ("--server", f"api_key_env={SECRET}"),
        ("--server", "timeout=soon"),
        ("--server", "timeout=NaN"),
        ("--server", "max_retries=-1"),
        ("--llm-parameter", SECRET),
        ("--llm-parameter", "model=x"),
        ("--llm-parameter", "a=NaN"),
        ("--stop", ""),
    ],
)
def test_wrong_options_from_a_shell_make_nothing_and_show_no_key(path: Path, arguments: tuple[str, ...]) -> None:
    result = shell("init", "-s", path, "--llm", "m", "--base-url", "http://h/v1", *arguments)
    assert result.exit_code == 2
    assert SECRET not in result.output + result.stderr
    assert not path.exists()
