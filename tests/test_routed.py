"""`strategy="routed"`: routes, prompts and reports, in stores of any size. That they are exact: test_erase, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import check_refused as command_refused
from command_line import erase as command
from command_line import json_of
from erase_core.erase import Erase
from erase_core.errors import ParameterError
from erase_core.examples.example import Example
from erase_core.reports import PromptChanges, Route
from small_stores import (
    QUERIES,
    WORDS,
    CountingLLM,
    WordEmbedder,
    check_refused,
    create,
    fresh,
    parts_of,
    reopened,
    seen,
    seen_anew,
    some,
)

OF_WORDS = [f"{first} {second}" for first in WORDS for second in WORDS]


def of_store(path: Path, n: int, **settings: Any) -> Erase:
    return create(path, some(n), **{"strategy": "routed", "n_prompts": 4, "n_shots": 3, **settings})


def ids_of(examples: list[Example]) -> list[object]:
    return [example.id for example in examples]


# ---- routes ----
def test_a_query_is_shown_the_prompt_of_its_route(path: Path) -> None:
    with of_store(path, 40) as erase:
        prompts = erase.status().prompts
        routes = [erase.route(query) for query in OF_WORDS]
        assert len({route.prompt for route in routes}) > 1
        for query, route in zip(OF_WORDS, routes, strict=True):
            assert (route.n_prompts, route.demonstrations) == (4, prompts[route.prompt])
            assert ids_of(erase.demonstrations(query)) == route.demonstrations
            assert ids_of(list(erase.prompt(query).demonstrations)) == route.demonstrations


def test_a_prompt_with_its_route_is_both_and_embeds_the_query_once(path: Path) -> None:
    embedder = WordEmbedder()
    with of_store(path, 40, embedder=embedder) as erase:
        for query in (*OF_WORDS, "N/A"):
            expected = erase.prompt(query), erase.route(query)
            embedder.texts.clear()
            assert erase.prompt_with_route(query) == expected
            assert embedder.texts == [query]


@pytest.mark.parametrize("strategy", ["kmeans", "random", "knn"])
def test_other_strategies_have_no_routes(path: Path, strategy: str) -> None:
    erase = create(path, some(8), strategy=strategy)
    check_refused(erase, lambda: erase.route("what"), ParameterError, strategy, "no routes", "routed")
    assert erase.settings.n_prompts is None
    assert len(erase.status().prompts) == (strategy != "knn")


def test_a_route_needs_a_query(path: Path) -> None:
    erase = of_store(path, 8)
    check_refused(erase, lambda: erase.demonstrations(), ParameterError, "query")
    for query in ("", " \n", "\0", None, 5):
        check_refused(erase, lambda query=query: erase.route(query), ParameterError, "query")  # type: ignore[misc]


def test_the_farthest_are_left_out_of_a_prompt_that_is_too_long(path: Path) -> None:
    llm = CountingLLM(context_length=40)
    with of_store(path, 40, n_shots=9, n_prompts=2, llm=llm) as erase:
        for query in QUERIES:
            erase.ask(query, max_tokens=5)
            shown, route = ids_of(list(llm.prompts[-1].demonstrations)), erase.route(query)
            assert 0 < len(shown) < len(route.demonstrations)
            assert shown == route.demonstrations[: len(shown)]


# ---- few examples ----
def test_a_store_without_examples_has_one_empty_prompt(path: Path) -> None:
    with of_store(path, 0) as erase:
        assert erase.status().prompts == [[]]
        assert erase.route("what") == Route(0, 1, [], None, None)
        assert str(erase.route("what")) == "prompt 0 of 1, demonstrations none"
        assert erase.prompt("what").demonstrations == ()
        assert erase.verify().ok


def test_a_store_grows_from_nothing_and_shrinks_to_it(path: Path) -> None:
    settings: dict[str, Any] = {"strategy": "routed", "n_prompts": 4, "n_shots": 3}
    every = some(12)
    with create(path, **settings) as erase:
        for n in range(1, 13):
            before = erase.status().prompts
            report = erase.ingest([every[n - 1]])
            prompts = erase.status().prompts
            assert len(prompts) == min(4, n)
            assert report.prompts == PromptChanges(before, prompts)
            assert seen(erase) == fresh(every[:n], **settings)
        for n in reversed(range(12)):
            before = erase.status().prompts
            report_of_forget = erase.forget(every[n].id)
            assert report_of_forget.prompts == PromptChanges(before, erase.status().prompts)
            assert seen(erase) == seen_anew(path) == fresh(every[:n], **settings)
        assert erase.status().prompts == [[]]


def test_fewer_examples_than_prompts_have_a_prompt_each(path: Path) -> None:
    with create(path, [Example(i, word, "yes") for i, word in enumerate(WORDS)], strategy="routed") as erase:
        assert erase.settings.n_prompts == 16
        assert sorted(erase.status().prompts) == [[i] for i in range(len(WORDS))]
        for i, word in enumerate(WORDS):
            assert erase.route(word).demonstrations == [i]


def test_equal_examples_have_one_prompt_and_no_query_gets_another(path: Path) -> None:
    with create(path, [Example(i, "same", "yes") for i in range(5)], strategy="routed", n_prompts=3) as erase:
        assert erase.status().prompts == [[0, 1, 2], [], []]
        assert [erase.route(query).prompt for query in OF_WORDS] == [0] * len(OF_WORDS)


# ---- reports ----
def test_a_prompt_that_was_there_is_not_reported_as_changed() -> None:
    changes = PromptChanges([[1, 2], [3], [4, 5], []], [[3], [2, 1], [4, 5], [6], []])
    assert changes.changed == [1, 3]
    assert (changes.removed, changes.added) == ([], [6])
    assert str(changes) == "2 of 5 prompts changed (1, 3)"
    assert str(PromptChanges([[1, 2]], [[2, 3]])) == "1 of 2 demonstrations is new"
    assert PromptChanges([[1, 2], [3]], [[2]]).removed == [1, 3]
    assert str(PromptChanges([], [])) == "demonstrations depend on the query"
    assert str(PromptChanges([], [[1, 2]])) == "the prompts before the change are not known"
    assert PromptChanges([], [["a"], ["b"]]).changed == [0, 1]
    assert changes.to_dict()["changed"] == [1, 3]


def test_a_removal_changes_only_the_prompts_that_it_reports(path: Path) -> None:
    rng = np.random.default_rng(0)
    kept_warm = 0
    with of_store(path, 80, n_prompts=8) as erase:
        for _ in range(30):
            before = erase.status().prompts
            report = erase.forget(int(rng.choice([id_ for id_ in ids_of(erase.examples()) if isinstance(id_, int)])))
            after = erase.status().prompts
            assert (report.prompts.before, report.prompts.after) == (before, after)
            same = [index for index in range(8) if index not in report.prompts.changed]
            assert all(after[index] in before for index in same)
            assert not [index for index in report.prompts.changed if after[index] in before]
            # What was shown and is forgotten changes the prompt that showed it.
            assert not [prompt for prompt in after if report.ids[0] in prompt]
            kept_warm += len(same)
        assert erase.verify().ok
    assert kept_warm > 30 * 4


def test_another_handle_and_the_receipt_know_the_prompts(path: Path) -> None:
    with of_store(path, 40) as erase, reopened(path) as other:
        assert seen(other) == seen(erase)
        report = erase.forget([1, 2, 3])
        assert report.receipt is not None
        assert report.receipt.parameters["n_prompts"] == "4"
        assert seen(other) == seen(erase) == seen_anew(path)
        assert parts_of(other).settings.n_prompts == 4
    with create(path.with_name("single"), some(9)) as erase:
        receipt = erase.forget(1).receipt
        assert receipt is not None
        assert "n_prompts" not in receipt.parameters


# ---- command line ----
@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Erase.create(tmp_path / "store", embedder=WordEmbedder(), strategy="routed", n_prompts=4, n_shots=3) as made:
        made.ingest(some(40))
    return tmp_path / "store"


def test_commands_show_routes_and_prompts(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = Erase.open
    monkeypatch.setattr(Erase, "open", lambda *given, **named: opened(*given, **{**named, "embedder": WordEmbedder()}))
    shown = json_of("prompt", "late parcel", "--show-route", "--store", store)
    status = json_of("status", "--store", store)
    route = shown["route"]
    assert shown["demonstrations"] == route["demonstrations"] == status["prompts"][route["prompt"]]
    assert "route" not in json_of("prompt", "late parcel", "--store", store)
    result = command("prompt", "late parcel", "--show-route", "--store", store)
    assert result.stdout == shown["text"] + "\n"
    assert f"note: prompt {route['prompt']} of 4, demonstrations " in result.stderr
    assert "demonstrations   4 prompts of 3 examples" in command("status", "--store", store).stdout.splitlines()

    gone = route["demonstrations"][0]
    plan = json_of("forget", "--id", gone, "--dry-run", "--store", store)
    lines = command("forget", "--id", gone, "--yes", "--store", store).stdout.splitlines()
    changed = plan["prompts"]["changed"]
    assert route["prompt"] in changed
    assert f"{len(changed)} of 4 prompts changed ({', '.join(map(str, changed))})" in lines[0]
    assert [line for line in lines if line.startswith("out of the prompts ")]
    (tmp_path / "more.jsonl").write_text(json.dumps({"input": "late late parcel", "output": "yes"}))
    ingested = json_of("ingest", tmp_path / "more.jsonl", "--store", store)
    assert ingested["prompts"]["after"] == json_of("status", "--store", store)["prompts"]
    [line] = command("ingest", tmp_path / "more.jsonl", "--store", store).stdout.splitlines()
    n_changed = line.partition("in the store, ")[2].partition(" of 4 prompts changed (")[0]
    assert int(n_changed) > 0


def test_routes_of_another_strategy_are_refused(tmp_path: Path) -> None:
    create(tmp_path / "store", some(4)).close()
    command_refused(command("prompt", "what", "--show-route", "--store", tmp_path / "store"), 2, "no routes")
    result = command("init", "--n-prompts", 8, "--store", tmp_path / "new")
    command_refused(result, 2, "n_prompts", "routed")


def test_init_creates_a_store_with_routes(tmp_path: Path) -> None:
    status = json_of("init", "--strategy", "routed", "--n-prompts", 8, "--shots", 5, "--store", tmp_path / "new")
    assert (status["strategy"], status["n_shots"], status["prompts"]) == ("routed", 5, [[]])
    with Erase.open(tmp_path / "new") as erase:
        assert erase.settings.n_prompts == 8
