"""Residue: no file of a store holds what was forgotten, neither its texts nor its id nor its vector."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.errors import DuplicateIdError, ExampleError, ScrubError
from erase_core.examples import Example
from erase_core.pipeline import Erase
from erase_core.schema import FILE
from erase_core.settings import Settings
from erase_core.store import Store
from small_stores import WordEmbedder, check_refused, create, example, found, reopened, seen, some


def canaries(gone: Example, embedder: WordEmbedder) -> dict[str, bytes]:
    """Everything that tells of an example, as it stands in a file."""
    texts = {"id": str(gone.id), "input": gone.input, "output": gone.output}
    texts |= {"rationale": gone.rationale or "", "subject": gone.subject or ""}
    return {name: text.encode() for name, text in texts.items()} | {"vector": embedder.embed([gone.input])[0].tobytes()}


@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
@pytest.mark.parametrize("way", ["id", "subject", "with others", "all"])
def test_no_file_holds_what_was_forgotten(path: Path, strategy: Any, way: str) -> None:
    gone = Example("canary-id", "canary input tweets", "canary output", "canary reason", "canary-subject")
    others = [Example(f"row-{i}", f"{i} parcels late", "yes", None, f"subject {i}") for i in range(40)]
    erase = create(path, [*others[:20], gone, *others[20:]], strategy=strategy)
    reader = reopened(path)
    needles = canaries(gone, WordEmbedder())
    assert seen(reader) == seen(erase)
    assert set(found(path, needles)) == set(needles), "the search does not find what is there"
    assert any("-wal" in file for file in found(path, needles)["input"])
    ids: dict[str, list[str]] = {"with others": ["row-3", "canary-id"], "all": [e.id for e in erase.examples()]}  # type: ignore[misc]
    erase.forget(subject="canary-subject") if way == "subject" else erase.forget(ids.get(way, "canary-id"))
    assert found(path, needles) == {}
    assert seen(reader) == seen(erase)
    reader.close()
    erase.close()
    assert found(path, needles) == {}


def test_a_removal_that_a_reader_held_up_is_scrubbed_when_the_store_is_opened_again(path: Path) -> None:
    gone = Example("canary-id", "canary input tweets", "canary output", "canary reason", "canary-subject")
    erase = create(path, [gone, *(Example(f"row-{i}", f"{i} parcels late", "yes") for i in range(40))])
    needles = canaries(gone, WordEmbedder())
    reader = sqlite3.connect(path / FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM examples").fetchone()
    erase._store.timeout = 0.2
    with pytest.raises(ScrubError, match="the removal is done"):
        erase.forget("canary-id")
    assert "canary-id" not in [example.id for example in erase.examples()]
    assert found(path, needles), "nothing was held up"
    assert not erase.status().scrubbed
    assert not erase.verify().ok
    erase.close()
    reader.close()
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        assert found(path, needles) == {}
        assert erase.verify().ok


def test_an_ingest_that_failed_leaves_nothing_behind(path: Path) -> None:
    erase = create(path, some(10))
    bad = Example(50, "canary input", "canary output", None, "canary-subject")
    check_refused(erase, lambda: erase.ingest([bad, example(3)]), DuplicateIdError)
    check_refused(erase, lambda: erase.ingest([bad, {"id": 51, "input": "", "output": ""}]), ExampleError)
    assert found(path, {"canary": b"canary"}) == {}


def test_no_file_holds_what_was_forgotten_after_much_coming_and_going(path: Path) -> None:
    rng, store = random.Random(0), Store.create(path, Settings(), "words", 8)

    def text(most: int) -> str:
        return "".join(rng.choices("abcdefghijklmnop", k=rng.randrange(12, most)))

    for _ in range(6):
        rows = [Example(text(400), text(50), "yes", None, text(400)) for _ in range(150)]
        for start in range(0, len(rows), 50):
            with store.writing():
                store.insert(rows[start : start + 50], np.zeros((50, 8), np.float32))
        rng.shuffle(rows)
        for row in rows:
            with store.writing():
                store.delete([str(row.id)])
            store.scrub()
            assert found(path, {"id": str(row.id).encode(), "input": row.input.encode()}) == {}
