"""`erase forget`: ids and subjects, where they come from, and what is shown of a removal that is not finished."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import answered, check_refused, erase, json_of
from erase_core.erase import Erase
from small_stores import ONE_PROMPT, WordEmbedder, example


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A store with integers as ids, and receipts beside it."""
    with Erase.create(
        tmp_path / "numbered",
        **ONE_PROMPT,
        embedder=WordEmbedder(),
        receipts=tmp_path / "receipts",
    ) as made:
        made.ingest([example(i, subject=f"s{i % 5}") for i in range(30)])
    return tmp_path / "numbered"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A store with text as ids, one of them with a separator of lines that is none here."""
    with Erase.create(tmp_path / "text", **ONE_PROMPT, embedder=WordEmbedder()) as made:
        made.ingest([example(id_) for id_ in ("t-0001", "t-0002", "7", "7\u20288")])
    return tmp_path / "text"


@pytest.mark.parametrize(("given", "meant"), [("7", 7), ("-1", None), ("007", None), ("9" * 30, None), ("x", None)])
def test_ids_are_integers_where_the_stores_are(numbered: Path, given: str, meant: int | None) -> None:
    result = erase("forget", "--id", given, "--yes", "--json", "--store", numbered)
    if meant is None:
        check_refused(result, 4, given)
    else:
        assert json.loads(result.stdout)["ids"] == [meant]


def test_ids_are_text_where_the_stores_are(text: Path) -> None:
    assert json_of("forget", "--id", "7", "--yes", "--store", text)["ids"] == ["7"]


def test_ids_come_from_a_file_or_standard_input(text: Path, numbered: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(b"\xef\xbb\xbft-0002\r\n\r\n7\xe2\x80\xa88\r\n")
    report = json_of("forget", "--id", "t-0001", "--ids-from", tmp_path / "ids", "--yes", "--store", text)
    assert report["ids"] == ["t-0001", "t-0002", "7\u20288"]
    result = erase("forget", "--ids-from", "-", "--yes", "--json", "--store", numbered, input="7\n \n8")
    assert json.loads(result.stdout)["ids"] == [7, 8]
    check_refused(erase("forget", "--ids-from", "-", "--yes", "-s", text, input=b"\xfc\n"), 2, "--ids-from", "UTF-8")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_subject_comes_from_a_file_or_standard_input(numbered: Path, tmp_path: Path, end: str) -> None:
    (tmp_path / "subject").write_bytes(f"s1{end}".encode())
    plan = json_of("forget", "--subject-from", tmp_path / "subject", "--dry-run", "--store", numbered)
    assert plan["ids"] == list(range(1, 30, 5))
    result = erase("forget", "--subject-from", "-", "--yes", "--json", "--store", numbered, input=f"s1{end}")
    assert json.loads(result.stdout)["ids"] == plan["ids"]
    check_refused(erase("forget", "--subject-from", tmp_path / "subject", "--yes", "-s", numbered), 4, "s1")


def test_nobody_is_asked_whose_terminal_is_the_input(text: Path) -> None:
    code, said, printed = answered("", "forget", "--ids-from", "-", "--store", text)
    assert (code, printed) == (2, "")
    assert "--yes" in said


def test_what_depends_on_the_question_is_not_listed_as_a_change(tmp_path: Path) -> None:
    with Erase.create(tmp_path / "store", strategy="knn", embedder=WordEmbedder()) as made:
        made.ingest([example(i) for i in range(10)])
    result = erase("forget", "--id", 3, "--yes", "--store", tmp_path / "store")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["1", "receipt", "ids"]
    assert "depend on the query" in result.stdout


def test_the_help_says_that_old_copies_are_brought_up_to_date() -> None:
    assert "from before a removal" in " ".join(erase("--help").stdout.split())
    assert "old copy" in " ".join(erase("forget", "--help").stdout.split())


def test_what_counts_is_shown_though_the_receipt_cannot_be_published(numbered: Path) -> None:
    # In the place of the file that this process writes the receipt to.
    in_the_way = numbered.parent / "receipts" / f"00000001.json.partial-{os.getpid()}"
    in_the_way.mkdir()
    result = erase("forget", "--id", 1, "--yes", "--store", numbered)
    assert result.exit_code == 15
    assert result.stderr.startswith("error: ")
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    report = json_of("forget", "--id", 2, "--yes", "--store", numbered, code=15)
    assert (shown["ids"], report["ids"], report["receipt"]["number"]) == ("1", [2], 2)

    status = erase("status", "--store", numbered)
    assert (status.exit_code, status.stderr[:6]) == (0, "note: ")
    left = "removals         not finished; the next command finishes them"
    assert left in status.stdout.splitlines()
    listed = erase("receipts", "list", "--store", numbered)
    assert (listed.exit_code, listed.stdout) == (0, "no receipts\n")
    assert "note: the newest receipt, 2, is not published yet" in listed.stderr

    in_the_way.rmdir()
    status = erase("status", "--store", numbered)
    assert (status.stderr, left in status.stdout) == ("", False)
    first, second = json_of("receipts", "list", "--store", numbered)["receipts"]
    assert (f"1:{first['hash']}", second["hash"]) == (shown["receipt"], report["receipt"]["hash"])
