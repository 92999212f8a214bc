"""A receipt: what one removal did, in canonical JSON without ids or texts, bound to the receipt before it.

Its keyed hashes are pseudonymous data (docs/erasure.md).

Receipts as files in a folder, and whether all of them fit together, are chain.py's business. The form is described in
docs/receipts.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NoReturn, get_args

from erase_core import commitments
from erase_core.errors import ReceiptError
from erase_core.receipts.signing import Signer

__all__ = ["VERSION", "Receipt"]

VERSION = 1
Scope = Literal["ids", "subject"]
UpdatePath = Literal["certified", "replayed", "reseeded"]
HASH = re.compile(r"[0-9a-f]{64}")
TOKEN = re.compile(r"[0-9a-f]{32}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
NO_PREDECESSOR = "0" * 64
# Beyond this other JSON readers lose digits.
MAX_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class Receipt:
    """What one removal did.

    Parameters
    ----------
    number : int
        Receipts of a store are numbered from 1.
    store : str
        What tells the store from others: 32 hexadecimal digits.
    time : str
        When, in UTC, to the second: ``2026-11-21T18:00:00Z``.
    scope : {"ids", "subject"}
        What was asked for: examples by id, or all about a subject.
    rows : tuple of str
        Commitments to the examples that were removed, ascending: the hash of each with its salt, in hex. The salts are
        gone with the examples, so that they tell nothing.
    tokens : tuple of str
        Keyed hashes of what must not come in again, ascending: ids and contents of the examples, and the subject if one
        was named. Only the store has the key.
    n_before, n_after : int
        Examples in the store.
    commitment_before, commitment_after : str
        Commitments to all examples (LtHash16, in base64): the second plus `rows` is the first.
    model_before, model_after : str
        Commitments to the digest of the fitted model, each with a salt that is gone as soon as the model is another.
    path : {"certified", "replayed", "reseeded"}
        How the clustering was brought up to date; see `UpdateReport`.
    parameters : dict of str to str
        Of the clustering, and the embedding model's name.
    software : dict of str to str
        Versions.
    rewritten : tuple of str
        The store's files that were written anew before the receipt was published.
    previous : str
        Hash of the receipt before; zeros for the first.
    public_key, signature : str
        Ed25519, in hex; empty if it is not signed.
    version : int, default=1
        Of this form.
    """

    number: int
    store: str
    time: str
    scope: Scope
    rows: tuple[str, ...]
    tokens: tuple[str, ...]
    n_before: int
    n_after: int
    commitment_before: str = field(repr=False)
    commitment_after: str = field(repr=False)
    model_before: str
    model_after: str
    path: UpdatePath
    parameters: dict[str, str]
    software: dict[str, str]
    rewritten: tuple[str, ...]
    previous: str
    public_key: str = ""
    signature: str = ""
    version: int = VERSION

    @property
    def hash(self) -> str:
        """SHA-256 of everything else in the receipt, in hex: what the next receipt, and the store, know it by."""
        return hashlib.sha256(_canonical(asdict(self))).hexdigest()

    @property
    def message(self) -> bytes:
        """What is signed: everything but hash and signature."""
        return _canonical(asdict(replace(self, signature="")))

    @property
    def is_balanced(self) -> bool:
        """Whether what was there before is what was there after and the rows that were removed."""
        before, after = (base64.b64decode(c) for c in (self.commitment_before, self.commitment_after))
        whole = commitments.plus(after, (bytes.fromhex(row) for row in self.rows)) == before
        return whole and self.n_before == self.n_after + len(self.rows)

    def signed(self, signer: Signer | None) -> Receipt:
        """Return the receipt with a signature."""
        if signer is None:
            return self
        receipt = replace(self, public_key=signer.public_key, signature="")
        return replace(receipt, signature=signer.sign(receipt.message))

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as it stands in its file."""
        return {**asdict(self), "hash": self.hash}

    def to_bytes(self) -> bytes:
        """Return the receipt's file: canonical JSON (RFC 8785), and a line's end."""
        return _canonical(self.to_dict()) + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Receipt:
        """Read a receipt's file.

        Raises
        ------
        ReceiptError
            It is none, or was changed: by a single byte too.
        """
        try:
            values = json.loads(content.decode(), parse_float=_refuse, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise ReceiptError("it is no JSON that a receipt consists of") from None
        names = {each.name for each in fields(cls)}
        if not isinstance(values, dict) or set(values) != names | {"hash"}:
            raise ReceiptError("its fields are not those of a receipt")
        told = values.pop("hash")
        if values["version"] != VERSION:
            raise ReceiptError(f"it is of version {values['version']!r:.20}; this one reads {VERSION}")
        _check(values)
        receipt = cls(**{**values, **{name: tuple(values[name]) for name in ("rows", "tokens", "rewritten")}})
        if told != receipt.hash:
            raise ReceiptError("it was changed: its hash is not that of what it says")
        if content != receipt.to_bytes():
            raise ReceiptError("it was changed: it is not written as a receipt is")
        return receipt


def _check(values: dict[str, Any]) -> None:
    """Check the form of every field, so that nothing else than a receipt is ever taken for one."""
    sound = {
        "number": _is_count(values["number"]) and values["number"] > 0,
        "n_before": _is_count(values["n_before"]),
        "n_after": _is_count(values["n_after"]),
        "version": type(values["version"]) is int,
        "store": _matches(re.compile(r"[0-9a-f]{32}"), values["store"]),
        "time": _matches(TIME, values["time"]),
        "scope": values["scope"] in get_args(Scope),
        "path": values["path"] in get_args(UpdatePath),
        "rows": _hashes(values["rows"], HASH) and bool(values["rows"]),
        "tokens": _hashes(values["tokens"], TOKEN),
        "rewritten": _texts(values["rewritten"]),
        "public_key": values["public_key"] == "" or _matches(HASH, values["public_key"]),
        "signature": _matches(re.compile(r"[0-9a-f]{128}" if values["public_key"] else ""), values["signature"]),
    }
    for name in ("previous", "model_before", "model_after"):
        sound[name] = _matches(HASH, values[name])
    for name in ("commitment_before", "commitment_after"):
        sound[name] = _is_commitment(values[name])
    for name in ("parameters", "software"):
        sound[name] = isinstance(values[name], dict) and _texts([*values[name], *values[name].values()])
    for name, good in sound.items():
        if not good:
            raise ReceiptError(f"its {name} is not what a receipt says there")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _hashes(values: object, pattern: re.Pattern[str]) -> bool:
    """Whether this is a list of hashes, each once and in order."""
    return isinstance(values, list) and all(_matches(pattern, v) for v in values) and values == sorted(set(values))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER


def _texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) and _is_unicode(value) for value in values)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_commitment(value: object) -> bool:
    try:
        content = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        return False
    return len(content) == len(commitments.EMPTY)


def _canonical(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _refuse(number: str) -> NoReturn:
    raise ValueError(number)
