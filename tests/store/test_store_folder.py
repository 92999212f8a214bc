"""Handles on a store that is closed, that another folder has come before, or that was taken away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from erase_core.erase import Erase
from erase_core.errors import EraseError, StoreError
from erase_core.examples.example import Example
from small_stores import (
    QUERIES,
    WRITES,
    contents,
    create,
    found,
    fresh,
    new_path,
    refused,
    seen,
    seen_anew,
    some,
    write,
)


def test_a_closed_handle_says_so(path: Path) -> None:
    erase = create(path, some(12))
    erase.close()
    erase.close()
    reads: list[Callable[[Erase], object]] = [Erase.status, Erase.verify, Erase.examples, Erase.demonstrations]
    reads.append(lambda erase: erase.prompt(QUERIES[0]))
    for call in reads:
        refused(lambda call=call: call(erase), StoreError, "closed")  # type: ignore[misc]
    for name in WRITES:
        refused(lambda name=name: write(erase, name), StoreError, "closed")  # type: ignore[misc]
    assert seen_anew(path) == fresh(some(12))


def test_a_process_that_goes_elsewhere_keeps_its_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    erase = create(Path("store"), [*some(12), Example(50, "canary input", "yes")])
    with new_path() as other:
        other.mkdir()
        monkeypatch.chdir(other.parent)
        erase.forget(50)
        assert contents(other) == {}
        assert found(path, {"canary": b"canary input"}) == {}
        assert seen(erase) == seen_anew(path) == fresh(some(12))
        assert contents(path)["keys"]
        monkeypatch.undo()


def test_a_store_that_is_taken_away_is_an_error_or_still_there(path: Path) -> None:
    erase = create(path, some(12))
    shutil.rmtree(path)
    reads: list[Callable[[], object]] = [erase.status, erase.verify, erase.examples]
    for call in reads:
        with suppress(EraseError):
            call()
    for name in WRITES:
        with suppress(EraseError):
            write(erase, name)
