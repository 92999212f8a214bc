"""`erase scan`: its options, its exit codes, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import check_refused, erase, json_of, needs_embedder, shell
from erase_core import SentenceEmbedder
from scanned_folders import state_of, text_of, vectors_of

TEXT, OTHER, VECTORS = text_of(1), text_of(2), vectors_of(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a text and a vector at odd offsets."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes").write_bytes(b"..." + TEXT.encode())
    (folder / "index").write_bytes(b"12345" + VECTORS[3].tobytes())
    return folder


def test_what_is_found_is_printed_and_ends_with_1(folder: Path) -> None:
    before = state_of(folder)
    result = erase("scan", folder, "--absent", OTHER, "--absent", TEXT)
    assert (result.exit_code, result.stderr) == (1, "")
    first, *lines = result.stdout.splitlines()
    assert first.startswith(f"FOUND in {folder}: 1 of 2 texts")
    assert "notes: 1 text (number 2), as UTF-8; first at byte 3" in lines
    assert TEXT not in result.stdout
    assert state_of(folder) == before


def test_nothing_found_ends_with_0(folder: Path) -> None:
    result = erase("scan", folder, "--absent", OTHER)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"not found in {folder}: 0 of 1 text")
    assert "only the texts were searched for" in result.stdout


def test_what_could_not_be_looked_into_is_a_note_of_its_own(folder: Path) -> None:
    """Beside the result, which it does not change."""
    (folder / "packed.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    result = erase("scan", folder, "--absent", OTHER)
    assert result.exit_code == 0
    assert result.stderr == "note: 1 place could not be looked into, and may contain anything\n"
    assert "NOT complete: 1 place could not be looked into:\npacked.7z: is a 7-Zip archive" in result.stdout
    assert erase("scan", folder, "--absent", TEXT).exit_code == 1


@pytest.mark.parametrize("text", [TEXT, OTHER])
def test_texts_come_from_a_file_or_from_standard_input(text: str, folder: Path, tmp_path: Path) -> None:
    """So that no personal data is on the command line."""
    (tmp_path / "gone.txt").write_text(f"\n{text}\r\n\nnot in it\n")
    by_file = shell("scan", folder, "--absent-from", tmp_path / "gone.txt")
    by_stdin = shell("scan", folder, "--absent-from", "-", input=f"{text}\nnot in it\n")
    assert by_file.returncode == by_stdin.returncode == (1 if text == TEXT else 0)
    assert "of 2 texts" in by_file.stdout
    assert "of 2 texts" in by_stdin.stdout


@pytest.mark.parametrize("given", [VECTORS, VECTORS[3], VECTORS.astype(np.float64), np.asfortranarray(VECTORS)])
def test_vectors_come_from_a_file(given: Any, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", given)
    found = json_of("scan", folder, "--vectors", tmp_path / "v.npy", code=1)
    assert {(each["kind"], each["number"], each["place"], each["offset"]) for each in found["findings"]} == {
        ("vector", 1 if given.ndim == 1 else 4, "index", 5)
    }


def test_json_has_the_whole_report(folder: Path) -> None:
    found = json_of("scan", folder, "--absent", TEXT, code=1)
    assert (found["found"], found["complete"], found["n_texts"], found["n_files"]) == (True, True, 1, 2)
    assert found["findings"][0]["place"] == "notes"
    assert not json_of("scan", folder, "--absent", OTHER)["found"]
    assert TEXT not in json.dumps(found)


@needs_embedder
def test_vectors_of_texts_are_searched_for_by_the_packaged_model(folder: Path) -> None:
    (folder / "vector").write_bytes(b"1" + SentenceEmbedder().embed([OTHER])[0].tobytes())
    found = json_of("scan", folder, "--absent", OTHER, "--embedder", "packaged", code=1)
    assert {(each["kind"], each["number"]) for each in found["findings"]} == {("embedding", 1)}
    assert found["embedder"].startswith("all-MiniLM-L6-v2")


def test_wrong_usage_is_refused(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ints.npy", np.ones((2, 3), int))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "good.npy", VECTORS)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "short.txt").write_text("a long line\nabc\n")
    check_refused(erase("scan", folder), 2, "--absent, --absent-from or --vectors")
    check_refused(erase("scan", tmp_path / "nowhere", "--absent", TEXT), 2, "existing folder or file", "nowhere")
    check_refused(erase("scan", folder, "--absent", "abc"), 2, "at least 4 bytes")
    check_refused(erase("scan", folder, "--absent-from", tmp_path / "short.txt"), 2, "line 2")
    check_refused(erase("scan", folder, "--vectors", tmp_path / "no.npy"), 2, "no.npy", "No such file")
    check_refused(erase("scan", folder, "--vectors", tmp_path / "text.npy"), 2, "not a .npy file")
    check_refused(erase("scan", folder, "--vectors", tmp_path / "objects.npy"), 2, "not a .npy file")
    check_refused(erase("scan", folder, "--vectors", tmp_path / "ints.npy"), 2, "array of floats", "int64")
    check_refused(erase("scan", folder, "--vectors", tmp_path / "good.npy", "--embedder", "packaged"), 2, "--embedder")
    assert erase("scan").exit_code == 2
