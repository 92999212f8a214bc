"""Many at once, and again: requests to forget and sources that are repeated, several subjects, spellings of one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import check_refused as check_ended
from command_line import erase as command
from command_line import json_of
from erase_core.erase import Erase
from erase_core.erasure.request import OnMissing
from erase_core.errors import (
    DuplicateIdError,
    ExampleError,
    ForgottenError,
    IdKindError,
    OldCopyWarning,
    ParameterError,
    ScrubError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.examples.example import Example
from erase_core.reports import PromptChanges
from hypothesis import given
from hypothesis import strategies as st
from small_stores import (
    CountingLLM,
    WordEmbedder,
    check_refused,
    contents,
    create,
    example,
    fresh,
    new_path,
    parts_of,
    reopened,
    seen,
    seen_anew,
    some,
)

SPELLINGS = ["Ann Lee", "ann lee", "ann\u00a0lee", "Ann  Lee", "a\u200bnn lee"]


def spelled() -> list[Example]:
    """Two examples of each spelling of one name, and two of others."""
    return [example(i, subject=subject) for i, subject in enumerate([*SPELLINGS * 2, "Ann Leer", "Anna Lee", None])]


def generation(erase: Erase) -> int:
    with parts_of(erase).store.reading() as reads:
        return reads.state.generation


def n_forgotten(erase: Erase) -> int:
    with parts_of(erase).store.reading() as reads:
        return len(reads.all_forgotten())


# ---- forgetting again ----
@pytest.mark.parametrize("request_", [{"ids": [1, 5]}, {"ids": 1}, {"subject": "ann"}, {"subject": ["ann", "bob"]}])
def test_a_request_may_be_repeated(path: Path, request_: dict[str, Any]) -> None:
    with create(path, some(12)) as erase:
        first = erase.forget(**request_, on_missing="skip")
        assert first.receipt is not None
        assert (first.n_missing, len(first.ids)) == (0, len(first.receipt.rows))
        before, state = contents(path), seen(erase)
        again = erase.forget(**request_, on_missing="skip")
        [named] = request_.values()
        n_named = 1 if isinstance(named, (int, str)) else len(named)
        assert (again.ids, again.receipt, again.path, again.n_missing) == ([], None, None, n_named)
        assert again.prompts.before == again.prompts.after == [[each.id for each in state.demonstrations[0]]]
        assert again.prompts.changed == []
        assert (again.n_examples, again.dry_run) == (first.n_examples, False)
        assert (contents(path).keys(), seen(erase)) == (before.keys(), state)
        assert [each.number for each in erase.receipts()] == [1]
        error = UnknownIdError if "ids" in request_ else UnknownSubjectError
        check_refused(erase, lambda: erase.forget(**request_), error, "forgotten already")
        check_refused(erase, lambda: erase.forget(**request_, on_missing="refuse"), error)


def test_nothing_is_written_where_nothing_is_there(path: Path) -> None:
    with create(path, some(12)) as erase:
        before = generation(erase)
        erase.forget([77, 78], on_missing="skip")
        erase.forget(subject="nobody", on_missing="skip")
        assert generation(erase) == before


def test_of_several_those_that_are_there_are_forgotten(path: Path) -> None:
    with create(path, some(12)) as erase:
        plan = erase.forget([1, 77, 2, "1", 78, 1], on_missing="skip", dry_run=True)
        report = erase.forget([1, 77, 2, "1", 78, 1], on_missing="skip")
        assert (report.ids, report.n_missing) == ([1, 2], 3)
        assert (plan.ids, plan.n_missing, plan.prompts) == (report.ids, report.n_missing, report.prompts)
        report = erase.forget(subject=["nobody", "bob"], on_missing="skip")
        assert (report.ids, report.n_missing) == ([6, 10], 1)
        survivors = [each for each in some(12) if each.id not in (1, 2, 6, 10)]
        assert seen(erase) == seen_anew(path) == fresh(survivors)
        assert "1 of those requested is not in the store" in str(report)


def test_a_store_without_examples_has_nothing_to_forget(path: Path) -> None:
    with create(path, some(3)) as erase:
        erase.forget([0, 1, 2])
        for request_ in ({"ids": [0]}, {"subject": "ann"}):
            for dry_run in (True, False):
                report = erase.forget(**request_, on_missing="skip", dry_run=dry_run)
                assert (report.ids, report.n_examples, report.prompts) == ([], 0, PromptChanges([[]], [[]]))
                assert not report.prompts.depend_on_query


@pytest.mark.parametrize("again", [{"ids": [1]}, {"subject": "nobody"}])
def test_a_repeated_request_finishes_what_the_first_could_not(path: Path, again: dict[str, Any]) -> None:
    """Success must not be reported as long as files may still hold what was forgotten."""
    in_the_way = path / "receipts" / f"00000001.json.partial-{os.getpid()}"
    with create(path, some(12)) as erase:
        in_the_way.mkdir(parents=True)
        for _ in range(2):
            with pytest.raises(ScrubError) as caught:
                erase.forget(**({"ids": [1]} if not erase.status().n_receipts else again), on_missing="skip")
        assert caught.value.report is not None
        assert caught.value.report.ids == []
        in_the_way.rmdir()
        assert not erase.status().scrubbed
        assert erase.forget(**again, on_missing="skip").receipt is None
        assert erase.status().scrubbed
        assert [each.number for each in erase.receipts()] == [1]
        assert erase.verify().ok


# ---- several subjects ----
@given(
    examples=st.lists(st.sampled_from([None, "ann", "bob", "Bob", "cem", "dan"]), min_size=1, max_size=10),
    wanted=st.lists(st.sampled_from(["ann", "bob", "Bob", "cem", "nobody"]), min_size=1, max_size=4),
)
def test_several_subjects_at_once_are_as_one_after_the_other(examples: list[str | None], wanted: list[str]) -> None:
    every = [example(i, subject=subject) for i, subject in enumerate(examples)]
    with new_path() as path, new_path() as other, create(path, every) as at_once, create(other, every) as in_turn:
        report = at_once.forget(subject=wanted, on_missing="skip")
        for subject in wanted:
            in_turn.forget(subject=subject, on_missing="skip")
        assert seen(at_once) == seen(in_turn) == fresh([each for each in every if each.subject not in wanted])
        known = {subject for subject in examples if subject in wanted}
        assert report.n_missing == len(set(wanted) - known)
        # One token for each subject that had examples, besides those of ids and contents.
        contents_ = {(each.input, each.output, each.subject) for each in every if each.subject in wanted}
        assert n_forgotten(at_once) == len(report.ids) + len(contents_) + len(known)
        assert n_forgotten(in_turn) == n_forgotten(at_once)
        for subject in known:
            check_refused(at_once, lambda s=subject: at_once.ingest([example(99, subject=s)]), ForgottenError)  # type: ignore[misc]


@pytest.mark.parametrize(
    "form", [list, tuple, iter, set, lambda subjects: subjects * 2], ids=["list", "tuple", "iter", "set", "twice"]
)
def test_subjects_come_in_any_form(path: Path, form: Any) -> None:
    with create(path, some(12)) as erase:
        report = erase.forget(subject=form(["ann", "bob"]))
        assert report.receipt is not None
        assert (report.ids, report.receipt.scope) == ([1, 5, 9, 2, 6, 10], "subject")


@pytest.mark.parametrize(
    "subject", [[], (), 5, b"ann", {"ann": 1}, [5], ["ann", None], [b"ann"], np.array("ann")], ids=repr
)
def test_what_is_no_subject_is_refused(path: Path, subject: Any) -> None:
    with create(path, some(12)) as erase:
        ways: tuple[OnMissing, ...] = ("refuse", "skip")
        for way in ways:
            call = partial(erase.forget, subject=subject, on_missing=way)
            check_refused(erase, call, ParameterError, "subject")


@pytest.mark.parametrize(
    "options", [{"on_missing": "ignore"}, {"on_missing": None}, {"match": "fuzzy"}, {"match": True}, {"match": None}]
)
def test_there_are_two_ways_each(path: Path, options: dict[str, Any]) -> None:
    with create(path, some(12)) as erase:
        [name] = options
        check_refused(erase, lambda: erase.forget(subject="ann", **options), ParameterError, name, "must be one of")
        check_refused(erase, lambda: erase.forget([1], match="normalised"), ParameterError, "match")
        check_refused(erase, lambda: erase.forget(), ParameterError)
        check_refused(erase, lambda: erase.forget([1], subject="ann", on_missing="skip"), ParameterError)
        check_refused(erase, lambda: erase.forget([1.5], on_missing="skip"), IdKindError)  # type: ignore[list-item]


def test_of_several_subjects_one_that_is_not_there_stops_all(path: Path) -> None:
    with create(path, some(12)) as erase:
        check_refused(
            erase, lambda: erase.forget(subject=["ann", "nobody", "none"]), UnknownSubjectError, "2 of", "'nobody'"
        )


# ---- look-alikes ----
@pytest.mark.parametrize("asked", [*SPELLINGS, "ANN LEE", "\ufeffann lee\u200d", "Ann\u3000Lee"])
def test_a_normalised_match_forgets_and_remembers_each_spelling(path: Path, asked: str) -> None:
    with create(path, spelled()) as erase:
        shutil.copytree(path, path.with_name("old"))
        report = erase.forget(subject=asked, match="normalised")
        assert sorted(report.ids, key=int) == list(range(10))
        assert (report.n_missing, report.n_similar) == (0, 0)
        assert seen(erase) == seen_anew(path) == fresh(spelled()[10:])
        assert report.receipt is not None
        assert len(report.receipt.tokens) == 2 * 10 + len(SPELLINGS)
        for subject in SPELLINGS:
            check_refused(erase, lambda s=subject: erase.ingest([example(99, subject=s)]), ForgottenError)  # type: ignore[misc]
        erase.ingest([example(99, subject="ANN lee")])  # a spelling that the store never had
        assert erase.verify().ok
    old = path.with_name("old")
    shutil.rmtree(old / "receipts", ignore_errors=True)
    shutil.copytree(path / "receipts", old / "receipts")
    with pytest.warns(OldCopyWarning):
        again = Erase.open(old, embedder=WordEmbedder(), llm=CountingLLM())
    with again:
        assert [each.id for each in again.examples()] == [10, 11, 12]
        for subject in SPELLINGS:
            check_refused(again, lambda s=subject: again.ingest([example(99, subject=s)]), ForgottenError)  # type: ignore[misc]


def test_look_alikes_are_counted_but_not_quoted(path: Path) -> None:
    with create(path, spelled()) as erase:
        check_refused(
            erase, lambda: erase.forget(subject="ANN LEE"), UnknownSubjectError, "5 subjects", "--match normalised"
        )
        plan = erase.forget(subject="ann lee", dry_run=True)
        report = erase.forget(subject="ann lee")
        assert (plan.n_similar, report.n_similar, report.ids) == (4, 4, [1, 6])
        assert "4 other subjects look alike and keep their examples" in str(report)
        assert not [subject for subject in SPELLINGS if subject in str(report)]
        erase.forget(subject=["Ann Lee", "Ann  Lee", "a\u200bnn lee"])
        check_refused(
            erase, lambda: erase.forget(subject="ann lee"), UnknownSubjectError, "1 subject of", "looks", "already"
        )
        assert erase.forget(subject="ann lee", on_missing="skip").n_similar == 1
        check_refused(erase, lambda: erase.forget(subject="bob"), UnknownSubjectError, "'bob'; nothing was forgotten")


@pytest.mark.parametrize(("stored", "asked"), [("Zo\u00eb", "Zoe\u0308"), ("Zoe\u0308", "Zo\u00eb")], ids=ascii)
def test_accents_in_another_form(path: Path, stored: str, asked: str) -> None:
    with create(path, [example(1, subject=stored), example(2)]) as erase:
        check_refused(erase, lambda: erase.forget(subject=asked), UnknownSubjectError, "1 subject of")
        assert erase.forget(subject=asked, match="normalised").ids == [1]
        check_refused(erase, lambda: erase.ingest([example(3, subject=stored)]), ForgottenError)


def test_what_no_subject_looks_like(path: Path) -> None:
    with create(path, spelled()) as erase:
        check_refused(erase, lambda: erase.forget(subject="nobody", match="normalised"), UnknownSubjectError)
        report = erase.forget(subject=["nobody", "ANN LEER"], match="normalised", on_missing="skip")
        assert (report.ids, report.n_missing) == ([10], 1)


# ---- ingesting again ----
def test_a_source_may_be_ingested_again(path: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with create(path) as erase:
        for n, added in ((4, 4), (4, 0), (9, 5)):
            text = (json.dumps({"id": i, "input": f"q {i}", "output": "a", "subject": f"s{i}"}) for i in range(n))
            rows.write_text("\n".join(text))
            report = erase.ingest(rows, on_duplicate="skip")
            assert (report.n_added, report.n_duplicates, report.n_examples) == (added, n - added, n)
        assert "4 left out that are in the store already" in str(replace(report, n_duplicates=4))
        assert "1 left out that is in" in str(replace(report, n_duplicates=1))
        erase.forget(3)
        check_refused(erase, lambda: erase.ingest(rows, on_duplicate="skip"), ForgottenError, "1 of 1 example was")
        report = erase.ingest(rows, on_duplicate="skip", on_forgotten="skip")
        assert (report.n_added, report.n_duplicates, report.n_forgotten) == (0, 8, 1)
        report = erase.ingest(rows, on_duplicate="skip", on_forgotten="allow")
        assert (report.n_added, report.n_duplicates, report.n_forgotten) == (1, 8, 0)
        assert seen(erase) == fresh(erase.examples())


@pytest.mark.parametrize(
    "change", [{"input": "x"}, {"output": "x"}, {"rationale": "x"}, {"subject": "x"}, {"subject": None}]
)
def test_the_same_id_with_another_content_is_an_error(path: Path, change: dict[str, Any]) -> None:
    whole = [Example(i, f"in {i}", "out", "why", "ann") for i in range(3)]
    with create(path, whole) as erase:
        coming = [*some(2, 50), whole[0], replace(whole[1], **change)]
        check_refused(
            erase,
            lambda: erase.ingest(coming, on_duplicate="skip"),
            DuplicateIdError,
            "1 of the ids is",
            "another content",
            ": 1;",
        )
        check_refused(erase, lambda: erase.ingest(coming), DuplicateIdError, "2 of the ids are", "--duplicate skip")
        assert erase.ingest(coming[:3], on_duplicate="skip").n_duplicates == 1
        assert seen(erase) == fresh([*whole, *some(2, 50)])


@pytest.mark.parametrize("on_duplicate", ["", "allow", "replace", None, True])
def test_there_are_two_ways_with_duplicates(path: Path, on_duplicate: Any) -> None:
    with create(path, some(3)) as erase:
        check_refused(erase, lambda: erase.ingest(some(3), on_duplicate=on_duplicate), ParameterError, "on_duplicate")


def test_only_an_id_makes_a_duplicate(path: Path) -> None:
    """Without ids two equal rows are two examples, as ever."""
    rows = [{"input": "a", "output": "b"}] * 2
    with create(path) as erase:
        assert erase.ingest(rows, on_duplicate="skip").n_added == 2
        report = erase.ingest(rows, on_duplicate="skip")
        assert report.n_added == 2
        [note] = report.notes
        assert "found by id" in note
        assert not erase.ingest(rows).notes
        assert not erase.ingest([{**rows[0], "id": 7}], on_duplicate="skip").notes
        check_refused(erase, lambda: erase.ingest([{**rows[0], "id": "0"}], on_duplicate="skip"), IdKindError)
        check_refused(erase, lambda: erase.ingest([{**rows[0], "id": 9}] * 2, on_duplicate="skip"), ExampleError)


def test_what_another_handle_takes_in_meanwhile_is_a_duplicate(path: Path) -> None:
    with create(path, some(6)) as erase:
        embed = parts_of(erase).backends.embedder.embed

        def slowly(texts: Sequence[str], *, progress: bool = False) -> Any:
            parts_of(erase).backends.embedder.embed = embed  # type: ignore[method-assign]
            with reopened(path) as other:
                other.ingest(some(2, 6))
            return embed(texts, progress=progress)

        parts_of(erase).backends.embedder.embed = slowly  # type: ignore[method-assign]
        report = erase.ingest(some(10), on_duplicate="skip")
        assert (report.n_added, report.n_duplicates, report.n_examples) == (2, 8, 10)
        assert seen(erase) == seen_anew(path) == fresh(some(10))


# ---- the command ----
def test_the_command_repeats(tmp_path: Path) -> None:
    store, names = tmp_path / "store", tmp_path / "names"
    create(store, some(12), llm=None).close()
    names.write_text("bob\nnobody\n\n")
    wanted = ("forget", "--subject", "ann", "--subject", "none", "--subjects-from", names, "--yes", "--store", store)
    check_ended(command(*wanted), 4, "2 of the subjects")
    report = json_of(*wanted, "--missing", "skip")
    assert (report["ids"], report["n_missing"]) == ([1, 5, 9, 2, 6, 10], 2)
    again = json_of(*wanted, "--missing", "skip")
    assert (again["ids"], again["n_missing"], again["receipt"], again["path"]) == ([], 4, None, None)
    result = command(*wanted, "--missing", "skip")
    assert (result.exit_code, result.stdout.count("\n"), result.stderr) == (0, 1, "")
    assert result.stdout.startswith("0 examples forgotten, 6 remain; 4 of those requested are not in the store")
    # Nobody is asked where there is nothing to decide, but somebody could have been.
    check_ended(command(*(each for each in wanted if each != "--yes"), "--missing", "skip"), 2, "--yes")
    report = json_of("forget", "--id", "0", "--id", "77", "--yes", "--missing", "skip", "--store", store)
    assert (report["ids"], report["n_missing"]) == ([0], 1)


@pytest.mark.parametrize("option", ["--subject", "--id"])
def test_an_argument_in_another_encoding_is_not_skipped_as_missing(tmp_path: Path, option: str) -> None:
    """Somebody's terminal is in Latin-1: what was meant may be in the store."""
    store = tmp_path / "store"
    create(store, [*some(3), example(9, subject="caf\u00e9")], llm=None).close()
    latin = os.fsdecode("caf\u00e9".encode("latin-1"))
    for more in ((), ("--missing", "skip"), ("--match", "normalised") if option == "--subject" else ()):
        check_ended(command("forget", option, latin, "--yes", "--store", store, *more), 2, f"error: {option}", "UTF-8")
    assert json_of("status", "--store", store)["n_examples"] == 4


