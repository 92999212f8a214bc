"""One deletion by what people keep vectors in instead: each deletes ids one by one from an index of the same rows.

None of them keeps a clustering: their time is that of forgetting a vector, not of correcting what was learnt from it.
hnswlib only marks an entry, usearch and LanceDB leave the bytes until a compaction. LanceDB writes to a disk, the
others keep everything in memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from measure import Matrix
from numpy.typing import NDArray

Delete = Callable[[int], object]


def _faiss(X: Matrix) -> Delete:
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatL2(X.shape[1]))
    index.add_with_ids(X, np.arange(len(X)))
    return lambda id_: index.remove_ids(faiss.IDSelectorBatch(np.array([id_])))


def _hnswlib(X: Matrix) -> Delete:
    import hnswlib

    index = hnswlib.Index(space="l2", dim=X.shape[1])
    index.init_index(max_elements=len(X), ef_construction=50, M=8)
    index.add_items(X, np.arange(len(X)))
    return lambda id_: index.mark_deleted(id_)


def _usearch(X: Matrix) -> Delete:
    from usearch.index import Index

    index = Index(ndim=X.shape[1], metric="l2sq")
    index.add(np.arange(len(X)), X)
    return lambda id_: index.remove(id_)


def _chromadb(X: Matrix) -> Delete:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    collection = client.create_collection("rows", embedding_function=None)
    for part in np.array_split(np.arange(len(X)), max(1, len(X) // 2_000)):
        collection.add(ids=[str(i) for i in part], embeddings=X[part])
    return lambda id_: collection.delete(ids=[str(id_)])


def _lancedb(X: Matrix) -> Delete:
    import lancedb
    import pyarrow as pa

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
    table = lancedb.connect(tempfile.mkdtemp()).create_table(
        "rows", pa.table({"id": np.arange(len(X)), "vector": vectors})
    )
    return lambda id_: table.delete(f"id = {id_}")


STORES = {
    "faiss remove_ids": _faiss,
    "hnswlib mark_deleted": _hnswlib,
    "usearch remove": _usearch,
    "chromadb delete": _chromadb,
    "lancedb delete": _lancedb,
}


def deletions(X: Matrix, count: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Seconds of deletions by each that is installed."""
    for name, build in STORES.items():
        try:
            delete = build(X)
        except ImportError:
            print(f"| {name} is not installed |")
            continue
        times = []
        for id_ in np.random.default_rng(0).permutation(len(X))[:count].tolist():
            start = time.perf_counter()
            delete(id_)
            times.append(time.perf_counter() - start)
        yield name, np.array(times)
