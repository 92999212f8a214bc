"""Any folder is searched as it is, without changing it; what cannot be searched is named."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import Erase, scan_folder
from erase_core.errors import EmbedderError, ParameterError
from numpy.typing import NDArray
from scanned_folders import places, reasons, state_of, text_of, vectors_of
from small_stores import WordEmbedder, some

TEXTS, VECTORS = [text_of(number) for number in range(3)], vectors_of(1)


def test_everything_below_the_folder_is_searched_and_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / ".hidden").write_text(TEXTS[1])
    (tmp_path / "v").write_bytes(b"123" + VECTORS[3].tobytes())
    (tmp_path / "empty").touch()
    before = state_of(tmp_path)
    report = scan_folder(str(tmp_path), TEXTS, VECTORS)
    assert (places(report), places(report, "vector")) == ({2: {"a/b/.hidden"}}, {4: {"v"}})
    assert (report.n_files, report.n_texts, report.n_vectors) == (3, 3, 5)
    assert report.n_bytes == len(TEXTS[1].encode()) + 3 + VECTORS[3].nbytes
    assert report.complete
    assert state_of(tmp_path) == before


def test_a_single_file_can_be_searched(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXTS[0])
    assert places(scan_folder(tmp_path / "a.txt", TEXTS[0])) == {1: {"a.txt"}}


def test_names_of_files_and_folders_are_searched(tmp_path: Path) -> None:
    (tmp_path / "letters of Zoë Smith").mkdir()
    (tmp_path / "letters of Zoë Smith" / "a").touch()
    (tmp_path / "link to Ann Jones").symlink_to("nowhere")
    report = scan_folder(tmp_path, ["Zoë Smith", "Ann Jones", "Bob Brown"])
    assert report.numbers("text") == [1, 2]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """One that leads out of the folder is named; others lead to what is searched anyway, or nowhere."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "a").write_text(TEXTS[0])
    (folder / "own").write_text(TEXTS[1])
    targets: dict[str, str | Path] = {"file": outside / "a", "folder": outside, "up": "..", "in": "own", "gone": "no"}
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    (folder / "loop").symlink_to("loop")
    report = scan_folder(folder, TEXTS)
    assert places(report) == {2: {"own"}}
    assert set(reasons(report)) == {"file", "folder", "up"}
    assert all("link out of the folder" in reason for reason in reasons(report).values())


