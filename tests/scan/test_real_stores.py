"""Folders that vector stores really write: what was put in is found, and after a deletion whatever is still there.

What a store leaves behind is its affair. The laws are about our scan: it finds at least what a plain search of the
files' bytes finds, and nothing once the folder is empty of it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import ScanReport, scan_folder
from numpy.typing import NDArray
from scanned_folders import DIM, LETTERS, reasons, state_of

N = 300
# More than a tenth, so that lancedb's compaction rewrites the rows.
GONE = list(range(0, N, 5))


def documents(seed: int) -> tuple[list[str], NDArray[np.float32]]:
    rng = random.Random(seed)
    texts = [f"{seed}.{i} " + " ".join("".join(rng.choices(LETTERS, k=7)) for _ in range(20)) for i in range(N)]
    return texts, np.random.default_rng(seed).normal(size=(N, DIM)).astype(np.float32)


TEXTS, VECTORS = documents(1)


def bytes_left(folder: Path) -> tuple[set[int], set[int]]:
    """The numbers of deleted texts and vectors that a plain search finds whole in a file."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    texts = {n for n, i in enumerate(GONE, 1) if any(TEXTS[i].encode() in content for content in contents)}
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    forms = [[VECTORS[i].tobytes(), unit[i].tobytes()] for i in GONE]
    found = {n for n, each in enumerate(forms, 1) if any(form in content for form in each for content in contents)}
    return texts, found


def scanned(folder: Path) -> ScanReport:
    """Search for what was deleted; nothing is changed by it, and a plain search finds no more."""
    before = state_of(folder)
    report = scan_folder(folder, [TEXTS[i] for i in GONE], VECTORS[GONE])
    assert state_of(folder) == before
    texts, vectors = bytes_left(folder)
    assert texts <= set(report.numbers("text"))
    assert vectors <= set(report.numbers("vector"))
    return report


def found(report: ScanReport) -> tuple[int, int]:
    return len(report.numbers("text")), len(report.numbers("vector"))


def check_wiped(folder: Path, fill: Callable[[list[str], NDArray[np.float32]], object]) -> None:
    """In a folder with other documents nothing is found."""
    fill(*documents(2))
    report = scanned(folder)
    assert not report.found


def import_quietly(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"needs {name} (the dependency group stores)")


# ---- chroma ----
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("space", ["l2", "cosine"])
def test_chroma(space: str, tmp_path: Path) -> None:
    """SQLite with a queue of vectors, and an HNSW index, whose vectors are normalised in the space cosine."""
    chromadb = import_quietly("chromadb")

    def fill(folder: Path, texts: list[str], vectors: NDArray[np.float32]) -> Any:
        client = chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))
        options = {"hnsw:space": space, "hnsw:batch_size": 50, "hnsw:sync_threshold": 100}
        collection = client.create_collection("documents", metadata=options, embedding_function=None)
        collection.add(ids=[str(i) for i in range(N)], embeddings=vectors, documents=texts)
        return collection

    collection = fill(tmp_path / "a", TEXTS, VECTORS)
    before = scanned(tmp_path / "a")
    assert found(before) == (len(GONE), len(GONE))
    columns = {finding.place for finding in before.findings if finding.kind == "text" and finding.whole}
    assert "chroma.sqlite3 (embedding_metadata.string_value)" in columns
    assert any(each.place.endswith("data_level0.bin") and each.whole for each in before.findings)
    assert before.complete
    collection.delete(ids=[str(i) for i in GONE])
    after = scanned(tmp_path / "a")
    columns = {finding.place for finding in after.findings if finding.kind == "text"}
    assert "chroma.sqlite3 (embedding_metadata.string_value)" not in columns
    check_wiped(tmp_path / "b", lambda texts, vectors: fill(tmp_path / "b", texts, vectors))


