"""A store's key file and sealed rows, read past the product: from docs/file-format.md alone, and by no code of it.

It is what somebody could do who finds files: look for keys, and try every key on every sealed value.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEYS, DATABASE = "keys", "examples.sqlite"
HEAD, KEY = 256, 32
# The key of the tokens is in the head. It is listed beside the slots, with this number.
TOKENS = -1
VECTOR, TEXTS = (kind.to_bytes(12, "little") for kind in (1, 2))


class Slot(NamedTuple):
    """What is written in a slot, and the key that it stands for."""

    kept: bytes
    key: bytes


class SealedRow(NamedTuple):
    """A row as it lies in the SQLite file."""

    slot: int
    vector: bytes
    texts: bytes


# ---- the key file ----
def slots_in(content: bytes, user_key: bytes | None = None) -> dict[int, Slot]:
    """The slots in use of a key file, with the key that its user keeps, if it is wrapped; the key of the tokens too."""
    pads = _pads(content, user_key)
    kept = {slot: content[at : at + KEY] for slot, at in enumerate(range(HEAD, len(content), KEY))}
    kept = {TOKENS: content[64:96], **kept}
    return {
        slot: Slot(each, bytes(a ^ b for a, b in zip(each, pads(slot), strict=False)))
        for slot, each in kept.items()
        if each.strip(b"\0")
    }


def fits(content: bytes, user_key: bytes | None) -> bool:
    """Whether a key file is wrapped with this key, or needs none."""
    if user_key is None:
        return not content[10] & 1
    code = hmac.digest(_secret(user_key), b"erase-core head 1" + content[:96], "sha256")
    return code == content[96:128]


def _secret(user_key: bytes) -> bytes:
    return hashlib.sha256(b"erase-core user key 1" + user_key).digest()


def _pads(content: bytes, user_key: bytes | None) -> Callable[[int], bytes]:
    if user_key is None:
        return lambda slot: bytes(KEY)
    secret = _secret(user_key)

    def pad(slot: int) -> bytes:
        place = b"tokens" if slot == TOKENS else b"slot" + slot.to_bytes(8, "little")
        return hmac.digest(secret, b"erase-core pad 1" + content[32:64] + place, "sha256")

    return pad


# ---- sealed rows ----
def rows_in(database: Path) -> list[SealedRow]:
    """The rows of a SQLite file, by their slots."""
    db = sqlite3.connect(database)
    found = db.execute("SELECT slot, vector, texts FROM examples ORDER BY slot").fetchall()
    db.close()
    return [SealedRow(*row) for row in found]


def store_in(content: bytes) -> bytes:
    """The name of the store in the head of its key file."""
    return content[16:32]


def contents_of(row: SealedRow, key: bytes, store: bytes) -> list[bytes]:
    """What of a row opens with a key: its vector with its id, and its texts."""
    cipher, context = AESGCM(key), b"erase-core row 3" + store + row.slot.to_bytes(8, "little")
    opened = []
    for nonce, sealed in ((VECTOR, row.vector), (TEXTS, row.texts)):
        try:
            opened.append(cipher.decrypt(nonce, sealed, context))
        except InvalidTag:
            continue
    return opened


def openable(rows: Iterable[SealedRow], slots: dict[int, Slot], store: bytes) -> list[tuple[int, int]]:
    """Which rows open with which key, whatever slot it is from: as pairs of slots, the row's and the key's."""
    keys = [(slot, key) for slot, each in slots.items() for key in {each.kept, each.key} if len(key) == KEY]
    return [(row.slot, slot) for row in rows for slot, key in keys if contents_of(row, key, store)]


# ---- a key, wherever it is written ----
def key_forms(key: bytes) -> Iterator[tuple[str, bytes]]:
    """Every form in which a key may be written, by names."""
    yield "bytes", key
    yield "bytes, reversed", key[::-1]
    yield "hex", key.hex().encode()
    yield "upper hex", key.hex().upper().encode()
    yield "hex in UTF-16", key.hex().encode("utf-16-le")
    yield "JSON", ", ".join(map(str, key)).encode()
    yield "compact JSON", ",".join(map(str, key)).encode()
    yield "decimal", str(int.from_bytes(key, "big")).encode()
    yield "decimal, little-endian", str(int.from_bytes(key, "little")).encode()
    yield "Python", repr(key)[2:-1].encode()
    for before in range(3):
        whole = key[(3 - before) % 3 :]
        whole = whole[: len(whole) // 3 * 3]
        yield f"base64, {before} after a multiple of 3", base64.b64encode(whole)
        yield f"URL-safe base64, {before} after a multiple of 3", base64.urlsafe_b64encode(whole)


# ---- windows ----
def opened_window(content: bytes, key: bytes, store: bytes, slot: int) -> bytes | None:
    """The content of a file with a window, opened with an example's key; None if it does not open."""
    head, sealed = content[:64], content[64:]
    cipher = hmac.digest(key, b"erase-core window key 1", "sha256")
    try:
        return AESGCM(cipher).decrypt(head[20:32], sealed, head + store + slot.to_bytes(8, "little"))
    except (InvalidTag, ValueError):
        return None


def is_marked(content: bytes, key: bytes, store: bytes, slot: int, label: bytes) -> bool:
    """Whether the mark of a file is of this label."""
    marker = hmac.digest(key, b"erase-core window mark 1", "sha256")
    where = store + slot.to_bytes(8, "little")
    return content[32:64] == hmac.digest(marker, content[:32] + where + label, "sha256")
