"""Stores and receipts that are not where they were: moved, replaced, unmounted, mixed up. One clear error each."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.erase import Erase
from erase_core.errors import OldCopyWarning, ParameterError, ReceiptError, ScrubError, StoreError
from erase_core.store.store import Store
from small_stores import (
    CountingLLM,
    WordEmbedder,
    contents,
    create,
    example,
    fresh,
    refused,
    reopened,
    seen,
    some,
)


@pytest.fixture
def folder(path: Path) -> Path:
    """Where a store and its receipts can be made."""
    path.mkdir()
    return path


def opened(path: Path, **options: Any) -> Erase:
    return Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM(), **options)


# ---- the store ----
def test_a_store_that_was_moved_away_under_a_handle_is_not_written_to(folder: Path) -> None:
    erase = create(folder / "store", some(12))
    (folder / "store").rename(folder / "moved")
    create(folder / "store", some(5, 50)).close()
    files = contents(folder)
    for call in (lambda: erase.forget(1), lambda: erase.ingest(some(1, 90)), lambda: erase.prompt("late parcel")):
        refused(call, StoreError, "moved or replaced", "Open it again")
    erase.close()
    assert contents(folder / "store") == {name[6:]: c for name, c in files.items() if name.startswith("store/")}
    with opened(folder / "moved") as moved:
        assert seen(moved) == fresh(some(12))


def test_an_ingest_between_a_removal_and_its_end_does_not_leave_it_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = create(folder / "store", some(12))
    destroy = Store.destroy

    def between_two_ingests(store: Store, slots: Iterable[int], generation: int = 0) -> None:
        for first in (50, 52):
            with reopened(folder / "store") as other:
                other.ingest(some(2, first))
            if first == 50:
                destroy(store, slots, generation)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "destroy", between_two_ingests)
        erase.forget(1)
    assert erase.status().scrubbed
    assert seen(erase) == fresh([*(e for e in some(12) if e.id != 1), *some(4, 50)])


def test_an_export_into_the_store_is_refused(folder: Path) -> None:
    erase = create(folder / "store", some(3))
    refused(lambda: erase.export(folder / "store" / "out.jsonl"), StoreError, "inside the store's folder")
    assert erase.export(folder / "out.jsonl") == 3


# ---- the receipts ----
@pytest.mark.parametrize("forgotten", [0, 1], ids=["none yet", "one"])
def test_a_folder_of_receipts_that_is_not_mounted_is_noticed(folder: Path, forgotten: int) -> None:
    erase = create(folder / "store", some(12), receipts=folder / "receipts")
    shutil.copytree(folder / "store", folder / "backup")
    if forgotten:
        erase.forget(1)
    (folder / "receipts").rename(folder / "elsewhere")
    (folder / "receipts").mkdir()  # the place where it would be mounted
    for call in (lambda: erase.forget(2), lambda: opened(folder / "store"), lambda: opened(folder / "backup")):
        refused(call, ReceiptError, str(folder / "receipts"), "its disk is not mounted", "--receipts")
    assert contents(folder / "receipts") == {}
    (folder / "receipts").rmdir()
    refused(lambda: opened(folder / "store"), ReceiptError, "was not found")
    (folder / "elsewhere").rename(folder / "receipts")
    erase.forget(2)
    assert erase.verify().ok


def test_receipts_that_vanish_during_a_removal_are_published_when_they_are_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = create(folder / "store", some(12), receipts=folder / "receipts")
    destroy = Store.destroy

    def unmount(store: Store, slots: Iterable[int], generation: int = 0) -> None:
        (folder / "receipts").rename(folder / "elsewhere")
        destroy(store, slots, generation)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "destroy", unmount)
        with pytest.raises(ScrubError, match=r"the removal is done.*receipt cannot be written") as caught:
            erase.forget(1)
    report = caught.value.report
    assert report
    assert report.receipt
    assert (report.ids, report.n_examples) == ([1], 11)
    assert not (folder / "receipts").exists()
    erase.close()
    (folder / "elsewhere").rename(folder / "receipts")
    with opened(folder / "store") as again:
        assert again.receipts() == [report.receipt]
        assert again.verify().ok


def test_two_stores_do_not_share_a_folder_of_receipts(folder: Path) -> None:
    one = create(folder / "one", some(12), receipts=folder / "receipts")
    refused(lambda: create(folder / "two", receipts=folder / "receipts"), ReceiptError, "another store's receipts")
    assert not (folder / "two").exists()
    with create(folder / "two", some(3), receipts=folder / "others") as two:
        two.forget(1)
    one.forget(1)
    files = contents(folder)
    for store, receipts in (("one", "others"), ("two", "receipts")):
        refused(lambda: opened(folder / store, receipts=folder / receipts), ReceiptError, "another folder")  # noqa: B023
    assert contents(folder).keys() == files.keys()
    for name in ("one", "two"):
        with opened(folder / name) as again:
            assert again.verify().ok


def test_a_store_that_could_not_be_made_leaves_its_folder_of_receipts_to_others(folder: Path) -> None:
    (folder / "taken").write_text("a file")
    refused(lambda: create(folder / "taken" / "store", receipts=folder / "receipts"), StoreError, "taken")
    create(folder / "store", receipts=folder / "receipts").close()


def test_receipts_that_are_lost_for_good_can_be_begun_anew_within_the_store(folder: Path) -> None:
    """The newest is in the store until the next removal, and is published again."""
    with create(folder / "store", some(12), receipts=folder / "receipts") as erase:
        erase.forget(1)
        newest = erase.forget(2).receipt
    shutil.rmtree(folder / "receipts")
    with opened(folder / "store", receipts=folder / "store" / "receipts") as erase:
        assert erase.receipts() == [newest]
        erase.forget(3)
        assert [example.id for example in erase.examples()] == [0, *range(4, 12)]
        verification = erase.verify()
        assert not verification.ok
        assert not verification.detects_old_copies
        assert [problem for problem in verification.problems if "omitted" not in problem] == []


def test_what_came_in_again_while_the_receipts_were_away_goes_when_they_are_back(folder: Path) -> None:
    erase = create(folder / "store", some(12), receipts=folder / "receipts")
    erase.close()
    shutil.copytree(folder / "store", folder / "old")
    with opened(folder / "store") as erase:
        erase.ingest([example(50)])
        erase.forget([1, 50])
        erase.forget(subject="bob")
    inside = folder / "old" / "receipts"
    with opened(folder / "old", receipts=inside) as old:
        old.ingest([example(50), example(51, subject="bob"), example(52)])
    with pytest.warns(OldCopyWarning, match=" 6 examples"):
        erase = opened(folder / "old")
    with erase:
        kept = [e for e in some(12) if e.id != 1 and e.subject != "bob"]
        assert seen(erase) == fresh([*kept, example(52)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(folder / "old").close()


def test_receipts_within_the_store_are_not_named(folder: Path) -> None:
    refused(
        lambda: create(folder / "store", receipts=folder / "store" / "receipts"), ParameterError, "receipts", "outside"
    )
    assert contents(folder) == {}


# ---- what is checked before anything is done ----
@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, "5", None, True, 10**6])
def test_a_timeout_is_a_number_of_seconds(folder: Path, timeout: Any) -> None:
    refused(lambda: create(folder / "store", timeout=timeout), ParameterError, "timeout", "seconds")
    assert contents(folder) == {}
    create(folder / "store").close()
    refused(lambda: opened(folder / "store", timeout=timeout), ParameterError, "timeout", "seconds")


@pytest.mark.parametrize("absent", [np.zeros(3), np.zeros((2, 3)), [np.array([1, 2])], 7, ["abc"], [b"bytes"]])
def test_what_is_to_be_looked_for_is_checked_first(folder: Path, absent: Any) -> None:
    erase = create(folder / "store", some(5))
    refused(lambda: erase.verify(absent=absent), ParameterError)


def test_a_text_that_shares_a_paragraph_with_another_is_told_as_such(folder: Path) -> None:
    footer = " ".join(f"sentence {i} of the terms" for i in range(40))
    erase = create(folder / "store", [example(1, f"late parcel {footer}"), example(2, f"refund please {footer}")])
    gone = erase.examples()[0].input
    erase.forget(1)
    problems = erase.verify(absent=[gone]).problems
    assert problems
    assert all("128 bytes of number 1" in problem for problem in problems)
    assert all("128 bytes" not in problem for problem in erase.verify(absent=[erase.examples()[0].output]).problems)


@pytest.mark.parametrize("length", [4, 16, 127, 128, 129, 200, 255, 256, 300])
def test_a_text_that_a_page_splits_is_found(path: Path, length: int) -> None:
    """SQLite splits what does not fit a page, so that pieces of one text stand far apart."""
    words = [f"{i:07} " for i in range(1200)]
    with create(path / "aside", [example(7, "".join(words))]):
        content = b"".join(contents(path / "aside").values())
    split = 8 * next(i for i, word in enumerate(words) if word.encode() not in content)
    trace = "".join(random.Random(length).choices("ghijklmn", k=length))
    starts = range(split - length, split + 8, max(1, length // 8))
    erase = create(path / "store", some(3, 900))
    n_split = 0
    for start in starts:
        erase.ingest([example(7, ("".join(words)[:start] + trace).ljust(9600, "."))], on_forgotten="allow")
        n_split += not any(trace.encode() in each for each in contents(path / "store").values())
        assert "number 1 of the texts and vectors that should be absent, as UTF-8" in str(erase.verify(absent=[trace]))
        erase.forget(7)
        assert erase.verify(absent=[trace]).ok
    assert n_split


def test_what_is_found_bears_the_number_of_what_was_looked_for(path: Path) -> None:
    erase = create(path, some(5))
    there = erase.examples()[3]
    looked_for = ["nothing of this", there.input, WordEmbedder().embed(["nowhere at all"])[0]]
    verification = erase.verify(absent=looked_for)
    assert verification.n_absent == 3
    assert verification.problems
    assert {problem.split(" of the texts")[0].split()[-1] for problem in verification.problems} == {"2"}
    assert any("as UTF-8" in problem for problem in verification.problems)
    assert any("as its vector as float32" in problem for problem in verification.problems)


@pytest.mark.parametrize("text", ["0000", "aaaa", "------", "7" * 127, "7" * 128, "7" * 300, "1 1 "])
def test_a_text_of_one_letter_is_found(path: Path, text: str) -> None:
    erase = create(path, [*some(3), example(77, f"call {text} please"), example(78, "late", subject=text)])
    assert "number 1 of the texts and vectors that should be absent, as UTF-8" in str(erase.verify(absent=[text]))
    erase.forget([77, 78])
    # The first receipt follows one whose hash is zeros. The database keeps the newest until the next removal.
    is_in_receipt = text.encode() in contents(path / "receipts")["00000001.json"]
    apart = ("/receipts/", "examples.sqlite") if is_in_receipt else ("/receipts/",)
    problems = erase.verify(absent=[text]).problems
    assert [problem for problem in problems if not any(place in problem for place in apart)] == []


@pytest.mark.parametrize("text", ["Grüße", 'she said "no"', "two\nlines", 'Grüße:\n"no"\\', "\u2028 wide 語"])
def test_an_export_is_found_that_lies_beside(path: Path, text: str) -> None:
    erase = create(path / "store", [*some(3), example(77, text)], receipts=path / "receipts")
    erase.export(path / "receipts" / "export.jsonl")
    erase.forget(77)
    assert "export.jsonl contains number 1" in str(erase.verify(absent=[text]))
    (path / "receipts" / "export.jsonl").unlink()
    assert erase.verify(absent=[text]).ok


def test_a_vector_is_found_as_it_is_given(path: Path) -> None:
    erase = create(path, some(3))
    vector = np.random.default_rng(0).normal(size=8)
    for name, content in {
        "float64 as given": vector.tobytes(),
        "JSON as given": json.dumps(vector.tolist()).encode(),
        "float64": vector.astype(np.float32).astype(np.float64).tobytes(),
        "float32": vector.astype(np.float32).tobytes(),
    }.items():
        (path / "dump-shm").write_bytes(b"before" + content + b"after")
        assert f"dump-shm contains number 1 of the texts and vectors that should be absent, as {name}, at" in str(
            erase.verify(absent=[vector])
        )
    (path / "dump-shm").unlink()
    assert erase.verify(absent=[vector]).ok
    refused(lambda: erase.verify(absent=[np.zeros(8)]), ParameterError, "zeros")


# ---- other things in a folder of receipts ----
def test_other_files_among_the_receipts_are_left_alone(folder: Path) -> None:
    (folder / "receipts").mkdir()
    names = ("film.partial-1", "notes.json.partial-7", "1.json", "2026-copy.json.partial-7", "123456789.json.partial-1")
    mine = dict.fromkeys(names, b"mine")
    for name, content in mine.items():
        (folder / "receipts" / name).write_bytes(content)
    left = folder / "receipts" / "00000001.json.partial-4711"
    left.write_bytes(b"{")
    with create(folder / "store", some(12), receipts=folder / "receipts") as erase:
        erase.forget(1)
        assert erase.verify().ok
    opened(folder / "store").close()
    assert not left.exists()
    kept = contents(folder / "receipts")
    assert {name: kept[name] for name in mine} == mine
