"""What was forgotten does not come in again, unless someone wants just that."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from erase_core.errors import ForgottenError, ParameterError
from erase_core.examples.example import AnyExample, NewExample
from hypothesis import given
from hypothesis import strategies as st
from small_stores import (
    check_refused,
    create,
    example,
    fresh,
    new_path,
    parts_of,
    reopened,
    seen,
    seen_anew,
    some,
    without_id,
)

WHAT: dict[str, tuple[dict[str, Any], list[AnyExample]]] = {
    "an id": ({"ids": 5}, [example(5, "another text", subject="dan")]),
    "an id as text": ({"ids": range(12)}, [example("7", "another text")]),
    "a subject": ({"subject": "ann"}, [example(99, "another text", subject="ann")]),
    "a content": ({"ids": [5]}, [without_id(some(12)[5])]),
    "one of many": ({"ids": [5, 6]}, [*some(3, 100), example(6), *some(3, 200)]),
}


@pytest.mark.parametrize("name", WHAT)
def test_what_was_forgotten_is_refused_or_left_out_or_taken_in_again(path: Path, name: str) -> None:
    removal, back = WHAT[name]
    with create(path, some(12)) as erase:
        erase.forget(**removal)
        rest, others = erase.examples(), [each for each in back if isinstance(each.id, int) and each.id >= 100]
        check_refused(erase, lambda: erase.ingest(back), ForgottenError, f"1 of {len(back)} ", "skip", "allow")
        report = erase.ingest(back, on_forgotten="skip")
        assert (report.n_added, report.n_forgotten, report.n_examples) == (len(others), 1, len(rest) + len(others))
        assert seen(erase) == seen_anew(path) == fresh(rest + others)
        back = [each for each in back if each not in others]
        report = erase.ingest(back, on_forgotten="allow")
        assert (report.n_added, report.n_forgotten) == (1, 0)
        [new] = [each for each in erase.examples() if each not in rest + others]
        assert new == back[0] or without_id(new) == back[0]
        assert seen(erase) == seen_anew(path) == fresh([*rest, *others, new])


@pytest.mark.parametrize("name", WHAT)
def test_what_was_taken_in_again_is_an_example_like_any_other(path: Path, name: str) -> None:
    """It is forgotten and refused again, and what it shares with nobody is not refused meanwhile."""
    removal, back = WHAT[name]
    with create(path, some(12)) as erase:
        erase.forget(**removal)
        before = erase.examples()
        erase.ingest(back, on_forgotten="allow")
        [*_, new] = [each for each in erase.examples() if each not in before and (each.id not in range(100, 300))]
        erase.forget(new.id)
        for again in ([new], [without_id(new)] if type(new.id) is int else [new]):
            check_refused(erase, lambda again=again: erase.ingest(again), ForgottenError)  # type: ignore[misc]
        erase.ingest([new], on_forgotten="allow")
        assert new in erase.examples()
        assert erase.verify().ok


def test_a_file_ingested_again_after_a_removal(path: Path, tmp_path: Path) -> None:
    """The common mistake: the source still has the rows that were forgotten."""
    file = tmp_path / "tickets.jsonl"
    rows = [{"input": f"question {i}", "output": f"answer {i}"} for i in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with create(path) as erase:
        erase.ingest(file)
        erase.forget([1, 4])
        check_refused(erase, lambda: erase.ingest(file), ForgottenError, "2 of 6 examples")
        report = erase.ingest(file, on_forgotten="skip")
        assert (report.n_added, report.n_forgotten, report.n_examples) == (4, 2, 8)
        assert [each.input for each in erase.examples()].count("question 0") == 2
        assert "question 1" not in [each.input for each in erase.examples()]
        assert erase.verify().ok


def test_a_subject_is_refused_whatever_the_example_says(path: Path) -> None:
    with create(path, some(12)) as erase:
        erase.forget(subject="ann")
        for each in (NewExample(input="new", output="an answer", subject="ann"), example(77, "new", subject="ann")):
            check_refused(erase, lambda each=each: erase.ingest([each]), ForgottenError)  # type: ignore[misc]
        for other in ("Ann", "ann ", "anna", None):
            erase.ingest([NewExample(input=f"about {other}", output="an answer", subject=other)])
        erase.ingest([example(77, "new", subject="ann")], on_forgotten="allow")
        erase.ingest([example(78, "new too", subject="ann")])  # allowed is the subject, not one example
        assert erase.verify().ok


def test_examples_of_a_subject_may_come_where_one_of_them_was_forgotten_by_its_id(path: Path) -> None:
    with create(path, some(12)) as erase:
        erase.forget(1)
        erase.ingest([example(99, subject="ann")])
        assert erase.verify().ok


def test_the_contents_of_an_example_are_all_it_says_but_its_id(path: Path) -> None:
    whole = NewExample(input="input", output="output", rationale="rationale", subject="subject")
    with create(path) as erase:
        erase.ingest([whole])
        erase.forget(0)
        check_refused(erase, lambda: erase.ingest([whole]), ForgottenError)
        for change in ({"input": "x"}, {"output": "x"}, {"rationale": None}, {"subject": None}):
            erase.ingest([replace(whole, **change)])
        erase.ingest([NewExample(input="inpu", output="toutput", rationale="rationale", subject="subject")])
        erase.ingest([whole.numbered(99)])  # an example with an id is known by it alone
        assert erase.verify().ok


# ---- numbers ----
@given(steps=st.lists(st.one_of(st.integers(1, 4), st.sets(st.integers(0, 12), min_size=1, max_size=4)), max_size=8))
def test_a_number_is_not_given_again(steps: list[int | set[int]]) -> None:
    with new_path() as path, create(path) as erase:
        given_before: set[int] = set()
        for number, step in enumerate(steps):
            if isinstance(step, int):
                before = {each.id for each in erase.examples()}
                erase.ingest([{"input": f"text {number} {i}", "output": "x"} for i in range(step)])
                new = {each.id for each in erase.examples()} - before
                assert len(new) == step
                assert not new & given_before
                given_before |= {id_ for id_ in new if isinstance(id_, int)}
            elif going := step & {each.id for each in erase.examples() if isinstance(each.id, int)}:
                erase.forget(going)


def test_numbers_go_around_ids_that_were_forgotten(path: Path) -> None:
    with create(path, [example(i) for i in (0, 1, 2, 3, 5, 6)]) as erase:
        erase.forget([2, 3, 5, 6])
        erase.ingest([{"input": f"text {i}", "output": "x"} for i in range(3)])
        assert [each.id for each in erase.examples()] == [0, 1, 4, 7, 8]


# ---- parameters, and other processes ----
@pytest.mark.parametrize("forgotten", ["", "Refuse", None, True])
def test_there_are_three_ways(path: Path, forgotten: Any) -> None:
    with create(path, some(3)) as erase:
        check_refused(
            erase,
            lambda: erase.ingest(some(1, 9), on_forgotten=forgotten),
            ParameterError,
            "on_forgotten",
            "refuse",
            "skip",
            "allow",
        )


WAYS: dict[Literal["refuse", "skip", "allow"], int | None] = {"refuse": None, "skip": 2, "allow": 3}


@pytest.mark.parametrize("way", WAYS)
def test_what_another_handle_forgets_meanwhile_counts(path: Path, way: Literal["refuse", "skip", "allow"]) -> None:
    """Between the first look and the write lies the embedding, which takes long."""
    with create(path, some(12)) as erase:
        embed: Callable[..., Any] = parts_of(erase).models.embedder.embed

        def slowly(texts: Sequence[str], *, progress: bool = False) -> Any:
            parts_of(erase).models.embedder.embed = embed  # type: ignore[method-assign]
            with reopened(path) as other:
                other.ingest([example(50)])
                other.forget(50)
            return embed(texts, progress=progress)

        parts_of(erase).models.embedder.embed = slowly  # type: ignore[method-assign]
        coming = [example(49), example(50, "canary"), example(51)]
        if WAYS[way] is None:
            with pytest.raises(ForgottenError):
                erase.ingest(coming, on_forgotten=way)
            assert seen(erase) == fresh(some(12))
        else:
            assert erase.ingest(coming, on_forgotten=way).n_added == WAYS[way]
            kept = coming if way == "allow" else [coming[0], coming[2]]
            assert seen(erase) == fresh(some(12) + kept)


def test_a_list_of_what_was_forgotten_tells_nobody_else(path: Path) -> None:
    """Its hashes are keyed: another store's are others."""
    tokens: list[set[bytes]] = []
    for name in ("a", "b"):
        with create(path / name, some(12)) as erase:
            erase.forget(subject="ann")
            with parts_of(erase).store.reading() as reads:
                tokens.append(reads.all_forgotten())
    assert len(tokens[0]) == len(tokens[1]) == 2 * 3 + 1
    assert not tokens[0] & tokens[1]
