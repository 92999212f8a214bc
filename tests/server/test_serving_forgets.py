"""Adding and forgetting through the server: what is acknowledged is shown to no model any more, whoever asks."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from erase_core.erase import Erase
from erase_core.examples.example import Example
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families
from reachable import canary, holders, renew_canaries
from served import PATIENCE, FakeModel, Served, answers, running, serving, waits
from small_stores import WordEmbedder, create, some

QUERY = "where is my parcel"
MANY = 50


def shown_in(body: dict[str, Any]) -> set[str]:
    """The outputs of the demonstrations that a model was shown."""
    return {message["content"] for message in body["messages"] if message["role"] == "assistant"}


# ---- the routes ----
ODD = ["a/b", "a//b?c#d", "100%", "%2F", " ", "\u00e9\N{SNOWMAN}", "x" * 300, "a\nb", "+", "new"]


def test_any_id_and_subject_can_be_in_a_path(path: Path) -> None:
    with serving(path) as served:
        for id_ in ODD:
            example = {"input": "a parcel", "output": "yes", "subject": f"about {id_}"}
            put = served.call("PUT", f"/v1/examples/{quote(id_, safe='')}", json=example)
            assert put.status_code == 201, id_
            again = served.call("PUT", f"/v1/examples/{quote(id_, safe='')}", json={**example, "id": id_})
            assert (again.status_code, again.json()["n_duplicates"]) == (200, 1)
        assert [each.id for each in served.erase.examples()] == sorted(ODD)
        for id_ in ODD[::2]:
            gone = served.call("DELETE", f"/v1/examples/{quote(id_, safe='')}")
            assert (gone.status_code, gone.json()["ids"]) == (200, [id_])
        for id_ in ODD[1::2]:
            gone = served.call("DELETE", f"/v1/subjects/{quote(f'about {id_}', safe='')}")
            assert (gone.status_code, gone.json()["ids"]) == (200, [id_])
        assert served.erase.examples() == []
        assert served.call("DELETE", "/v1/examples/%FF").status_code == 400


def test_ids_in_paths_have_the_type_of_the_stores(path: Path) -> None:
    body = {"input": "a parcel", "output": "yes"}
    with serving(path) as served:
        assert served.call("PUT", "/v1/examples/7", json=body).status_code == 201
        assert served.erase.examples()[0].id == 7
        for id_ in (-(2**63), 2**63 - 1):
            assert served.call("PUT", f"/v1/examples/{id_}", json={**body, "input": f"parcel {id_}"}).status_code == 201
        assert served.call("PUT", f"/v1/examples/{2**63}", json=body).json()["error"]["code"] == "id_type"
        assert served.call("PUT", "/v1/examples/007", json=body).status_code == 422
        assert served.call("PUT", "/v1/examples/8", json={**body, "id": 9}).status_code == 422
    with serving(path.with_name("texts")) as served:
        assert served.call("PUT", "/v1/examples/7", json={**body, "id": "7"}).status_code == 201
        assert served.call("PUT", "/v1/examples/8", json=body).status_code == 201
        assert [each.id for each in served.erase.examples()] == ["7", "8"]
        assert served.call("DELETE", "/v1/examples/8").json()["ids"] == ["8"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(path: Path) -> None:
    new = [{"id": 100, "input": "a", "output": "b"}, {"id": 1, **_texts(1)}]
    calls: list[tuple[str, str, str, dict[str, Any]]] = [
        ("n_added", "PUT", "/v1/examples/100", {"json": {"input": "a", "output": "b"}}),
        ("n_added", "POST", "/v1/examples", {"json": {"examples": new, "on_duplicate": "skip"}}),
        ("ids", "DELETE", "/v1/examples/2", {}),
        ("ids", "DELETE", "/v1/subjects/ann", {}),
        ("ids", "POST", "/v1/forget", {"json": {"subject": ["bob"]}}),
    ]
    for place, (field, method, where, options) in enumerate(calls):
        with serving(path.with_name(f"store-{place}"), some(9)) as served:
            before = served.call("GET", "/v1/status").json()
            dry: dict[str, Any] = {"json": {**options["json"], "dry_run": True}} if method == "POST" else options
            preview = served.call(method, where, params={"dry_run": True} if method != "POST" else None, **dry)
            assert (preview.status_code, preview.json()["dry_run"]) == (200, True)
            assert served.call("GET", "/v1/status").json() == before
            done = served.call(method, where, **options)
            assert done.json()["dry_run"] is False
            assert done.json()[field] == preview.json()[field]
            assert done.json()[field] in (1, *([[2], [1, 5], [2, 6]]))


def _texts(id_: int) -> dict[str, Any]:
    example = some(1, id_)[0]
    return {"input": example.input, "output": example.output, "subject": example.subject}


def test_what_was_forgotten_comes_back_only_on_purpose(path: Path) -> None:
    with serving(path, some(5)) as served:
        assert served.call("DELETE", "/v1/examples/1").status_code == 200
        body = _texts(1)
        refused = served.call("PUT", "/v1/examples/1", json=body)
        preview = served.call("PUT", "/v1/examples/1", json=body, params={"dry_run": True})
        assert (refused.status_code, preview.status_code) == (409, 409)
        skipped = served.call("PUT", "/v1/examples/1", json=body, params={"on_forgotten": "skip"})
        assert (skipped.status_code, skipped.json()["n_forgotten"]) == (200, 1)
        allowed = served.call("PUT", "/v1/examples/1", json=body, params={"on_forgotten": "allow"})
        assert allowed.status_code == 201
        assert served.call("DELETE", "/v1/examples/99", params={"on_missing": "skip"}).json()["n_missing"] == 1


def test_receipts_verification_and_status(path: Path) -> None:
    with serving(path, some(9)) as served:
        gone = served.call("POST", "/v1/forget", json={"ids": [1, 2]}).json()
        (listed,) = served.call("GET", "/v1/receipts").json()["data"]
        one = served.call("GET", "/v1/receipts/1").json()
        assert one == listed == served.erase.receipts()[0].to_dict() | {"rows": listed["rows"], "tokens": one["tokens"]}
        assert one["hash"] == gone["receipt"]["hash"]
        assert served.call("GET", "/v1/receipts/2").status_code == 404
        assert served.call("GET", "/v1/verify").json()["ok"] is True
        claims = {"absent": ["answer 1 is gone", "number 1"], "known": [gone["receipt"]]}
        assert served.call("POST", "/v1/verify", json=claims).json()["ok"] is True
        assert served.call("POST", "/v1/verify", json={"absent": ["answer 3"]}).json()["ok"] is False
        assert served.call("GET", "/v1/status").json() == json.loads(json.dumps(served.erase.status().to_dict()))


def test_the_page_describes_every_route(path: Path) -> None:
    with serving(path) as served:
        api = served.call("GET", "/openapi.json").json()
        page = served.call("GET", "/docs").text
    routes = [(method, where) for where, methods in api["paths"].items() for method in methods]
    assert len(routes) > 12
    assert all(api["paths"][where][method]["description"] for method, where in routes)
    assert [where for method, where in routes if f"{method.upper()} {where}" not in page] == []
    assert "src=" not in page
    for method, where in routes:
        of = api["paths"][where][method]
        in_path = [each["name"] for each in of.get("parameters", []) if each["in"] == "path" and each["required"]]
        assert in_path == re.findall(r"{(\w+)}", where), "OpenAPI: each name in a path must be a parameter"
        assert ("security" in of) == (where != "/healthz")


# ---- chats in flight ----
@pytest.mark.parametrize("stream", [False, True])
def test_a_removal_waits_for_chats_that_show_the_example(path: Path, *, stream: bool) -> None:
    with serving(path, some(9), waits) as served:
        chats: list[httpx.Response] = []
        chat = threading.Thread(target=lambda: chats.append(served.chat(stream=stream)))
        chat.start()
        assert served.model.arrived.wait(60)
        ids = [each.id for each in served.erase.demonstrations(QUERY)]
        others = [each.id for each in served.erase.examples() if each.id not in ids]
        # One that the chat does not show is not waited for.
        assert served.call("POST", "/v1/forget", json={"ids": others[:1]}).json()["n_chats_ended"] == 0
        done = threading.Event()

        def remove() -> None:
            served.call("DELETE", f"/v1/examples/{ids[0]}")
            done.set()

        removal = threading.Thread(target=remove)
        removal.start()
        while served.erase.status().n_receipts < 2:
            time.sleep(0.01)
        assert not done.wait(0.2)
        served.model.released.set()
        removal.join()
        chat.join()
        assert chats[0].status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_chats_that_take_too_long_are_ended(path: Path, *, stream: bool) -> None:
    with serving(path, some(9), waits, drain=0.1) as served:
        chats: list[httpx.Response] = []
        chat = threading.Thread(target=lambda: chats.append(served.chat(stream=stream)))
        chat.start()
        assert served.model.arrived.wait(60)
        id_ = served.erase.demonstrations(QUERY)[0].id
        assert served.call("DELETE", f"/v1/examples/{id_}").json()["n_chats_ended"] == 1
        assert served.model.hung_up.wait(60)
        chat.join()
        assert chats[0].status_code == (200 if stream else 503)
        assert "demonstration_forgotten" in chats[0].text
        assert "[DONE]" not in chats[0].text
        served.model.released.set()
        assert f"answer {id_}" in shown_in(served.model.bodies[-1])
        assert served.chat().status_code == 200
        assert f"answer {id_}" not in shown_in(served.model.bodies[-1])


@pytest.mark.parametrize("options", [{"on_missing": "skip"}, {}], ids=["skip", "refuse"])
def test_a_repeated_removal_waits_for_the_chats_that_the_first_one_waits_for(
    path: Path, options: dict[str, str]
) -> None:
    """Who has not waited for the first answer asks again: "it is missing" must be true of the model server, too."""
    with serving(path, some(9), waits) as served:
        chat = threading.Thread(target=served.chat)
        chat.start()
        assert served.model.arrived.wait(60)
        id_ = served.erase.demonstrations(QUERY)[0].id
        with pytest.raises(httpx.ReadTimeout):
            served.call("DELETE", f"/v1/examples/{id_}", timeout=httpx.Timeout(PATIENCE, read=0.5))
        while not served.erase.status().n_receipts:
            time.sleep(0.01)
        answers_: list[httpx.Response] = []
        again = threading.Thread(
            target=lambda: answers_.append(served.call("DELETE", f"/v1/examples/{id_}", params=options))
        )
        again.start()
        again.join(0.5)
        assert answers_ == []
        served.model.released.set()
        again.join()
        chat.join()
        assert answers_[0].status_code == (200 if options else 404)


# ---- the load ----
def load(served: Served, seconds_of_clients: int, ids: list[int]) -> dict[int, int]:
    """Many clients ask while examples are forgotten; return the moment after each acknowledged removal."""
    acknowledged: dict[int, int] = {}

    async def run() -> None:
        over = asyncio.Event()
        async with (
            AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=5, timeout=PATIENCE) as client,
            httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as http,
        ):

            async def ask(number: int) -> None:
                for turn in range(seconds_of_clients):
                    if over.is_set() and turn:
                        return
                    text = f"{QUERY} number {(7 * number + turn) % 60}"
                    message: Any = {"role": "user", "content": text}
                    if number % 2:
                        await client.chat.completions.create(model="fake", messages=[message])
                    else:
                        chunks = await client.chat.completions.create(model="fake", messages=[message], stream=True)
                        async for _ in chunks:
                            pass

            async def forget() -> None:
                for id_ in ids:
                    gone = await http.delete(f"/v1/examples/{id_}")
                    assert gone.status_code == 200, gone.text
                    acknowledged[id_] = served.model.moment()
                over.set()

            await asyncio.gather(forget(), *map(ask, range(MANY)))

    asyncio.run(run())
    return acknowledged


def check_nothing_stale(served: Served, acknowledged: dict[int, int]) -> None:
    stale = [
        (id_, moment)
        for moment, body in served.model.requests
        for id_, after in acknowledged.items()
        if moment > after and f"answer {id_}" in shown_in(body)
    ]
    assert stale == []


def test_under_load_no_model_is_shown_what_was_acknowledged_as_forgotten(path: Path) -> None:
    examples = some(60)
    with serving(path, examples, settings={"n_shots": 8}) as served:
        acknowledged = load(served, 6, list(range(0, 60, 6)))
        check_nothing_stale(served, acknowledged)
        shown = {output for body in served.model.bodies for output in shown_in(body)}
        assert len(acknowledged) == 10
        assert any(f"answer {id_}" in shown for id_ in acknowledged), "the load must show what is forgotten"
        assert len(served.app.state.service.in_flight) == 0
        assert served.call("GET", "/v1/verify").json()["ok"] is True


@pytest.mark.slow
def test_under_load_for_long(path: Path) -> None:
    examples = some(600)
    with serving(path, examples, settings={"n_shots": 8}) as served:
        acknowledged = load(served, 60, list(range(0, 60)))
        check_nothing_stale(served, acknowledged)
        assert len(acknowledged) == 60


def test_a_stale_demonstration_would_be_found(path: Path) -> None:
    with serving(path, some(9)) as served:
        served.chat()
        (id_,) = served.erase.demonstrations(QUERY)[:1]
        with pytest.raises(AssertionError):
            check_nothing_stale(served, {int(id_.id): -1})


# ---- two servers ----
def test_a_removal_is_seen_by_another_server_at_its_next_chat(path: Path) -> None:
    from erase_core.llm import ServerOptions
    from erase_core.server.app import build_app
    from erase_core.server.upstream import Upstream

    with serving(path, some(20)) as one:
        model = FakeModel(answers)
        with Erase.open(path, embedder=WordEmbedder()) as erase, running(model) as behind:
            app = build_app(erase, upstream=Upstream(f"{behind}/v1", ServerOptions()))
            with running(app) as url:
                body = {"model": "m", "messages": [{"role": "user", "content": QUERY}]}
                for _ in range(5):
                    before = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
                    id_ = json.loads(before.headers["Erase-Demonstrations"])[-1]
                    assert f"answer {id_}" in shown_in(model.bodies[-1])
                    assert one.call("DELETE", f"/v1/examples/{id_}").status_code == 200
                    after = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
                    assert f"answer {id_}" not in shown_in(model.bodies[-1])
                    assert after.headers["Erase-Digest"] == one.erase.status().digest


# ---- what is left ----
def test_after_a_removal_nothing_that_can_be_reached_has_the_text(path: Path) -> None:
    """The server, its connections and its log; the fake model's own record is cleared first."""
    renew_canaries()
    word = canary()
    with serving(path, some(9)) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as kept:
        body = {"input": f"{QUERY} {word}", "output": f"{word} {word}", "subject": f"mr {word}"}
        kept.put("/v1/examples/500", json=body)
        asked = {"model": "m", "messages": [{"role": "user", "content": f"{QUERY} now"}]}
        for stream in (False, True):
            answer = kept.post("/v1/chat/completions", json={**asked, "stream": stream})
            assert 500 in json.loads(answer.headers["Erase-Demonstrations"])
        del body, answer
        assert kept.post("/v1/forget", json={"ids": [500]}).json()["n_examples"] == 9
        kept.get("/healthz")
        served.model.requests.clear()
        served.erase._opened.backends.embedder.texts.clear()  # type: ignore[attr-defined]
        assert holders(word) == []