def test_the_command_matches_look_alikes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    create(store, spelled(), llm=None).close()
    check_ended(
        command("forget", "--subject", "ANN LEE", "--yes", "--store", store), 4, "5 subjects", "--match normalised"
    )
    assert json_of("forget", "--subject", "ann lee", "--yes", "--store", store)["n_similar"] == 4
    report = json_of("forget", "--subject", "ANN LEE", "--match", "normalised", "--yes", "--store", store)
    assert len(report["ids"]) == 8
    check_ended(command("forget", "--subject", "a", "--match", "alike", "--yes", "--store", store), 2, "match")
    check_ended(command("forget", "--subject", "a", "--missing", "allow", "--yes", "--store", store), 2, "on_missing")


def test_the_command_ingests_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erase_core.backends.Backends.embedder", WordEmbedder())
    store, rows = tmp_path / "store", tmp_path / "rows.jsonl"
    with create(store, some(5), llm=None) as made:
        made.export(rows)
    check_ended(command("ingest", rows, "--store", store), 3, "5 of the ids", "--duplicate skip")
    assert json_of("ingest", rows, "--duplicate", "skip", "--store", store)["n_duplicates"] == 5
    check_ended(command("ingest", rows, "--duplicate", "allow", "--store", store), 2, "on_duplicate")