# ---- lancedb ----
@pytest.mark.filterwarnings("ignore")
def test_lancedb(tmp_path: Path) -> None:
    """Texts may be compressed, and deleted rows stay in their files until they are compacted."""
    lancedb, pa = import_quietly("lancedb"), import_quietly("pyarrow")
    import_quietly("lance.file")

    def fill(folder: Path, texts: list[str], vectors: NDArray[np.float32]) -> Any:
        rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
        data = pa.table({"id": list(range(N)), "text": texts, "vector": rows})
        return lancedb.connect(str(folder)).create_table("documents", data=data)

    table = fill(tmp_path / "a", TEXTS, VECTORS)
    assert found(scanned(tmp_path / "a")) == (len(GONE), len(GONE))
    table.delete(f"id in ({', '.join(map(str, GONE))})")
    deleted = scanned(tmp_path / "a")
    assert found(deleted) == (len(GONE), len(GONE))  # the data file is as it was
    assert {finding.place.rpartition("(")[2] for finding in deleted.findings} >= {"column text)", "column vector)"}
    table.optimize(cleanup_older_than=timedelta(0))
    compacted = scanned(tmp_path / "a")
    assert not {finding.kind for finding in compacted.findings if "(column" in finding.place}
    assert compacted.complete
    check_wiped(tmp_path / "b", lambda texts, vectors: fill(tmp_path / "b", texts, vectors))


@pytest.mark.filterwarnings("ignore")
def test_lance_files_without_the_package_are_searched_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lancedb, pa = import_quietly("lancedb"), import_quietly("pyarrow")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), DIM)
    lancedb.connect(str(tmp_path)).create_table("documents", data=pa.table({"vector": rows}))
    monkeypatch.setitem(__import__("sys").modules, "lance.file", None)
    monkeypatch.setitem(__import__("sys").modules, "lance", None)
    report = scanned(tmp_path)
    assert found(report) == (0, len(GONE))
    assert any("pip install pylance" in reason for reason in reasons(report).values())


# ---- faiss ----
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["Flat", "IDMap,Flat", "IVF4,Flat", "HNSW8", "SQfp16"])
def test_faiss(kind: str, tmp_path: Path) -> None:
    faiss = import_quietly("faiss")

    def fill(_: list[str], vectors: NDArray[np.float32]) -> Any:
        index = faiss.index_factory(DIM, kind)
        index.train(vectors)
        if kind.startswith("IDMap"):
            index.add_with_ids(vectors, np.arange(N))
        else:
            index.add(vectors)
        faiss.write_index(index, str(tmp_path / "index.faiss"))
        return index

    index = fill(TEXTS, VECTORS)
    report = scanned(tmp_path)
    assert found(report) == (0, len(GONE))
    assert {finding.whole for finding in report.findings if "normalised" not in finding.form} == {True}
    assert report.complete is (kind != "SQfp16")
    if kind != "HNSW8":  # it cannot remove
        index.remove_ids(np.array(GONE))
        faiss.write_index(index, str(tmp_path / "index.faiss"))
        scanned(tmp_path)
    check_wiped(tmp_path, fill)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PQ8x4", "SQ8", "IVF4,PQ8x4", "PCA8,Flat", "IDMap,SQ8", "LSH"])
def test_faiss_with_codes_is_reported(kind: str, tmp_path: Path) -> None:
    """Whether a vector is there cannot be seen from its code."""
    faiss = import_quietly("faiss")
    index = faiss.index_factory(DIM, kind)
    index.train(VECTORS)
    (index.add_with_ids(VECTORS, np.arange(N)) if kind.startswith("IDMap") else index.add(VECTORS))
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    assert "codes" in reasons(scanned(tmp_path))["index.faiss"]


# ---- hnswlib ----
@pytest.mark.parametrize("space", ["l2", "cosine"])
def test_hnswlib(space: str, tmp_path: Path) -> None:
    """What is only marked as deleted is still in the file."""
    hnswlib = import_quietly("hnswlib")

    def fill(_: list[str], vectors: NDArray[np.float32]) -> Any:
        index = hnswlib.Index(space=space, dim=DIM)
        index.init_index(N)
        index.add_items(vectors, np.arange(N), num_threads=1)
        index.save_index(str(tmp_path / "index.bin"))
        return index

    index = fill(TEXTS, VECTORS)
    assert found(scanned(tmp_path)) == (0, len(GONE))
    for number in GONE:
        index.mark_deleted(number)
    index.save_index(str(tmp_path / "index.bin"))
    assert found(scanned(tmp_path)) == (0, len(GONE))
    check_wiped(tmp_path, fill)
