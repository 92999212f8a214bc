"""Examples that are known again wherever a part of them lies, the search for them in bytes, a store with such examples.

It shares no code with erase_core.verify.scan. What is looked for are pieces of 16 bytes in every encoding, since a
database splits what is long and overwrites some of what is deleted. Texts are random, so that no piece is found by
chance.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from erase_core.erase import Erase
from erase_core.examples.example import Example
from numpy.typing import NDArray
from small_stores import WordEmbedder

Found = set[tuple[str, str, str]]

# Beyond ASCII too, so that escapes are not what they escape.
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüß€漢字😀"
PIECE = 16
WORD = 8
TABLE_BITS = 24
# Of a store, so that it does not grow without end.
MOST = 150
SPREAD = np.uint64(0x9E3779B97F4A7C15)


def text(rng: random.Random, length: int) -> str:
    """Random words, of so many characters in all."""
    return " ".join("".join(rng.choices(LETTERS, k=19)) for _ in range(max(1, length // 20)))


def canary(rng: random.Random, *, numbered: bool = False, length: int | None = None) -> Example:
    """A random example: short in most cases, or of many pages."""
    id_: int | str = rng.getrandbits(62) | 1 << 61 if numbered else "".join(rng.choices(LETTERS[:52], k=24))
    length = rng.choice((30, 60, 100, 300, 300, 8000)) if length is None else length
    rationale = text(rng, rng.choice((40, 5000))) if rng.random() < 0.3 else None
    return Example(id_, text(rng, length), text(rng, 30), rationale, text(rng, 40) if rng.random() < 0.5 else None)


# ---- how it may be written ----
def forms(example: Example, embedder: WordEmbedder, axes: Sequence[int] = ()) -> Iterator[tuple[str, bytes]]:
    """Every field of an example in every encoding, by names; some of a vector's components too, if any are named."""
    fields = {"input": example.input, "output": example.output, "rationale": example.rationale}
    for name, value in {**fields, "subject": example.subject, "id": str(example.id)}.items():
        if value is not None:
            yield from ((f"{name} in {form}", content) for form, content in text_forms(value))
    if isinstance(example.id, int):
        yield "id in 8 bytes", example.id.to_bytes(8, "little")
        yield "id in 8 bytes, big-endian", example.id.to_bytes(8, "big")
    vector = embedder.embed([example.input])[0]
    yield from ((f"vector in {form}", content) for form, content in vector_forms(vector))
    if axes:
        yield "vector in fixed point, projected", dict(vector_forms(vector[list(axes)]))["fixed point"]


def text_forms(value: str) -> Iterator[tuple[str, bytes]]:
    plain = value.encode()
    yield "UTF-8", plain
    yield "UTF-16", value.encode("utf-16-le")
    yield "UTF-16, big-endian", value.encode("utf-16-be")
    yield "JSON", json.dumps(value)[1:-1].encode()
    yield "hex", plain.hex().encode()
    yield from base64_forms(plain)


def vector_forms(vector: NDArray[np.float32]) -> Iterator[tuple[str, bytes]]:
    numbers = [float(x) for x in vector]
    yield "float32", vector.astype("<f4").tobytes()
    yield "float32, big-endian", vector.astype(">f4").tobytes()
    yield "float64", vector.astype("<f8").tobytes()
    yield "float16", vector.astype("<f2").tobytes()
    yield "fixed point", np.array([round(x * 2**14) for x in numbers], "<i2").tobytes()
    yield "hex", vector.astype("<f4").tobytes().hex().encode()
    yield "JSON", json.dumps(numbers)[1:-1].encode()
    yield "compact JSON", json.dumps(numbers, separators=(",", ":"))[1:-1].encode()
    yield from base64_forms(vector.astype("<f4").tobytes())


