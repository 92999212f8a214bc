"""The search of a store's files and values: where the whole of a text is, or else a piece of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from erase_core.verify import search as module
from erase_core.verify.needles import PIECE
from erase_core.verify.search import Finding, search

LONG = random.Random(1).randbytes(1091)


@pytest.mark.parametrize("before", [0, 1, 3000, 4095, 4096, 8000])
def test_a_long_text_is_found_whole_across_the_parts_that_are_searched(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", 4096)
    file = tmp_path / "file"
    file.write_bytes(b"." * before + LONG + b"." * 5000)
    assert search([file], [{"x": b"absent"}, {"UTF-8": LONG}]) == [Finding(1, "UTF-8", str(file), before, True)]


def test_where_it_is_whole_counts_more_than_an_earlier_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 4096)
    file = tmp_path / "file"
    file.write_bytes(LONG[:PIECE] + b"." * 10_000 + LONG)
    assert search([file], [{"UTF-8": LONG}]) == [Finding(0, "UTF-8", str(file), PIECE + 10_000, True)]
    values = [("first", b"__" + LONG[PIECE : 3 * PIECE]), ("second", b"x" * 5000), ("third", b"!" + LONG)]
    assert search([], [{"UTF-8": LONG}], values) == [Finding(0, "UTF-8", "third", 1, True)]
    assert search([], [{"UTF-8": LONG}], values[:2]) == [Finding(0, "UTF-8", "first", 2, False)]


def test_what_two_values_have_between_them_is_not_found() -> None:
    text = b"half of this is in each of them"
    assert search([], [{"UTF-8": text}], [("a", text[:15]), ("b", text[15:])]) == []


def test_what_is_in_a_file_is_not_searched_in_the_values(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a known text")
    findings = search([file], [{"UTF-8": b"known", "hex": b"6b6e"}], [("a", b"known 6b6e")])
    assert findings == [Finding(0, "UTF-8", str(file), 2, True), Finding(0, "hex", "a", 6, True)]
