"""Receipts and commitments computed anew: from docs/receipts.md, by hashlib alone, and by no code of the product.

It also makes receipts as a forger would: with a hash that fits, whatever they say.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

Fields = dict[str, Any]
SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


# ---- canonical JSON ----
def canonical(value: object) -> bytes:
    """A value as canonical JSON."""
    if isinstance(value, dict):
        pairs = (canonical(name) + b":" + canonical(value[name]) for name in sorted(value))
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, str):
        letters = (SHORT.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value)
        return b'"' + "".join(letters).encode() + b'"'
    if value is None or isinstance(value, bool):
        return {None: b"null", True: b"true", False: b"false"}[value]
    assert type(value) is int
    return str(value).encode()


def sealed(fields: Fields) -> bytes:
    """A receipt's file with these fields, and the hash that fits them."""
    rest = {name: value for name, value in fields.items() if name != "hash"}
    return canonical({**rest, "hash": hashlib.sha256(canonical(rest)).hexdigest()}) + b"\n"


def message(fields: Fields) -> bytes:
    """What is signed."""
    return canonical({**{name: value for name, value in fields.items() if name != "hash"}, "signature": ""})


# ---- keys ----
class Keys(NamedTuple):
    """A private key in a file, and the public one: in hex, and in a file."""

    private: Path
    public: str
    public_file: Path


def new_keys(folder: Path, name: str = "key") -> Keys:
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return Keys(private, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex(), public)


def signed(fields: Fields, keys: Keys | None) -> Fields:
    """The fields with a signature by a key; without one, if there is no key."""
    if keys is None:
        return {**fields, "public_key": "", "signature": ""}
    key = load_pem_private_key(keys.private.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    named = {**fields, "public_key": keys.public}
    return {**named, "signature": key.sign(message(named)).hex()}


def check_signature(fields: Fields) -> None:
    """InvalidSignature if the signature is not that of the key."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["public_key"]))
    key.verify(bytes.fromhex(fields["signature"]), message(fields))


def linked(receipts: Iterable[Fields], keys: Sequence[Keys | None]) -> list[bytes]:
    """Files of receipts, each bound to the one before and signed anew by its key: a chain rewritten as a whole."""
    files, previous = [], "0" * 64
    for fields, key in zip(receipts, keys, strict=True):
        rewritten = {name: value for name, value in {**fields, "previous": previous}.items() if name != "hash"}
        rewritten = signed(rewritten, key)
        previous = hashlib.sha256(canonical(rewritten)).hexdigest()
        files.append(sealed(rewritten))
    return files


# ---- commitments ----
def _encoded(kind: str, *values: bytes | str | int | None) -> bytes:
    content = f"erase-core {kind} 1".encode()
    for value in values:
        if isinstance(value, bytes):
            letter, part = b"b", value
        elif value is None:
            letter, part = b"n", b""
        else:
            letter, part = (b"s" if isinstance(value, str) else b"i"), str(value).encode()
        content += letter + len(part).to_bytes(8, "little") + part
    return content


class Row(NamedTuple):
    """A row of the table of examples."""

    id: int | str
    input: str
    output: str
    rationale: str | None
    subject: str | None
    vector: bytes
    salt: bytes
    hash: bytes
    sealed: bytes
    key: bytes
    slot: int

    def tokens(self, key: bytes) -> set[str]:
        """Tokens of the id, as text, and of all else."""
        content = (self.input, self.output, self.rationale, self.subject)
        return {token(key, "id", str(self.id)), token(key, "content", *content)}

    def hash_with(self, salt: bytes) -> bytes:
        fields = (self.id, self.input, self.output, self.rationale, self.subject)
        return hashlib.sha256(_encoded("row", salt, *fields, self.vector)).digest()

    def texts_sealed_by(self, store: str) -> bytes:
        """The texts as the store of this name would seal them."""
        return AESGCM(self.key).encrypt(b"\2" + bytes(11), canonical(list(self[:5])), _context(store, self.slot))


def _context(store: str, slot: int) -> bytes:
    return b"erase-core row 3" + bytes.fromhex(store) + slot.to_bytes(8, "little")


def token(key: bytes, kind: str, *values: str | None) -> str:
    """A keyed hash: a part of HMAC-SHA-256."""
    return hmac.digest(key, _encoded(kind, *values), "sha256")[:16].hex()


def key_of(database: Path, slot: int) -> bytes:
    """The key in a slot of a store's key file; that of the tokens in slot -1."""
    start = 64 if slot == -1 else 256 + 32 * slot
    return database.with_name("keys").read_bytes()[start : start + 32]


def rows_of(database: Path) -> dict[int | str, Row]:
    """The rows of a store, past the product: from docs/file-format.md alone."""
    db = sqlite3.connect(database)
    found = db.execute("SELECT slot, texts, vector, hash FROM examples").fetchall()
    db.close()
    store = fact(database, "store")
    rows = {}
    for slot, texts, vector, row_hash in found:
        key, context = key_of(database, slot), _context(store, slot)
        fields = json.loads(AESGCM(key).decrypt(b"\2" + bytes(11), texts, context))
        content = AESGCM(key).decrypt(b"\1" + bytes(11), vector, context)
        skipped = 5 + int.from_bytes(content[1:5], "little") if content[0] else 9
        salt = hmac.digest(key, b"erase-core salt 1", "sha256")
        values = [*fields, content[skipped:], salt, row_hash, texts, key, slot]
        rows[fields[0]] = Row(*values)
    return rows


def fact(database: Path, name: str) -> Any:
    """A value of a store's state, or one that it was created with; or the key of its tokens."""
    if name == "key":
        return key_of(database, -1)
    db = sqlite3.connect(database)
    constants = dict(db.execute("SELECT name, value FROM constants"))
    value = constants[name] if name in constants else db.execute(f"SELECT {name} FROM state").fetchone()[0]
    db.close()
    return value


def secret_in(database: Path) -> bytes:
    """The secret of a store's key file, as it is there."""
    return _secret(database)[1]


def _secret(database: Path) -> tuple[int, bytes]:
    """The generation and the secret, from the one of two places that holds it."""
    content = database.with_name("keys").read_bytes()
    places = [content[place : place + 64] for place in (128, 192)]
    (whole,) = (each for each in places if hashlib.sha256(each[:40]).digest()[:24] == each[40:])
    return int.from_bytes(whole[:8], "little"), whole[8:40]


def model_commitment(database: Path, digest: str) -> str:
    """The commitment to a digest with the secret of the generation in which the store's model changed last."""
    first, secret = _secret(database)
    for _ in range(first, fact(database, "model_generation")):
        secret = hashlib.sha256(b"erase-core secret 1" + secret).digest()
    return hashlib.sha256(_encoded("model", secret, digest)).hexdigest()


def lthash(hashes: Iterable[bytes]) -> str:
    """The commitment to rows, by their hashes."""
    lanes = [0] * 1024
    for row in hashes:
        stream = hashlib.shake_256(row).digest(2048)
        for lane in range(1024):
            lanes[lane] = (lanes[lane] + int.from_bytes(stream[2 * lane : 2 * lane + 2], "little")) % 2**16
    return base64.b64encode(b"".join(lane.to_bytes(2, "little") for lane in lanes)).decode()
