"""`report_erasure`: what it finds of a request, what the verdict is, and that nothing of the request is in it."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import Search, canary, forms, names
from erase_core import Erase, report_erasure, traces_of
from erase_core.calls.verifying import verify_store
from erase_core.erasure_report.facts import ErasureReport
from erase_core.errors import ParameterError, ScrubError, StoreError
from erase_core.receipts.receipt import Receipt
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import Id, WordEmbedder, contents, create, example, new_path, refused, seen, some


def everything(report: ErasureReport) -> bytes:
    """All that leaves a report: the page, as it is and unescaped, what `--json` prints, and how it is shown."""
    page = report.to_html()
    return "\n".join([page, html.unescape(page), json.dumps(report.to_dict()), str(report), repr(report)]).encode()


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=8, deadline=None)
def test_nothing_of_what_was_forgotten_is_in_the_report(seed: int, data: st.DataObject) -> None:
    """In no encoding, whether the removal is made, was made, or is still to be made, by ids or by subject."""
    rng = random.Random(seed)
    numbered, embedder = data.draw(st.booleans()), WordEmbedder(dim=32)
    going = [replace(canary(rng, numbered=numbered), subject=f"subject {rng.getrandbits(90)}") for _ in range(4)]
    staying = [canary(rng, numbered=numbered) for _ in range(12)]
    search = Search()
    for each in going:
        search.add(str(each.id), forms(each, embedder))
    of_ids = data.draw(st.booleans())
    request: dict[str, Any] = {"ids": [e.id for e in going]} if of_ids else {"subject": [str(e.subject) for e in going]}
    with new_path() as path, create(path, [*going, *staying], embedder=embedder) as erase:
        before = report_erasure(erase, **request)
        traces = traces_of(erase, **request)
        removal = erase.forget(**request)
        reports = [before, report_erasure(erase, **request, removal=removal, traces=traces)]
        reports += [report_erasure(erase, **request)]
        assert [report.verdict for report in reports] == ["not forgotten", "forgotten", "forgotten"]
        # The search can find them.
        assert names(search.of_bytes(" ".join(traces.texts).encode()))
    for report in reports:
        assert search.of_bytes(everything(report)) == set()


def test_a_removal_is_found_by_its_subject_and_by_the_ids_of_its_examples(path: Path) -> None:
    with create(path, some(12)) as erase:
        erase.forget([1, 2])
        erase.forget(subject="cem")
        one, two = erase.receipts()
        found = {
            "an id": report_erasure(erase, 1),
            "a subject": report_erasure(erase, subject="cem"),
            "an id of the subject": report_erasure(erase, 3),
            "ids of both": report_erasure(erase, [2, 7]),
        }
        assert {name: report.receipts for name, report in found.items()} == {
            "an id": (one,),
            "a subject": (two,),
            "an id of the subject": (two,),
            "ids of both": (one, two),
        }
        assert {report.verdict for report in found.values()} == {"forgotten"}
        # A removal by ids does not name the subject.
        assert report_erasure(erase, subject="ann").receipts == ()


def test_the_verdict_is_of_all_that_is_named(path: Path) -> None:
    with create(path, some(12)) as erase:
        erase.forget(1)
        cases: list[tuple[Id | list[Id], str, tuple[int, int, int]]] = [
            (1, "forgotten", (1, 0, 0)),
            (2, "not forgotten", (0, 0, 1)),
            (99, "unknown", (0, 1, 0)),
            ([1, 2], "not forgotten", (1, 0, 1)),
            ([1, 99], "forgotten", (1, 1, 0)),
            ([1, 2, 99], "not forgotten", (1, 1, 1)),
        ]
        for ids, verdict, counts in cases:
            report = report_erasure(erase, ids)
            known = report.known
            assert (report.verdict, (known.n_recorded, known.n_unknown, known.n_present)) == (verdict, counts)


def test_what_came_in_again_is_not_forgotten(path: Path) -> None:
    with create(path, some(12)) as erase:
        erase.forget(subject="ann")
        erase.ingest([example(1, subject="ann")], on_forgotten="allow")
        report = report_erasure(erase, subject="ann")
        assert (report.verdict, len(report.receipts), report.known.n_present) == ("not forgotten", 1, 1)
        assert report.picture is None
        erase.forget(subject="ann")
        report = report_erasure(erase, subject="ann")
        assert (report.verdict, report.receipts) == ("forgotten", tuple(erase.receipts()))


def test_other_spellings_and_mentions_are_counted(path: Path) -> None:
    examples = [
        example(1, subject="Ann Lee"),
        example(2, subject="ann  lee"),
        example(3, "a letter by ANN LEE herself"),
        example(4),
    ]
    with create(path, examples) as erase:
        erase.forget(subject="Ann Lee")
        known = report_erasure(erase, subject="Ann Lee").known
        assert (known.n_present, known.n_similar, known.n_mentions) == (0, 1, 1)
        report = report_erasure(erase, subject="Ann Lee", match="normalised")
        assert (report.verdict, report.known.n_present, report.known.n_similar) == ("not forgotten", 1, 0)


def test_what_verify_finds_is_a_problem_and_names_no_id(path: Path) -> None:
    with create(path, [example(f"id-{i}-of-somebody") for i in range(8)]) as erase:
        erase.forget("id-1-of-somebody")
        (path / "id-1-of-somebody").write_text("id-1-of-somebody wrote")
        report = report_erasure(erase, "id-1-of-somebody")
        assert (report.verdict, len(report.verification.problems)) == ("problems", 1)
        assert b"of-somebody" not in everything(report)


@pytest.mark.parametrize(
    "text",
    [
        "example {!r} is in the store, but a receipt records its removal",
        "examples in the store are on the list of what was forgotten: [{!r}, 5]",
        "x is damaged: cannot read its vector in slot 3 (id {!r}). Restore a backup.",
        "x is damaged: cannot read its example {!r}. Restore a backup.",
    ],
)
@pytest.mark.parametrize("id_", [7771, -7771, "it's 7771", '"7771"', "7771\n"])
def test_ids_in_the_sentences_of_verify_are_hidden(
    path: Path, text: str, id_: Id, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_problem(*given: Any, **options: Any) -> Any:
        return replace(verify_store(*given, **options), ok=False, problems=[text.format(id_)])

    monkeypatch.setattr("erase_core.erasure_report.contents.verify_store", with_a_problem)
    with create(path, some(8)) as erase:
        erase.forget(1)
        report = report_erasure(erase, 1)
    assert report.verdict == "problems"
    [problem] = report.verification.problems
    assert "7771" not in problem
    assert "[hidden]" in problem
    assert html.escape(problem, quote=False) in report.to_html()


def test_names_in_paths_are_hidden(tmp_path: Path) -> None:
    path, other = tmp_path / "Customer-77" / "store", tmp_path / "exports of customer-77"
    other.mkdir()
    (other / "customer-77.txt").write_text("customer-77 wrote")
    (other / "broken customer-77.zip").write_bytes(b"PK\x03\x04 customer-77 in no archive")
    with create(path, [example(1, subject="customer-77"), example(2)]) as erase:
        erase.forget(subject="customer-77")
        report = report_erasure(erase, subject="customer-77", folders=other)
    assert report.verdict == "problems"
    assert report.scans[0].found
    assert b"customer-77" not in everything(report).lower()


def test_short_names_in_paths_are_hidden_as_words(tmp_path: Path) -> None:
    path = tmp_path / "Ann" / "letters_of_ann 12" / "anna"
    with create(path, [example(1, subject="Ann"), example(2, subject="12"), example(3)]) as erase:
        erase.forget(subject=["Ann", "12"])
        report = report_erasure(erase, subject=["Ann", "12"])
    assert report.store.folder == str(tmp_path / "[hidden]" / "letters_of_[hidden] 12" / "anna")


def test_the_size_of_the_files_does_not_show_how_long_the_removed_text_was(tmp_path: Path) -> None:
    sizes = set()
    for n_words in (1, 500):
        with create(tmp_path / str(n_words), [example(1, "word " * n_words), *map(example, range(2, 9))]) as erase:
            erase.forget(1)
            sizes.add(report_erasure(erase, 1).searched.n_bytes)
    assert len(sizes) == 1
    assert min(sizes) > 0


def test_texts_that_stay_or_are_short_are_not_searched_for(path: Path) -> None:
    """They would be found in what stays, and mean nothing there."""
    examples = [
        example(1, "the parcel of Ann Lee", subject="Ann"),
        replace(example(2, "the parcel of Ann Lee and Bob"), output="answer 1"),
        example(3),
    ]
    with create(path, examples) as erase:
        traces = traces_of(erase, subject="Ann")
        assert (set(traces.texts), len(traces.vectors)) == ({"the parcel of Ann Lee", "answer 1", "Ann"}, 1)
        removal = erase.forget(subject="Ann")
        report = report_erasure(erase, subject="Ann", removal=removal, traces=traces)
    searched = report.searched
    assert (searched.n_texts, searched.n_vectors, searched.n_short, searched.n_staying) == (0, 1, 1, 2)
    assert report.verdict == "forgotten"


@pytest.mark.parametrize("what", ["text", "vector"])
def test_a_trace_that_is_left_is_a_problem(path: Path, what: str) -> None:
    with create(path, some(8)) as erase:
        text = "a rare sentence"
        vector = WordEmbedder().embed([text])[0]
        erase.ingest([example(50, text)])
        traces = traces_of(erase, 50)
        erase.forget(50)
        assert report_erasure(erase, 50, traces=traces).verdict == "forgotten"
        (path / "left").write_bytes(text.encode() if what == "text" else vector.tobytes())
        report = report_erasure(erase, 50, traces=traces)
        assert report.verdict == "problems"
        assert text.encode() not in everything(report)


def test_other_folders_are_searched_too(path: Path, tmp_path: Path) -> None:
    places = [tmp_path / "clean", tmp_path / "index"]
    for place in places:
        place.mkdir()
    with create(path, some(8)) as erase:
        traces = traces_of(erase, 1)
        erase.forget(1)
        np.save(places[1] / "index.npy", np.array(traces.vectors))
        report = report_erasure(erase, 1, traces=traces, folders=places)
        assert [scan.found for scan in report.scans] == [False, True]
        assert report.verdict == "problems"
        assert report_erasure(erase, 1, traces=traces, folders=places[0]).verdict == "forgotten"
        refused(lambda: report_erasure(erase, 1, folders=places[0]), ParameterError, "nothing to search for", "absent")
        refused(lambda: report_erasure(erase, 1, folders=tmp_path / "no"), ParameterError)


def test_the_cost_is_of_this_removal(path: Path) -> None:
    with create(path, some(12), n_shots=4) as erase:
        one, two = erase.forget(1), erase.forget(2)
        assert one.receipt is not None
        cost = report_erasure(erase, 1, removal=one).cost
        assert cost is not None
        assert (cost.number, cost.seconds, cost.model_seconds) == (1, one.seconds, one.model_seconds)
        assert (cost.n_prompts, cost.n_changed) == (1, len(one.prompts.changed))
        assert report_erasure(erase, 1).cost is None
        refused(lambda: report_erasure(erase, 1, removal=two), ParameterError, "removal", "receipt 2")


def test_a_report_changes_nothing(path: Path) -> None:
    with create(path, some(12)) as erase:
        erase.forget(subject="ann")
        before = seen(erase), contents(path)
        requests: list[dict[str, Any]] = [{"subject": "ann"}, {"subject": "bob"}, {"ids": [1, 2, 99]}]
        for request in requests:
            report_erasure(erase, **request).to_html()
        assert (seen(erase), contents(path)) == before


def test_a_request_that_is_wrong_is_refused(path: Path) -> None:
    with create(path, some(4)) as erase:
        wrong: list[tuple[Callable[[], object], type[Exception]]] = [
            (lambda: report_erasure(erase), ParameterError),
            (lambda: report_erasure(erase, 1, subject="ann"), ParameterError),
            (lambda: report_erasure(erase, subject=" "), ParameterError),
            (lambda: report_erasure(erase, []), ParameterError),
            (lambda: report_erasure(erase, 1, match="normalised"), ParameterError),
            (lambda: report_erasure(erase, subject="ann", match="like"), ParameterError),  # type: ignore[arg-type]
            (lambda: report_erasure(erase, 1, picture="no"), ParameterError),  # type: ignore[arg-type]
        ]
        for call, error in wrong:
            refused(call, error)
        assert report_erasure(erase, "no\udc80text").verdict == "unknown"
        assert report_erasure(erase, subject="no\udc80text").verdict == "unknown"


def test_a_removal_that_is_not_finished_is_a_problem(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from erase_core.receipts.folder import ReceiptFolder

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with create(path, some(8)) as erase:
        with monkeypatch.context() as patch:
            patch.setattr(ReceiptFolder, "publish", fail)
            with pytest.raises(ScrubError):
                erase.forget(1)
        report = report_erasure(erase, 1)
        # The receipt is found though it is not published.
        assert (report.verdict, len(report.receipts)) == ("problems", 1)
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        assert report_erasure(erase, 1).verdict == "forgotten"


def test_a_page_is_written_whole_and_over_none(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.html"
    with create(path, some(8)) as erase:
        erase.forget(1)
        report = report_erasure(erase, 1)
    report.write(file)
    page = file.read_bytes()
    assert page == report.to_html().encode()
    refused(lambda: report.write(file), StoreError, "exists already")
    other = replace(report, made="2000-01-01T00:00:00Z")
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr("os.fsync", fail)
        refused(lambda: other.write(file, overwrite=True), StoreError, "report.html")
    assert file.read_bytes() == page
    other.write(file, overwrite=True)
    assert file.read_bytes() == other.to_html().encode()
    assert not list(tmp_path.glob("report.html.*"))
    refused(lambda: report.write(tmp_path / "no" / "report.html"), StoreError)


def test_receipts_of_a_report_are_those_of_the_folder(path: Path) -> None:
    with create(path, some(8)) as erase:
        erase.forget(1)
        [receipt] = report_erasure(erase, 1).receipts
        assert receipt == Receipt.from_bytes((path / "receipts" / "00000001.json").read_bytes())
