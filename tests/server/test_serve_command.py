"""The command `erase serve`, in a process of its own: its start, its log, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from command_line import check_refused, command, erase, needs_embedder
from openai import OpenAI
from served import PATIENCE, FakeModel, answers, running, waits
from small_stores import create, some

SECRETS = ["zebra-text", "zebra-id", "zebra-subject", "zebra-key", "zebra-stream"]
QUERY = "where is my parcel"


@pytest.fixture
def store(path: Path) -> Path:
    """A store that a process without the tests' models can serve: all its chats get the same demonstrations."""
    with create(path, some(9)):
        return path


class Process:
    """The command in a process, and what it has said so far."""

    def __init__(self, *arguments: object, **variables: str) -> None:
        environment = {**os.environ, **variables}
        self._process = subprocess.Popen(
            command("serve", "--port", 0, *arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.said: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._ready.wait(PATIENCE)
        self.url = re.findall(r"http://[0-9.:]+", "".join(self.said))[0]

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line)
            if "serving" in line:
                self._ready.set()
        self._ready.set()

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        code = self._process.wait(PATIENCE)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code

    @property
    def log(self) -> str:
        return "".join(self.said)


@contextmanager
def process(*arguments: object, **variables: str) -> Iterator[Process]:
    started = Process(*arguments, **variables)
    try:
        yield started
    finally:
        started.stop(signal.SIGKILL)
        started.end()


def test_no_text_id_subject_or_key_is_in_any_line_of_the_log(store: Path) -> None:
    with (
        running(FakeModel(answers)) as behind,
        process("--store", store, "--upstream", f"{behind}/v1", OPENAI_API_KEY="zebra-key") as served,
        httpx.Client(base_url=served.url, timeout=PATIENCE) as http,
    ):
        example = {"input": "zebra-text", "output": "zebra-text", "subject": "zebra-subject"}
        chat = {"model": "zebra-id", "messages": [{"role": "user", "content": "zebra-text"}]}
        statuses = [
            http.put("/v1/examples/77", json=example).status_code,
            http.put("/v1/examples/zebra-id", json=example).status_code,
            http.post("/v1/chat/completions", json=chat).status_code,
            http.post("/v1/chat/completions", json={**chat, "stream": True}).status_code,
            http.post("/v1/chat/completions", content=b"{zebra-text").status_code,
            http.post("/v1/forget", json={"subject": "zebra-subject"}).status_code,
            http.post("/v1/forget", json={"zebra-id": "zebra-text"}).status_code,
            http.delete("/v1/examples/zebra-id?zebra-text=1").status_code,
            http.delete("/v1/subjects/zebra-subject").status_code,
            http.get("/v1/zebra-text").status_code,
            http.get("/v1/status", headers={"Authorization": "Bearer zebra-key"}).status_code,
        ]
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as broken:
            broken.sendall(b"zebra-text zebra-id\r\n\r\n")
            broken.recv(100)
        served.stop()
        assert served.end() == 0
    # The embedding model of the tests is not in that process, so nothing can be added there: an error, and logged.
    assert statuses == [500, 422, 200, 200, 415, 404, 422, 404, 404, 404, 200]
    assert "PUT /v1/examples/{id} 500" in served.log
    assert "EmbedderError at" in served.log
    assert "DELETE /v1/subjects/{subject} 404" in served.log
    assert [secret for secret in ("zebra", *SECRETS) if secret in served.log] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_end_and_closes_the_store(store: Path, number: int) -> None:
    model = FakeModel(waits)
    with running(model) as behind, process("--store", store, "--upstream", f"{behind}/v1") as served:
        answer: list[httpx.Response] = []
        body = {"model": "m", "messages": [{"role": "user", "content": QUERY}], "stream": number == signal.SIGINT}
        chat = threading.Thread(
            target=lambda: answer.append(httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=PATIENCE))
        )
        chat.start()
        assert model.arrived.wait(PATIENCE)
        served.stop(number)
        time.sleep(0.3)
        model.released.set()
        chat.join()
        assert served.end() == 0
        assert answer[0].status_code == 200
        assert "error" not in answer[0].text
    assert sorted(file.name for file in store.glob("examples.sqlite*")) == ["examples.sqlite"]


