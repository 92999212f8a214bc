"""What an embedding model sees of texts: how many are longer than its limit, and which examples look the same to it.

Vectors are compared, not texts: two examples with the same vector cannot be told apart by the clustering.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from erase_core.embedding.sentence import Embedder
from erase_core.errors import EmbedderError
from erase_core.store.reads import Reads

__all__ = ["count_tokens", "indistinct", "limit_of"]

Id = int | str


def limit_of(embedder: Embedder) -> int | None:
    """Return the most tokens of a text that an embedding model sees; None if it has no limit or does not say."""
    limit = getattr(embedder, "max_tokens", None)
    counts = isinstance(limit, (int, np.integer)) and callable(getattr(embedder, "count_tokens", None))
    return int(cast("int", limit)) if counts and not isinstance(limit, bool) else None


def count_tokens(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of tokens of each text, zeros where the model has no limit or does not say.

    Raises
    ------
    EmbedderError
        What it returns are not numbers, or not as many.
    """
    if limit_of(embedder) is None:
        return np.zeros(len(texts), dtype=np.int64)
    given = embedder.count_tokens(texts)  # type: ignore[attr-defined]
    try:
        counts = np.array(given, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmbedderError(f"the embedding model {embedder.name} gave no numbers of tokens: {error}") from error
    if counts.shape != (len(texts),):
        raise EmbedderError(
            f"the embedding model {embedder.name} gave {counts.size} numbers of tokens for {len(texts)} texts"
        )
    return counts


def indistinct(reads: Reads, ids: Collection[Id]) -> list[list[Id]]:
    """Return groups of examples that have the same vector, but not the same input.

    Parameters
    ----------
    reads : Reads
    ids : collection of int or str
        One of these is in each group.

    Returns
    -------
    list of lists of ids
        All of the store's examples with that vector, by ascending id.
    """
    if not ids:
        return []
    wanted = set(ids)
    all_ids, vectors = reads.vectors()
    rows = [vector.tobytes() for vector in vectors]
    vectors.fill(0)
    seen = {row for id_, row in zip(all_ids, rows, strict=True) if id_ in wanted}
    groups: dict[bytes, list[Id]] = {}
    for id_, row in zip(all_ids, rows, strict=True):
        if row in seen:
            groups.setdefault(row, []).append(id_)
    return [group for group in groups.values() if len({each.input for each in reads.examples(group)}) > 1]