def test_a_folder_may_be_named_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text(TEXTS[0])
    (tmp_path / "real" / "b").symlink_to("a")
    (tmp_path / "link").symlink_to("real")
    report = scan_folder(tmp_path / "link", TEXTS)
    assert report.numbers("text") == [1]
    assert report.complete


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(TEXTS[0])
    (tmp_path / "folder").mkdir()
    (tmp_path / "open").write_text(TEXTS[1])
    for name in ("file", "folder"):
        (tmp_path / name).chmod(0)
    try:
        report = scan_folder(tmp_path, TEXTS)
    finally:
        (tmp_path / "folder").chmod(0o700)
    assert set(reasons(report)) == {"file", "folder"}
    assert report.numbers("text") == [2]


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read it, and for a bad disk."""
    (tmp_path / "bad").write_text(TEXTS[0])
    (tmp_path / "good").write_text(TEXTS[1])
    bad = (tmp_path / "bad").stat().st_ino
    preadv = os.preadv

    def failing(descriptor: int, buffers: Any, offset: int) -> int:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    report = scan_folder(tmp_path, TEXTS)
    assert reasons(report) == {"bad": "cannot be read: Input/output error."}
    assert report.numbers("text") == [2]


def test_a_pipe_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in reasons(scan_folder(tmp_path, TEXTS))["pipe"]


FOREIGN = {
    "a.7z": (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    "a.rar": (b"Rar!\x1a\x07\x01\x00", "RAR"),
    "a.lz4": (b"\x04\x22\x4d\x18", "LZ4"),
    "a.pdf": (b"%PDF-1.7", "PDF"),
    "a.parquet": (b"PARE", "encrypted"),
    "a.gpg": (b"-----BEGIN PGP MESSAGE-----", "PGP"),
    "a.duckdb": (b"checksumDUCK", "DuckDB"),
    "a.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
}


def test_kinds_that_are_not_known_are_named(tmp_path: Path) -> None:
    for name, (head, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(head + bytes(99))
    (tmp_path / "b.sst").write_bytes(bytes(99) + bytes.fromhex("f7cff485b741e288"))
    (tmp_path / "unknown").write_bytes(random.Random(1).randbytes(5000))
    report = scan_folder(tmp_path, TEXTS)
    found = reasons(report)
    assert {name for name, (_, word) in FOREIGN.items() if word in found[name]} == set(FOREIGN)
    assert "RocksDB" in found["b.sst"]
    assert "compressed or encrypted" in found["unknown"]
    assert len(found) == len(FOREIGN) + 2
    assert "NOT complete: 10 places could not be looked into" in str(report)


@pytest.mark.parametrize(("outer", "inner", "is_flat"), [
    (None, b"IxF2", True), (None, b"IwFl", True), (None, b"IxPq", False), (None, b"IxSQ", False),
    (b"IxMp", b"IxFI", True), (b"IxMp", b"IxPq", False), (b"IxM2", b"IxPT", False),
])  # fmt: skip
def test_codes_of_faiss_are_named(outer: bytes | None, inner: bytes, is_flat: bool, tmp_path: Path) -> None:
    """Its header has dimension, number, two constants, whether it is trained, and the metric."""
    header = struct.pack("<i3qBi", 48, 9, 2**20, 2**20, 1, 1)
    kinds = [inner] if outer is None else [outer, inner]
    (tmp_path / "i").write_bytes(b"".join(kind + header for kind in kinds) + VECTORS[0].tobytes())
    report = scan_folder(tmp_path, vectors=VECTORS)
    assert report.numbers("vector") == [1]
    assert report.complete is is_flat


# ---- vectors of texts ----
def test_vectors_of_texts_are_searched_for_with_an_embedding_model(tmp_path: Path) -> None:
    embedder = WordEmbedder()
    (tmp_path / "v").write_bytes(b"1" + embedder.embed([TEXTS[2]])[0].tobytes())
    without, with_ = scan_folder(tmp_path, TEXTS), scan_folder(tmp_path, TEXTS, embedder=embedder)
    assert (without.found, without.n_embeddings, without.embedder) == (False, 0, None)
    assert "only the texts were searched for" in str(without)
    assert (with_.numbers("embedding"), with_.numbers("text")) == ([3], [])
    assert (with_.n_embeddings, with_.embedder) == (3, embedder.name)
    assert "only the texts" not in str(with_)


def test_a_model_that_returns_no_vectors_is_refused(tmp_path: Path) -> None:
    class Bad(WordEmbedder):
        def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
            return super().embed(texts)[:, :3]

    with pytest.raises(EmbedderError, match="shape"):
        scan_folder(tmp_path, TEXTS, embedder=Bad())


# ---- our own store ----
def test_a_store_that_is_open_here_can_be_searched(path: Path) -> None:
    """Its sealed rows look encrypted, and the scan does not end the locks of this process."""
    embedder = WordEmbedder(dim=32)
    with Erase.create(path, embedder=embedder, n_shots=3) as erase:
        erase.ingest(some(40))
        report = scan_folder(path, [example.input for example in erase.examples()], embedder=embedder)
        assert not report.found
        assert any("examples.vector" in place for place in reasons(report))
        erase.forget(3)
        assert erase.verify().ok


# ---- arguments and the report ----
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "nothing to search for"),
        ({"absent": []}, "nothing to search for"),
        ({"absent": "abc"}, "at least 4 bytes"),
        ({"absent": [b"bytes"]}, "absent must be text"),
        ({"vectors": np.zeros((1, 8))}, "zeros"),
        ({"vectors": ["text"]}, "vectors must be arrays"),
        ({"vectors": np.ones((2, 3, 4))}, "dimensions"),
        ({"vectors": np.ones((2, 8), int)}, "int"),
        ({"vectors": [np.full(8, np.nan)]}, "NaN"),
        ({"folder": "nowhere", "absent": "a text"}, "existing folder or file"),
        ({"folder": 3, "absent": "a text"}, "folder must be a path"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=words):
        scan_folder(**{"folder": tmp_path, **arguments})


def test_the_report_has_no_texts_and_converts_to_json(tmp_path: Path) -> None:
    """It may be kept longer than what was searched for."""
    (tmp_path / "a").write_text(TEXTS[1])
    (tmp_path / "b").write_bytes(b"7z\xbc\xaf\x27\x1c")
    report = scan_folder(tmp_path, TEXTS, VECTORS)
    shown = str(report)
    assert not [text for text in TEXTS if text in shown or text in repr(report.to_dict())]
    assert shown.startswith(f"FOUND in {tmp_path}: 1 of 3 texts, 0 of 5 vectors (2 files")
    assert "a: 1 text (number 2), as UTF-8; first at byte 0" in shown.splitlines()
    assert {"found": True, "complete": False, "n_texts": 3}.items() <= report.to_dict().items()
    assert report.to_dict()["findings"][0] == {
        "kind": "text", "number": 2, "form": "UTF-8", "place": "a", "offset": 0, "whole": True,
    }  # fmt: skip


def test_a_part_of_a_text_is_reported_as_a_part(tmp_path: Path) -> None:
    long = text_of(5, 60)
    (tmp_path / "a").write_text(long[:400])
    report = scan_folder(tmp_path, long)
    assert report.found
    assert "(number 1, 1 only in part)" in str(report)