def test_requests_that_do_not_end_are_ended(store: Path) -> None:
    model = FakeModel(waits)
    with running(model) as behind, process("--store", store, "--upstream", f"{behind}/v1", "--grace", 1) as served:
        failed: list[Exception | httpx.Response] = []
        body = {"model": "m", "messages": [{"role": "user", "content": QUERY}]}

        def ask() -> None:
            try:
                failed.append(httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=PATIENCE))
            except httpx.HTTPError as error:
                failed.append(error)

        chat = threading.Thread(target=ask)
        chat.start()
        assert model.arrived.wait(PATIENCE)
        served.stop()
        assert served.end() == 0
        assert model.hung_up.wait(PATIENCE)
        chat.join()
        (answer,) = failed
        assert isinstance(answer, httpx.Response)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopped")
        assert QUERY not in served.log
        assert [
            line for line in served.said[1:] if not re.match(r"\d{4}-\d\d-\d\d [\d:,]+ (INFO|WARNING|ERROR) ", line)
        ] == []
        assert "CancelledError" in served.log


def test_another_address_needs_tokens(store: Path, tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        check_refused(erase("serve", "--store", store, "--host", host), 2, "--token-file", "--new-token")
    tokens = tmp_path / "tokens"
    made = erase("serve", "--new-token", "ask,metrics", "--token-file", tokens)
    token = made.stdout.strip()
    assert (made.exit_code, token not in tokens.read_text()) == (0, True)
    model = FakeModel(answers)
    with (
        running(model) as behind,
        process("--store", store, "--upstream", f"{behind}/v1", "--host", "0.0.0.0", "--token-file", tokens) as served,
    ):
        url = f"http://127.0.0.1:{served.url.rpartition(':')[2]}"
        with OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=PATIENCE) as client:
            raw = client.chat.completions.with_raw_response.create(
                model="fake", messages=[{"role": "user", "content": QUERY}]
            )
        assert len(json.loads(raw.headers["Erase-Demonstrations"])) == 3
        assert httpx.delete(f"{url}/v1/examples/1", headers={"Authorization": f"Bearer {token}"}).status_code == 403
        served.stop()
        assert served.end() == 0
        assert token not in served.log


def test_mistakes_are_one_clear_error(store: Path, path: Path) -> None:
    check_refused(erase("serve", "--store", path.with_name("none")), 5)
    check_refused(erase("serve", "--store", store, "--new-token", "ask"), 2, "--token-file")
    check_refused(erase("serve", "--store", store, "--server", "timeout=3"), 2, "--upstream")
    check_refused(erase("serve", "--store", store, "--upstream", "ftp://x"), 2, "http")
    check_refused(erase("serve", "--store", store, "--upstream", "http://h", "--server", "speed=1"), 2, "timeout")
    check_refused(erase("serve", "--store", store, "--host", "not a host"), 2, "tokens are needed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check_refused(erase("serve", "--store", store, "--port", port), 2, str(port), "Choose another")


def test_without_the_packages_an_error_names_the_extra(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import erase_core.cli.serve as module

    monkeypatch.setattr(module, "NEEDED", ("fastapi", "no_such_package"))
    check_refused(erase("serve", "--store", store), 12, "no-such-package is not installed", "erase-core[serve]")


@pytest.mark.slow
@needs_embedder
def test_a_store_that_needs_its_embedding_model_has_it_before_the_first_request(path: Path) -> None:
    assert erase("init", "--store", path, "--shots", 1).exit_code == 0
    model = FakeModel(answers)
    with running(model) as behind, process("--store", path, "--upstream", f"{behind}/v1") as served:
        put = httpx.put(f"{served.url}/v1/examples/1", json={"input": QUERY, "output": "delivery"}, timeout=PATIENCE)
        assert put.status_code == 201
        body = {"model": "m", "messages": [{"role": "user", "content": "my parcel?"}]}
        answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=PATIENCE)
        assert answer.headers["Erase-Demonstrations"] == "[1]"
        served.stop()
        assert served.end() == 0
