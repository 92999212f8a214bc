"""Tokens: who may do what, and what a file of tokens shows."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erase_core.errors import ParameterError
from erase_core.server.auth import SCOPES, Tokens, new_token
from served import Served, serving
from small_stores import refused, some

CHAT = {"json": {"model": "m", "messages": [{"role": "user", "content": "hi"}]}}
# Of each scope what it is for; "any": what any token may do.
ROUTES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("ask", "POST", "/v1/chat/completions", CHAT),
    ("ask", "GET", "/v1/models", {}),
    ("ingest", "PUT", "/v1/examples/70?dry_run=true", {"json": {"input": "a", "output": "b"}}),
    ("ingest", "POST", "/v1/examples", {"json": {"examples": [{"input": "a", "output": "b"}], "dry_run": True}}),
    ("forget", "DELETE", "/v1/examples/1?dry_run=true", {}),
    ("forget", "DELETE", "/v1/subjects/ann?dry_run=true", {}),
    ("forget", "POST", "/v1/forget", {"json": {"ids": [1], "dry_run": True}}),
    ("forget", "GET", "/v1/receipts", {}),
    ("forget", "GET", "/v1/receipts/1", {}),
    ("forget", "GET", "/v1/verify", {}),
    ("forget", "POST", "/v1/verify", {"json": {}}),
    ("metrics", "GET", "/metrics", {}),
    ("any", "GET", "/v1/status", {}),
]
OPEN = ["/healthz", "/docs", "/openapi.json"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("tokens")
    file = folder / "tokens"
    made = {scope: new_token(scope, file) for scope in SCOPES}
    with serving(folder / "store", some(8), tokens=Tokens.read(file)) as served:
        served.call("DELETE", "/v1/examples/7", headers=bearer(made["forget"]))
        yield served, made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_every_route_needs_a_scope_or_is_open(tokens: tuple[Served, dict[str, str]]) -> None:
    served, _ = tokens
    api = served.call("GET", "/openapi.json").json()
    named = {(method.upper(), where) for where, methods in api["paths"].items() for method in methods}
    tried = {(method, where.partition("?")[0]) for _, method, where, _ in ROUTES}

    def is_of(where: str, template: str) -> bool:
        return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), where) is not None

    untried = [each for each in named if not any(each[0] == m and is_of(w, each[1]) for m, w in tried)]
    assert sorted(untried) == [("GET", "/healthz")]


@pytest.mark.parametrize(("scope", "method", "where", "options"), ROUTES, ids=lambda value: str(value)[:30])
def test_a_token_does_what_its_scope_is_for_and_nothing_else(
    tokens: tuple[Served, dict[str, str]], scope: str, method: str, where: str, options: dict[str, Any]
) -> None:
    served, made = tokens
    for name, token in made.items():
        answer = served.call(method, where, headers=bearer(token), **options)
        assert answer.status_code == (200 if scope in (name, "any") else 403), (name, answer.text)
    for wrong in (
        {},
        bearer("erase_wrong"),
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {made['ask']}"},
        bearer("\u00e9"),
    ):
        headers = {name: value.encode("latin-1") for name, value in wrong.items()}
        answer = served.call(method, where, headers=headers, **options)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_a_wrong_token_is_found_before_the_body_is_read(tokens: tuple[Served, dict[str, str]]) -> None:
    served, _ = tokens
    for path in ("/v1/chat/completions", "/v1/forget", "/v1/examples"):
        assert served.call("POST", path, content=b"{no json", headers=bearer("x")).status_code == 401


def test_open_routes_need_no_token(tokens: tuple[Served, dict[str, str]]) -> None:
    served, _ = tokens
    assert [served.call("GET", path).status_code for path in OPEN] == [200] * len(OPEN)


def test_taking_a_removal_back_needs_the_scope_for_removals_too(tokens: tuple[Served, dict[str, str]]) -> None:
    served, made = tokens
    answer = served.call(
        "PUT",
        "/v1/examples/7?on_forgotten=allow",
        json={"input": "a", "output": "b"},
        headers=bearer(made["ingest"]),
    )
    assert answer.status_code == 403


def test_a_file_of_tokens_has_no_token_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(b"# mine")
    file.chmod(0o600)
    made = [new_token("ask,forget", file), new_token("metrics", file)]
    text = file.read_text()
    assert text.startswith("# mine\nask,forget sha256:")
    assert not [token for token in made if token in text]
    fresh = tmp_path / "fresh"
    new_token("ask", fresh)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["no token"]),
        ("# nothing\n\n", ["no token"]),
        ("ask erase_secret\n", ["line 1", "--new-token"]),
        (f"# x\nask,all sha256:{'0' * 64}\n", ["tokens: line 2", "scopes", "ask,ingest"]),
        (f"secret sha256:{'0' * 64}\n", ["line 1", "scopes"]),
        (f"ask sha256:{'0' * 63}\n", ["line 1"]),
        (b"\xff", ["UTF-8"]),
        (None, ["No such file"]),
    ],
)
def test_a_file_that_is_wrong_is_one_clear_error(tmp_path: Path, content: str | bytes | None, words: list[str]) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: Tokens.read(file), ParameterError, *words)
    with pytest.raises(ParameterError) as caught:
        Tokens.read(file)
    assert "secret" not in str(caught.value)


def test_scopes_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    refused(lambda: new_token("ask,everything", tmp_path / "tokens"), ParameterError, "ask,ingest,forget,metrics")
    refused(lambda: new_token("ask", tmp_path / "none" / "tokens"), ParameterError, "No such file")