def base64_forms(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What base64 makes of the content after none, one and two other bytes, without the signs that mix both."""
    for before in range(3):
        whole = content[(3 - before) % 3 :]
        yield f"base64, {before} after a multiple of 3", base64.b64encode(whole[: len(whole) // 3 * 3])


# ---- where it is ----
class Search:
    """A search for all pieces of some things at once."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, list[tuple[bytes, str, str]]] = {}
        self._may_be = np.zeros(2**TABLE_BITS, dtype=np.bool_)

    def add(self, id_: str, forms: Iterable[tuple[str, bytes]]) -> None:
        """Look for something in these forms, each with its name."""
        for name, content in forms:
            step = WORD if len(content) < 512 else 4 * WORD
            for start in range(0, max(1, len(content) - PIECE + 1), step):
                piece = content[start : start + PIECE]
                assert len(piece) >= WORD, name
                self._pieces.setdefault(piece[:WORD], []).append((piece, id_, name))
                self._may_be[_places(np.frombuffer(piece, "<u8", count=1))] = True

    def of_bytes(self, content: bytes, file: str = "") -> Found:
        """What is found, as triples of an id, what of it, and the file."""
        found: Found = set()
        for shift in range(min(WORD, len(content))):
            words = np.frombuffer(content, "<u8", offset=shift, count=(len(content) - shift) // WORD)
            for place in np.flatnonzero(self._may_be[_places(words)]).tolist():
                at = shift + WORD * place
                for piece, id_, name in self._pieces.get(content[at : at + WORD], ()):
                    if content.startswith(piece, at):
                        found.add((id_, name, file))
        return found

    def of_folders(self, *folders: Path) -> Found:
        """What is found in any file, or in the name of one."""
        found: Found = set()
        for folder in folders:
            for file in sorted(folder.rglob("*")):
                found |= self.of_bytes(file.name.encode(), "a file's name")
                if file.is_file():
                    found |= self.of_bytes(_content(file), file.name)
        return found


def _places(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (words * SPREAD) >> np.uint64(64 - TABLE_BITS)


def _content(file: Path) -> bytes:
    if ".sqlite" not in file.name:
        return file.read_bytes()
    # Read by another process: by closing the file this one would end its locks on it, SQLite's among them.
    return subprocess.run(["cat", str(file)], stdout=subprocess.PIPE, check=True).stdout


def names(found: Iterable[tuple[str, str, str]]) -> set[str]:
    """What of canaries was found, whichever they are."""
    return {name for _, name, _ in found}


# ---- a store where they come and go ----
class Script:
    """A store to which random examples come and go; whatever has gone is searched for.

    Its receipts lie outside. Projected rows are some of a vector's components, so that they can be looked for too.
    """

    def __init__(
        self, folder: Path, seed: int, strategy: Any = "kmeans", projected: bool = False, dim: int = 32
    ) -> None:
        self.rng = random.Random(seed)
        self.path, self.receipts, self.embedder = folder / "store", folder / "receipts", WordEmbedder(dim=dim)
        self.axes = self.rng.sample(range(32), 16) if projected else []
        self.numbered = self.rng.random() < 0.5
        self.present: list[Example] = []
        self.gone = Search(self.embedder, self.axes)
        self.counts: Counter[str] = Counter()
        axes = np.eye(32)[self.axes] if projected else None
        options: dict[str, Any] = {"strategy": strategy, "n_shots": 4, "projection": axes, "receipts": self.receipts}
        self.erase = Erase.create(self.path, embedder=self.embedder, **options)

    def reopen(self) -> None:
        self.erase.close()
        self.erase = Erase.open(self.path, embedder=self.embedder)

    def ingest(self, most: int = 12) -> None:
        coming = [canary(self.rng, numbered=self.numbered) for _ in range(self.rng.randint(1, most))]
        self.erase.ingest(coming)
        self.present += coming
        self.counts["ingested"] += len(coming)

    def draw(self) -> list[Example]:
        """Choose what is to go: one, some, or rarely all."""
        most = len(self.present)
        count = most if self.rng.random() < 0.03 else min(most, self.rng.choice((1, 1, 1, 2, 5, 20)))
        return self.rng.sample(self.present, count)

    def has_gone(self, going: list[Example]) -> None:
        for gone in going:
            self.gone.add(gone)
        self.present = [row for row in self.present if row not in going]
        self.counts["forgotten"] += len(going)
        self.counts["removals"] += 1

    def forget(self) -> None:
        going = self.draw()
        if len(going) == 1 and going[0].subject is not None:
            self.erase.forget(subject=going[0].subject)
        else:
            self.erase.forget([example.id for example in going])
        self.has_gone(going)

    def disturb(self) -> None:
        """Do something that leaves files of its own behind, or takes some away."""
        match self.rng.randrange(6):
            case 0:
                (self.path / "model.qkm").unlink(missing_ok=True)
            case 1:
                self.reopen()
            case 2:
                self.erase.prompt("where is my parcel")
            case _:
                pass

    def found(self) -> set[tuple[str, str, str]]:
        """What is still there of what has gone."""
        self.counts["searches"] += 1
        return self.gone.of_folders(self.path, self.receipts)

    def step(self) -> None:
        self.disturb()
        if not self.present or (len(self.present) < MOST and self.rng.random() < 0.5):
            self.ingest()
        else:
            self.forget()
