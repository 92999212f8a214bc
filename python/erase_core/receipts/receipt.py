"""A receipt: a record of one removal in canonical JSON, without ids or texts, linked to the previous receipt.

Its keyed hashes are pseudonymous data (docs/guarantees.md). The format is described in docs/receipts.md. For the files
of receipts, see folder.py; for the verification of the chain, chain.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, NoReturn, get_args

from erase_core import commitments
from erase_core.errors import ParameterError, ReceiptError
from erase_core.receipts.signing import Signer

__all__ = ["HASH", "NO_PREDECESSOR", "VERSION", "Receipt", "ReceiptRef", "as_receipt_ref"]

VERSION = 2
Scope = Literal["ids", "subject"]
UpdatePath = Literal["certified", "replayed", "reseeded"]
HASH = re.compile(r"[0-9a-f]{64}")
TOKEN = re.compile(r"[0-9a-f]{32}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
NO_PREDECESSOR = "0" * 64
# Other JSON readers lose digits of larger integers.
MAX_INTEGER = 2**53 - 1


class ReceiptRef(NamedTuple):
    """Number and hash of a receipt, to be written down outside the store.

    Attributes
    ----------
    number : int
        From 1; 0 for no receipt.
    hash : str
        64 hexadecimal digits; empty for no receipt.
    """

    number: int
    hash: str


@dataclass(frozen=True)
class Receipt:
    """A record of one removal.

    Parameters
    ----------
    number : int
        The receipts of a store are numbered from 1.
    store : str
        Unique name of the store: 32 hexadecimal digits.
    time : str
        Time of the removal in UTC, to the second: ``2026-11-21T18:00:00Z``.
    scope : {"ids", "subject"}
        How the examples were requested: by id, or by subject.
    rows : tuple of str
        Commitments to the removed examples, ascending: the hash of each with its salt, in hex. The salts come from the
        keys that were destroyed, so the hashes reveal nothing.
    tokens : tuple of str
        Keyed hashes of what must not be ingested again, ascending: ids and contents of the examples, and the subject
        if the request had one. Only the store's key file has their key.
    n_before, n_after : int
        Number of examples in the store, before and after the removal.
    commitment_before, commitment_after : str
        Commitments to all examples (LtHash16, in base64): the second plus `rows` is the first.
    model_before, model_after : str
        Commitments to the digest of the fitted model. The salt of each is deleted when the model changes.
    path : {"certified", "replayed", "reseeded"}
        How the clustering was updated; see `UpdateReport`.
    parameters : dict of str to str
        Parameters of the clustering, and the name of the embedding model.
    software : dict of str to str
        Versions of the software.
    destroyed : dict of str to str
        What was destroyed before the receipt was published: the number of keys (``keys``), the file that held them
        (``file``), and the cipher of the rows that they opened (``cipher``).
    previous : str
        Hash of the previous receipt; zeros for the first.
    public_key, signature : str
        Ed25519, in hex; empty if the receipt is not signed.
    version : int, default=2
        Version of the format.
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
    destroyed: dict[str, str]
    previous: str
    public_key: str = ""
    signature: str = ""
    version: int = VERSION

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all other fields, in hex. The next receipt and the store contain it."""
        return hashlib.sha256(_canonical(self._values())).hexdigest()

    @property
    def ref(self) -> ReceiptRef:
        """Number and hash."""
        return ReceiptRef(self.number, self.hash)

    @property
    def message(self) -> bytes:
        """The signed bytes: all fields but hash and signature."""
        return _canonical({**self._values(), "signature": ""})

    @property
    def is_balanced(self) -> bool:
        """Whether the examples before the removal are the remaining and the removed ones."""
        before, after = (base64.b64decode(c) for c in (self.commitment_before, self.commitment_after))
        whole = commitments.plus(after, (bytes.fromhex(row) for row in self.rows)) == before
        return whole and self.n_before == self.n_after + len(self.rows)

    def signed(self, signer: Signer | None) -> Receipt:
        """Return the receipt with a signature; unchanged without a signer."""
        if signer is None:
            return self
        receipt = replace(self, public_key=signer.public_key, signature="")
        return replace(receipt, signature=signer.sign(receipt.message))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the receipt's file."""
        return {**asdict(self), "hash": self.hash}

    def to_bytes(self) -> bytes:
        """Return the contents of the receipt's file: canonical JSON (RFC 8785) and a line break."""
        return _canonical({**self._values(), "hash": self.hash}) + b"\n"

    def packed(self) -> bytes:
        """Return the receipt as a store keeps it until it is published: compressed, and without what follows."""
        return zlib.compress(_canonical({**self._values(), "commitment_before": "", "hash": self.hash}), 1)

    @staticmethod
    def unpacked(content: bytes) -> bytes:
        """Return the contents of the receipt's file from what `packed` returned.

        Raises
        ------
        ReceiptError
            The content is not a packed receipt.
        """
        try:
            values = json.loads(zlib.decompress(content))
            # Of the three, one follows from the others (`is_balanced`).
            after, rows = base64.b64decode(values["commitment_after"]), map(bytes.fromhex, values["rows"])
            values["commitment_before"] = base64.b64encode(commitments.plus(after, rows)).decode()
            return _canonical(values) + b"\n"
        except (KeyError, RecursionError, TypeError, ValueError, zlib.error) as error:
            raise ReceiptError("it is not a packed receipt") from error

    def _values(self) -> dict[str, Any]:
        """Return the fields, not copied: `asdict` takes longer than all else."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_bytes(cls, content: bytes) -> Receipt:
        """Read a receipt from the contents of its file.

        Raises
        ------
        ReceiptError
            The contents are not a receipt, or were changed, if only by a single byte.
        """
        try:
            values = json.loads(content.decode(), parse_float=_refuse, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise ReceiptError("it is not valid JSON for a receipt") from None
        names = {each.name for each in fields(cls)}
        if not isinstance(values, dict) or set(values) != names | {"hash"}:
            raise ReceiptError("its fields are not those of a receipt")
        stated = values.pop("hash")
        if values["version"] != VERSION:
            raise ReceiptError(
                f"it has version {values['version']!r:.20}, but this software reads only version {VERSION}"
            )
        _check(values)
        receipt = cls(**{**values, **{name: tuple(values[name]) for name in ("rows", "tokens")}})
        if stated != receipt.hash:
            raise ReceiptError("it was changed: its hash does not match its fields")
        if content != receipt.to_bytes():
            raise ReceiptError("it was changed: it is not in canonical JSON")
        return receipt


def as_receipt_ref(name: str, given: object) -> ReceiptRef:
    """Return number and hash of a receipt, given by the caller as a pair. The hash is returned in lower case.

    Raises
    ------
    ParameterError
        `given` is not such a pair.
    """
    number, hash_ = given if isinstance(given, (tuple, list)) and len(given) == 2 else (None, None)
    if type(number) is int and number >= 0 and isinstance(hash_, str):
        hash_ = hash_.lower()
        if HASH.fullmatch(hash_) if number else hash_ in ("", NO_PREDECESSOR):
            return ReceiptRef(number, hash_)
    raise ParameterError(f"{name} must be a pair of a number and a hash of 64 hexadecimal digits, got {given!r}")


def _check(values: dict[str, Any]) -> None:
    """Check type and format of every field, so that nothing but a receipt is ever accepted as one."""
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
        "public_key": values["public_key"] == "" or _matches(HASH, values["public_key"]),
        "signature": _matches(re.compile(r"[0-9a-f]{128}" if values["public_key"] else ""), values["signature"]),
    }
    for name in ("previous", "model_before", "model_after"):
        sound[name] = _matches(HASH, values[name])
    for name in ("commitment_before", "commitment_after"):
        sound[name] = _is_commitment(values[name])
    for name in ("parameters", "software", "destroyed"):
        sound[name] = isinstance(values[name], dict) and _texts([*values[name], *values[name].values()])
    for name, good in sound.items():
        if not good:
            raise ReceiptError(f"its field {name} is invalid")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _hashes(values: object, pattern: re.Pattern[str]) -> bool:
    """Whether a value is a sorted list of different hashes."""
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
