"""What people keep vectors and texts in instead, each in a folder, with the deletion that its documentation shows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import Matrix

PART = 2_000


@dataclass
class Peer:
    """A store of vectors and texts: how to delete a row, and how to close it."""

    delete: Callable[[int], object]
    close: Callable[[], object] = lambda: None


def _sqlite(folder: Path, rows: Matrix, texts: Sequence[str]) -> sqlite3.Connection:
    db = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT, vector BLOB)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO rows VALUES (?, ?, ?)", ((i, texts[i], rows[i].tobytes()) for i in range(len(rows))))
    db.execute("COMMIT")
    return db


def plain_sqlite(folder: Path, rows: Matrix, texts: Sequence[str]) -> Peer:
    """A row of SQLite is deleted."""
    db = _sqlite(folder, rows, texts)
    return Peer(lambda id_: db.execute("DELETE FROM rows WHERE id = ?", (id_,)), db.close)


def vacuumed_sqlite(folder: Path, rows: Matrix, texts: Sequence[str]) -> Peer:
    """A row of SQLite is deleted, the file rewritten and the log cut."""
    db = _sqlite(folder, rows, texts)

    def delete(id_: int) -> None:
        db.execute("DELETE FROM rows WHERE id = ?", (id_,))
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    return Peer(delete, db.close)


def chroma(folder: Path, rows: Matrix, texts: Sequence[str]) -> Peer:
    """ChromaDB's collection.delete."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    collection = client.create_collection("rows", embedding_function=None)
    for part in np.array_split(np.arange(len(rows)), max(1, len(rows) // PART)):
        names = [str(i) for i in part]
        collection.add(ids=names, embeddings=rows[part], documents=[texts[i] for i in part])
    return Peer(lambda id_: collection.delete(ids=[str(id_)]))


def _lance(folder: Path, rows: Matrix, texts: Sequence[str]) -> Any:
    import lancedb
    import pyarrow as pa

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    columns = {"id": np.arange(len(rows)), "text": list(texts), "vector": vectors}
    return lancedb.connect(folder).create_table("rows", pa.table(columns))


def lance(folder: Path, rows: Matrix, texts: Sequence[str]) -> Peer:
    """LanceDB's table.delete."""
    made = _lance(folder, rows, texts)
    return Peer(lambda id_: made.delete(f"id = {id_}"))


def compacted_lance(folder: Path, rows: Matrix, texts: Sequence[str]) -> Peer:
    """LanceDB's table.delete, and table.optimize that drops all older versions."""
    from datetime import timedelta

    made = _lance(folder, rows, texts)

    def delete(id_: int) -> None:
        made.delete(f"id = {id_}")
        made.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    return Peer(delete)


def qdrant(folder: Path, rows: Matrix, texts: Sequence[str]) -> Peer:
    """qdrant-client's local mode."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder))
    parameters = models.VectorParams(size=rows.shape[1], distance=models.Distance.COSINE)
    client.create_collection("rows", vectors_config=parameters)
    for part in np.array_split(np.arange(len(rows)), max(1, len(rows) // PART)):
        points = [models.PointStruct(id=int(i), vector=rows[i].tolist(), payload={"text": texts[i]}) for i in part]
        client.upsert("rows", points)
    return Peer(lambda id_: client.delete("rows", models.PointIdsList(points=[id_])), client.close)


PEERS: dict[str, Callable[[Path, Matrix, Sequence[str]], Peer]] = {
    "SQLite: DELETE": plain_sqlite,
    "SQLite: DELETE, VACUUM": vacuumed_sqlite,
    "chromadb: delete": chroma,
    "lancedb: delete": lance,
    "lancedb: delete, optimize": compacted_lance,
    "qdrant-client (local): delete": qdrant,
}
