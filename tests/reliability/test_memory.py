"""Memory: what the project owns of an example's vector is overwritten when it is forgotten; so is the prefix cache.

Texts, ids and the keys of examples are Python's, SQLite's and the tokenizer's: they are freed, and overwritten only
where the allocator is told to. So they are searched for in a process whose allocator is. What is found before the
removal, or in a process that holds on to it, shows that the search finds what is there. Of a key that is wrapped, what
is kept is searched for: unwrapping makes Python integers, whose digits have 30 bits.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import LETTERS
from checkout import ROOT
from erase_core.erase import Erase
from erase_core.errors import StoreError
from erase_core.store.clustering import Clustering, ModelTransaction
from erase_core.store.reads import Reads
from erase_core.store.sealing import Sealing, SealingError
from numpy.typing import NDArray
from process_memory import content, places, places_in_blocks, regions
from sealed_by_hand import KEYS, contents_of, rows_in, slots_in, store_in
from small_stores import WordEmbedder, create, example, reopened, some

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="searches /proc/*/mem")

ROWS, DIM = 120, 64
# Python's allocations are the C library's, which overwrites all that is freed.
OVERWRITING = {"PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


class Material:
    """Examples in a file, their vectors in another, masked; and how both are known again."""

    def __init__(self, folder: Path) -> None:
        rng, draws = random.Random(0), np.random.default_rng(0)
        vectors = draws.normal(size=(ROWS, DIM))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.mask = draws.integers(0, 2**32, size=(ROWS, DIM), dtype=np.uint32)
        np.save(folder / "masked.npy", self.vectors.view(np.uint32) ^ self.mask)
        np.save(folder / "mask.npy", self.mask)
        self.rows = [self._row(rng, i) for i in range(ROWS)]
        lines = [json.dumps(row) + "\n" for row in self.rows]
        (folder / "examples.jsonl").write_text("".join(lines), encoding="utf-8")

    @staticmethod
    def _row(rng: random.Random, number: int) -> dict[str, str]:
        fields = {name: "".join(rng.choices(LETTERS[:52], k=40)) for name in ("id", "input", "output", "subject")}
        return fields | {"id": f"{number:04}-{fields['id']}"}

    def texts(self, number: int) -> dict[str, bytes]:
        # Of the middle: what is freed begins with the allocator's own pointers.
        return {name: value[8:32].encode() for name, value in self.rows[number].items()}

    def fixed(self, number: int) -> NDArray[np.int16]:
        fixed: NDArray[np.int16] = np.rint(self.vectors[number].astype(np.float64) * 2**14).astype(np.int16)
        return fixed

    def numbers(self, number: int) -> dict[str, bytes]:
        vector, fixed = self.vectors[number, 4:20], self.fixed(number)[4:36]
        return {"float32": vector.tobytes(), "float64": vector.astype("<f8").tobytes(), "int16": fixed.tobytes()}

    def unmasked(self, keys: list[str]) -> list[bytes]:
        """The keys of a prefix cache, as they lie in memory."""
        masked = [np.frombuffer(bytes.fromhex(key), dtype=np.uint32) for key in keys]
        return [(key ^ self.mask[0, : len(key)]).tobytes() for key in masked]


class Process:
    """A run of memory_of_a_forget.py, which stops before and after its removal."""

    def __init__(self, folder: Path, environment: dict[str, str], **options: Any) -> None:
        program = ROOT / "tests/support/memory_of_a_forget.py"
        given = json.dumps(
            {"real": False, "model": None, "verify": False, "strategy": "kmeans", "hold": False, **options}
        )
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(folder), given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            text=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate("\n\n")
        assert self._process.returncode == 0

    def told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.told()


def count(pid: int, material: Material, going: list[int], keys: Sequence[bytes] = ()) -> Counter[str]:
    """How often each form of some examples, and some keys, lie in a process's memory."""
    counts: Counter[str] = Counter()
    for region in regions(pid):
        counts["keys"] += sum(len(places(region, key)) for key in keys)
        for number in going:
            for name, needle in {**material.texts(number), **material.numbers(number)}.items():
                counts[name] += len(places(region, needle))
            counts["int16 in blocks"] += len(places_in_blocks(region, material.fixed(number)))
    return counts


def keys_of(folder: Path, material: Material, going: list[int]) -> list[bytes]:
    """The keys of some examples of the store, which are found by trying all rows."""
    content = (folder / "store" / KEYS).read_bytes()
    keys, ids = slots_in(content), [material.rows[number]["id"].encode() for number in going]
    opened = {row.slot: contents_of(row, keys[row.slot].key, store_in(content)) for row in rows_in(_copied(folder))}
    found = [keys[slot].key for slot, contents in opened.items() if any(id_ in contents[0] for id_ in ids)]
    assert len(found) == len(going)
    return found


def _copied(folder: Path) -> Path:
    """A copy of the SQLite file, so that the process that has it open is not disturbed."""
    copies = folder / "copies"
    copies.mkdir()
    for file in (folder / "store").glob("examples.sqlite*"):
        shutil.copy(file, copies)
    return copies / "examples.sqlite"


def counted(
    process: Process,
    material: Material,
    going: list[int],
    keys: list[bytes] = [],  # noqa: B006
) -> tuple[Counter[str], Counter[str]]:
    """What a process's memory holds of examples, before it forgets them and afterwards."""
    before = count(process.pid, material, going, keys)
    process.go_on()
    after = count(process.pid, material, going, keys)
    print(dict(before), dict(after))
    return before, after


