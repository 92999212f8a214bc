"""Examples that are known again wherever a part of them lies, the search for them in bytes, a store with such examples.

It shares no code with erase_core.verify, nor with the store: see sealed_by_hand.py for keys and rows. Pieces of 16
bytes are searched for in every encoding, since a database splits what is long and overwrites some of what is deleted.
Texts are random, so that no piece is found by chance.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from erase_core.erase import Erase
from erase_core.examples.example import Example
from numpy.typing import NDArray
from sealed_by_hand import (
    DATABASE,
    KEYS,
    TOKENS,
    SealedRow,
    Slot,
    contents_of,
    key_forms,
    rows_in,
    slots_in,
    store_in,
)
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
    """A store to which random examples come and go. What can be read of any is searched for, and keys of what has gone.

    Its receipts lie outside. Projected rows are some of a vector's components, so that they can be looked for too. With
    a user's key, keys are wrapped, and another one is set now and then.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        strategy: Any = "kmeans",
        projected: bool = False,
        dim: int = 32,
        wrapped: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.path, self.receipts, self.embedder = folder / "store", folder / "receipts", WordEmbedder(dim=dim)
        self.axes = self.rng.sample(range(32), 16) if projected else []
        self.numbered = self.rng.random() < 0.5
        self.present: list[Example] = []
        self.texts = Search()
        self.counts: Counter[str] = Counter()
        self.user_key = self.rng.randbytes(40) if wrapped else None
        axes = np.eye(32)[self.axes] if projected else None
        options: dict[str, Any] = {"strategy": strategy, "n_shots": 4, "projection": axes, "receipts": self.receipts}
        self.erase = Erase.create(self.path, embedder=self.embedder, key=self.user_key, **options)
        self.keys = KeysOnceThere(self.path, folder / "before")

    def reopen(self) -> None:
        self.erase.close()
        self.erase = Erase.open(self.path, embedder=self.embedder, key=self.user_key)

    def rekey(self) -> None:
        self.keys.remember(self.user_key)
        self.user_key = self.rng.randbytes(40)
        self.erase.rekey(self.user_key)
        self.reopen()
        self.counts["rekeyed"] += 1

    def ingest(self, most: int = 12) -> None:
        coming = [canary(self.rng, numbered=self.numbered) for _ in range(self.rng.randint(1, most))]
        for example in coming:
            self.texts.add(str(example.id), forms(example, self.embedder, self.axes))
        self.erase.ingest(coming)
        self.present += coming
        self.counts["ingested"] += len(coming)

    def draw(self) -> list[Example]:
        """Choose what is to go: one, some, or rarely all."""
        most = len(self.present)
        count = most if self.rng.random() < 0.03 else min(most, self.rng.choice((1, 1, 1, 2, 5, 20)))
        self.keys.remember(self.user_key)
        return self.rng.sample(self.present, count)

    def has_gone(self, going: list[Example]) -> None:
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
            case 0 if self.user_key is not None:
                self.rekey()
            case 1:
                self.reopen()
            case 2:
                self.erase.prompt("where is my parcel")
            case _:
                pass

    def found(self) -> Found:
        """What can be read of any example, and what is there of keys that should not be, or opens with those left."""
        self.counts["searches"] += 1
        folders = (self.path, self.receipts)
        return self.texts.of_folders(*folders) | self.keys.found(self.user_key, *folders)

    def step(self) -> None:
        self.disturb()
        if not self.present or (len(self.present) < MOST and self.rng.random() < 0.5):
            self.ingest()
        else:
            self.forget()


class KeysOnceThere:
    """The keys and sealed rows that a store has ever had, and copies of its SQLite files from before the last change.

    A key may be in the key file, once, in its slot, as it is kept there, for as long as its row is there; it may be
    nowhere else. With the keys that are there, the rows that are there can be opened, and no others, in no copy.
    """

    def __init__(self, folder: Path, copies: Path) -> None:
        self._folder, self._copies = folder, copies
        self._search = Search()
        self._known: set[tuple[int, bytes]] = set()
        self._rows: dict[int, SealedRow] = {}
        # Pairs of a row and a key that does not open it.
        self._tried: set[tuple[int, bytes]] = set()

    def remember(self, user_key: bytes | None) -> None:
        """Note keys and rows as they are now, and copy the SQLite files."""
        for slot, each in slots_in((self._folder / KEYS).read_bytes(), user_key).items():
            for value in {each.kept, each.key} - {value for known, value in self._known if known == slot}:
                self._known.add((slot, value))
                self._search.add(
                    f"{slot} {value.hex()}", ((f"key in {form}", form_) for form, form_ in key_forms(value))
                )
        shutil.rmtree(self._copies, ignore_errors=True)
        self._copies.mkdir()
        for file in self._folder.glob(f"{DATABASE}*"):
            (self._copies / file.name).write_bytes(_content(file))
        self._rows |= {row.slot: row for row in rows_in(self._copies / DATABASE)}

    def found(self, user_key: bytes | None, *folders: Path) -> Found:
        """Keys that are where none should be; rows that are not there, and can be opened."""
        content = (self._folder / KEYS).read_bytes()
        keys, rows = slots_in(content, user_key), {row.slot for row in rows_in(self._folder / DATABASE)}
        wrong = {
            found for found in self._search.of_folders(*folders) if not self._is_in_place(found, keys, {*rows, TOKENS})
        }
        wrong |= {(str(slot), "key without a row", KEYS) for slot in {*keys} - {*rows, TOKENS}}
        wrong |= {(str(slot), "row without a key", DATABASE) for slot in rows - {*keys}}
        return wrong | self._opens(keys, rows, store_in(content))

    def _is_in_place(self, found: tuple[str, str, str], keys: dict[int, Slot], slots: set[int]) -> bool:
        slot, value = found[0].split()
        at, kept = int(slot), bytes.fromhex(value)
        return found[1:] == ("key in bytes", KEYS) and at in slots & {*keys} and keys[at].kept == kept

    def _opens(self, keys: dict[int, Slot], rows: set[int], store: bytes) -> Found:
        """Rows that have gone and can be opened, by any key; rows that are there and cannot, by their own."""
        gone = [row for slot, row in self._rows.items() if slot not in rows]
        values = {each.key for each in keys.values()}
        found: Found = set()
        for row in gone:
            for value in values:
                if (row.slot, value) not in self._tried:
                    self._tried.add((row.slot, value))
                    if contents_of(row, value, store):
                        self._tried.remove((row.slot, value))
                        found.add((str(row.slot), "row that has gone opens", "a copy from before"))
        there = [row for slot, row in self._rows.items() if slot in rows & {*keys}]
        shut = {row.slot for row in there if len(contents_of(row, keys[row.slot].key, store)) < 2}
        return found | {(str(slot), "row that is there does not open", "a copy from before") for slot in shut}