# ---- metrics ----
def test_metrics_count_by_route_and_have_no_texts_and_ids(path: Path) -> None:
    with serving(path) as served:
        for id_ in ("zebra-1", "zebra-2", "zebra-3"):
            served.call("PUT", f"/v1/examples/{id_}", json={"input": "a zebra", "output": "a zebra"})
        served.chat("a zebra")
        served.call("DELETE", "/v1/examples/zebra-1")
        served.call("GET", "/v1/zebra")
        text = served.call("GET", "/metrics").text
    assert "zebra" not in text
    values = {
        (sample.name, *(sample.labels.get(name, "") for name in ("route", "status"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["erase_requests_total", "/v1/examples/{id}", "201"] == 3
    assert values["erase_requests_total", "/v1/chat/completions", "200"] == 1
    assert values["erase_requests_total", "unknown", "404"] == 1
    assert values["erase_examples_added_total", "", ""] == 3
    assert values["erase_examples_forgotten_total", "", ""] == 1
    assert values["erase_demonstrations_total", "", ""] == 3
    assert values["erase_chats_in_flight", "", ""] == 0


def test_examples_without_ids_are_numbered(path: Path) -> None:
    with create(path) as erase:
        assert erase.examples() == []
    with serving(path.with_name("new"), [Example(4, "a", "b")]) as served:
        new = {"examples": [{"input": "c", "output": "d"}, {"input": "e", "output": "f"}]}
        assert served.call("POST", "/v1/examples", json=new).json()["n_added"] == 2
        assert [each.id for each in served.erase.examples()] == [4, 5, 6]