def halves(keys: list[bytes]) -> list[bytes]:
    """What is freed begins with the allocator's own pointers."""
    return [key[16:] for key in keys]


@pytest.mark.parametrize("verify", [False, True], ids=["unverified", "verified"])
def test_no_memory_holds_what_was_forgotten_where_freed_memory_is_overwritten(tmp_path: Path, verify: bool) -> None:
    material = Material(tmp_path)
    with Process(tmp_path, OVERWRITING, verify=verify) as process:
        going = process.told()["going"][:1]
        keys = halves(keys_of(tmp_path, material, going))
        before, after = counted(process, material, going, keys)
    # While it is there, its texts are in no memory either: they are sealed in SQLite's.
    assert {name for name in before if before[name]} >= {"id", "int16 in blocks"}
    assert +after == Counter()


def test_keys_and_texts_that_a_process_holds_on_to_are_found(tmp_path: Path) -> None:
    material = Material(tmp_path)
    with Process(tmp_path, OVERWRITING, hold=True) as process:
        going = process.told()["going"][:1]
        keys = halves(keys_of(tmp_path, material, going))
        before, after = counted(process, material, going, keys)
    assert set(+before) >= {"keys", "id", "input", "output", "subject", "int16 in blocks"}
    assert set(+after) == {"keys", "id", "input", "output", "subject"}


def test_the_models_rows_are_overwritten_whatever_the_allocator_does(tmp_path: Path) -> None:
    material = Material(tmp_path)
    with Process(tmp_path, {}) as process:
        going = process.told()["going"][:1]
        before, after = counted(process, material, going)
    assert before["int16 in blocks"] >= 1
    assert (after["int16 in blocks"], after["int16"]) == (0, 0)


def test_keys_of_forgotten_tokens_are_overwritten_in_the_prefix_cache(
    tmp_path: Path, folders: Callable[[str], Path]
) -> None:
    material = Material(tmp_path)
    with Process(tmp_path, {}, model=str(folders("llama"))) as process:
        told = process.told()
        keys = material.unmasked(told["keys"])
        assert len(keys) > 3
        before = b"".join(content(process.pid, start, size) for start, size in told["buffers"])
        process.go_on()
        after = b"".join(content(process.pid, start, size) for start, size in told["buffers"])
    assert all(key in before for key in keys)
    assert not any(key in after for key in keys)


@pytest.mark.slow
def test_no_memory_holds_what_was_forgotten_after_an_answer_where_freed_memory_is_overwritten(
    tmp_path: Path, folders: Callable[[str], Path]
) -> None:
    material = Material(tmp_path)
    with Process(tmp_path, OVERWRITING, verify=True, model=str(folders("llama"))) as process:
        told = process.told()
        going, keys = told["going"], material.unmasked(told["keys"])[:4]
        before, after = counted(process, material, going, keys)
    assert before["keys"] >= len(keys)
    assert +after == Counter()


# ---- arrays ----
def test_arrays_of_vectors_are_overwritten_once_they_are_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, list[NDArray[np.float32]]] = {"added": [], "read": []}
    add, read = Clustering.add, Reads.vectors

    def keeping_add(
        clustering: Clustering, tx: ModelTransaction, slots: range, ids: Any, vectors: NDArray[np.float32]
    ) -> Any:
        used["added"].append(vectors)
        return add(clustering, tx, slots, ids, vectors)

    def keeping_read(reads: Reads, *among: Any) -> Any:
        slots, ids, vectors = read(reads, *among)
        used["read"].append(vectors)
        return slots, ids, vectors

    monkeypatch.setattr(Clustering, "add", keeping_add)
    monkeypatch.setattr(Reads, "vectors", keeping_read)
    with create(path, some(12)) as erase:
        erase.forget(3)
        erase.ingest(some(3, 100))
        erase.forget(101)
        erase.ingest([example(101), example(103)], on_forgotten="skip")
        assert erase.verify().ok
    # Loaded, and then brought up to date with what another handle has changed.
    with Erase.open(path, embedder=WordEmbedder()) as erase, reopened(path) as other:
        erase.demonstrations()
        other.ingest(some(3, 200))
        other.forget(4)
        erase.demonstrations()
    left = {name: [i for i, array in enumerate(arrays) if array.any()] for name, arrays in used.items()}
    assert [len(arrays) > 1 for arrays in used.values()] == [True, True]
    assert left == {"added": [], "read": []}


def test_an_array_that_was_filled_in_part_is_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(path, some(12)).close()
    arrays, fill, open_vectors = [], Reads._filled, Sealing.open_vectors

    def keeping(reads: Reads, matrix: NDArray[np.float32], batches: Any) -> Any:
        arrays.append(matrix)
        return fill(reads, matrix, batches)

    def failing(sealing: Sealing, keys: Any, slots: Any, *args: Any) -> Any:
        open_vectors(sealing, keys, slots, *args)
        assert arrays[0].any()
        raise SealingError(slots[-1])

    monkeypatch.setattr(Reads, "_filled", keeping)
    monkeypatch.setattr(Sealing, "open_vectors", failing)
    with Erase.open(path, embedder=WordEmbedder()) as erase, pytest.raises(StoreError):
        erase.demonstrations()
    assert [array.any() for array in arrays] == [False]
