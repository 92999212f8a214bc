"""`erase report`, and the page of `erase forget --report`: files, exit codes, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import check_refused, erase, json_of
from erase_core.erase import Erase
from erase_core.erasure_report import contents
from small_stores import ONE_PROMPT, WordEmbedder, example


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of which an example is forgotten, by a subject."""
    path = tmp_path / "store"
    with Erase.create(path, **ONE_PROMPT, embedder=WordEmbedder(), receipts=tmp_path / "receipts") as made:
        made.ingest([example(i, subject=f"customer-{i % 5}") for i in range(1, 30)])
        made.forget(subject="customer-1")
    return path


def test_the_exit_code_is_of_the_verdict_and_the_page_is_written_in_any_case(store: Path, tmp_path: Path) -> None:
    cases = [("customer-1", 0, "forgotten"), ("customer-2", 1, "not forgotten"), ("customer-9", 4, "unknown")]
    for subject, code, verdict in cases:
        page = tmp_path / f"{verdict}.html"
        result = erase("report", "--subject-from", "-", "--out", page, "--json", "-s", store, input=f"{subject}\n")
        assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (code, verdict)
        assert subject not in result.stdout + result.stderr + page.read_text()
    assert "NOT forgotten" in (tmp_path / "not forgotten.html").read_text()
    # A file that something else put there is a problem.
    (store / "left").write_text("customer-1")
    result = erase("report", "--subject", "customer-1", "--out", tmp_path / "p.html", "-s", store)
    assert (result.exit_code, result.stdout.split(":")[0]) == (1, "PROBLEMS")


def test_a_request_is_named_as_for_forget(store: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("1\n6\n\n")
    (tmp_path / "subjects").write_text("customer-1\n CUSTOMER-1\n")
    for number, request in enumerate(
        [["--id", 1], ["--ids-from", tmp_path / "ids"], ["--subjects-from", tmp_path / "subjects"]]
    ):
        report = json_of("report", *request, "--out", tmp_path / f"{number}.html", "--store", store)
        assert [each["number"] for each in report["receipts"]] == [1]
    out = ["--out", tmp_path / "none.html", "--store", store]
    check_refused(erase("report", *out), 2, "report needs", "--subject-from")
    check_refused(erase("report", "--id", 1, "--subject", "a", *out), 2, "report needs")
    check_refused(erase("report", "--id", "\udc80", *out), 2, "UTF-8")
    check_refused(
        erase("report", "--subject-from", "-", "--absent-from", "-", *out, input="x"), 2, "--absent-from", "file"
    )
    assert not (tmp_path / "none.html").exists()


def test_a_file_is_replaced_only_by_force(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    request = ["report", "--id", 1, "--store", store]
    check_refused(erase(*request, "--out", page), 2, "--out", "exists already", "--force")
    assert page.read_text() == "mine"
    assert erase(*request, "--out", page, "--force").exit_code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    check_refused(erase(*request, "--out", tmp_path / "no" / "page.html"), 2, "--out", "not a folder")
    check_refused(erase(*request, "--out", tmp_path, "--force"), 2, "--out", "is a folder")


def test_other_folders_and_texts_are_searched(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "index"
    other.mkdir()
    request = ["report", "--subject", "customer-1", "--store", store]
    report = json_of(*request, "--scan", other, "--out", tmp_path / "a.html")
    assert [scan["found"] for scan in report["scans"]] == [False]
    (other / "notes").write_bytes("customer-1".encode("utf-16-le"))
    report = json_of(*request, "--scan", other, "--out", tmp_path / "b.html", "--no-picture", code=1)
    assert report["verdict"] == "problems"
    assert "<svg" not in (tmp_path / "b.html").read_text()
    # The vector of a text needs the model, which the command line does not have here.
    (tmp_path / "texts").write_text("where is my parcel?")
    result = erase(*request, "--absent-from", tmp_path / "texts", "--out", tmp_path / "c.html")
    check_refused(result, 8, "embedding model")


def test_forget_writes_the_page_with_what_only_it_knows(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = erase(
        "forget", "--subject-from", "-", "--yes", "--report", page, "--json", "-s", store, input="customer-2"
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["receipt"]["number"] == 2
    assert "report written to" in result.stderr
    assert "customer-2" not in page.read_text() + result.stderr
    assert "seconds in all" in page.read_text()
    assert "Before: 23 examples" in page.read_text()
    # Later only the cost is not known.
    assert erase("report", "--subject", "customer-2", "--out", tmp_path / "later.html", "-s", store).exit_code == 0
    later = (tmp_path / "later.html").read_text()
    assert "seconds in all" not in later
    assert "Before: 23 examples" in later


def test_nothing_is_forgotten_where_the_page_cannot_be(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    before = json_of("status", "--store", store)
    request = ["forget", "--id", 2, "--yes", "--store", store]
    check_refused(erase(*request, "--report", page), 2, "--report", "exists already")
    check_refused(erase(*request, "--report", tmp_path / "no" / "page.html"), 2, "--report", "not a folder")
    check_refused(erase("forget", "--id", 2, "--dry-run", "-s", store, "--report", tmp_path / "x"), 2, "--dry-run")
    assert json_of("status", "--store", store) == before
    assert page.read_text() == "mine"


def test_a_page_that_fails_does_not_hide_the_removal(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contents, "verify_store", fail)
    result = erase("forget", "--id", 2, "--yes", "--json", "--store", store, "--report", tmp_path / "page.html")
    assert result.exit_code == 19
    assert json.loads(result.stdout)["ids"] == [2]
    assert "the command is done" in result.stderr
    assert "erase report" in result.stderr
    monkeypatch.undo()
    assert erase("report", "--id", 2, "--out", tmp_path / "page.html", "--store", store).exit_code == 0


def test_a_removal_that_is_not_finished_has_a_page_that_says_so(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from erase_core.receipts.folder import ReceiptFolder

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ReceiptFolder, "publish", fail)
    page = tmp_path / "page.html"
    result = erase("forget", "--id", 2, "--yes", "--store", store, "--report", page)
    assert result.exit_code == 15
    assert "Removed, but a check found something" in page.read_text()


def test_what_is_skipped_has_a_page_too(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    request = ["--subject", "customer-1", "--missing", "skip", "--yes", "--store", store, "--report", page]
    assert erase("forget", *request).exit_code == 0
    assert "Forgotten" in page.read_text()
