"""The facts that an erasure report has. None of them is a text, an id or a subject of what was asked for.

`contents` collects them. Texts that come from elsewhere, such as paths, are masked there.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any, Literal, NamedTuple

from erase_core import checks
from erase_core.erasure.request import Match
from erase_core.erasure_report.picture import ClusterPicture
from erase_core.errors import StoreError, os_reason
from erase_core.examples.example import counted
from erase_core.fs.durable import write_new, write_over
from erase_core.receipts.receipt import Receipt, Scope
from erase_core.reports import Verification
from erase_core.scan.report import ScanReport

__all__ = ["Asked", "Cost", "ErasureReport", "Known", "Searched", "Step", "StoreFacts", "Verdict", "fingerprint"]

Verdict = Literal["forgotten", "not forgotten", "problems", "unknown"]
# DER of an Ed25519 public key, before its 32 bytes (RFC 8410).
KEY_HEAD = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Parameters
    ----------
    scope : {"ids", "subject"}
    n_named : int
        How many ids or subjects the request names.
    match : {"exact", "normalised"}
        How subjects are compared.
    """

    scope: Scope
    n_named: int
    match: Match

    def __str__(self) -> str:
        noun = "subject" if self.scope == "subject" else "id"
        return f"all examples about {counted(self.n_named, noun)}" if noun == "subject" else counted(self.n_named, noun)


@dataclass(frozen=True)
class Known:
    """What the store knows of the request. See `Trace`."""

    n_recorded: int
    n_unknown: int
    n_present: int
    n_similar: int
    n_mentions: int


@dataclass(frozen=True)
class StoreFacts:
    """The store: its folder and that of its receipts, its name in receipts, and its number of examples now."""

    folder: str
    receipts: str
    name: str
    n_examples: int
    strategy: str


@dataclass(frozen=True)
class Searched:
    """What was searched for in the files of the store.

    Parameters
    ----------
    n_texts, n_vectors : int
        Texts and vectors that were searched for.
    n_short : int
        Texts that are too short to be searched for.
    n_staying : int
        Texts that are also part of an example that stays, or of the settings, and so would be found.
    n_files, n_bytes : int
        Number and size of the files. The size is rounded to 0.1 MB: the files keep the length of what was removed.
    """

    n_texts: int
    n_vectors: int
    n_short: int
    n_staying: int
    n_files: int
    n_bytes: int


@dataclass(frozen=True)
class Cost:
    """What is known only when the removal is done: its time, and what it did to the prompts.

    Parameters
    ----------
    number : int
        Number of the receipt.
    seconds, model_seconds : float
        Wall-clock time of the whole call, and of the clustering's update.
    n_prompts, n_changed : int
        How many prompts there are that queries share, and how many have changed. *Which* have changed would show in
        which part of the data the removed examples were.
    """

    number: int
    seconds: float
    model_seconds: float
    n_prompts: int
    n_changed: int


class Step(NamedTuple):
    """A step to check a removal: what to do, the command, and what it must print."""

    text: str
    command: str
    expected: str


@dataclass(frozen=True)
class ErasureReport:
    """What was forgotten, how that can be checked, and what lies outside. `report_erasure` returns one.

    It contains no text, id or subject of what was asked for.

    Parameters
    ----------
    made : str
        When the facts were collected, in UTC.
    software : str
        Version of erase_core.
    asked : Asked
    store : StoreFacts
    known : Known
    receipts : tuple of Receipt
        The receipts that record a removal of something that was asked for, oldest first.
    details : tuple of dict
        Of each receipt, the fields `parameters`, `software` and `destroyed`.
    cost : Cost or None
        None: the removal was not made in the same call.
    verification : Verification
        What `verify` found. It has no digest, with which a guess could be tested when an example is forgotten later.
    searched : Searched
    scans : tuple of ScanReport
        Searches of other folders.
    picture : ClusterPicture or None
        The clustering now. None: it was left out, or examples of the request are still in the store.
    is_newest : bool
        Whether nothing was written to the store since the only removal, so it is known how the store was before.
    """

    made: str
    software: str
    asked: Asked
    store: StoreFacts
    known: Known
    receipts: tuple[Receipt, ...]
    details: tuple[dict[str, dict[str, str]], ...]
    cost: Cost | None
    verification: Verification
    searched: Searched
    scans: tuple[ScanReport, ...] = ()
    picture: ClusterPicture | None = field(default=None, repr=False)
    is_newest: bool = False

    @property
    def verdict(self) -> Verdict:
        """What the page says first.

        "not forgotten": examples are still in the store. "unknown": there is neither an example nor a receipt.
        "problems": a removal is recorded, but a check or a search found something. "forgotten": none of these.
        """
        if self.known.n_present:
            return "not forgotten"
        if not self.receipts:
            return "unknown"
        return "problems" if not self.verification.ok or any(scan.found for scan in self.scans) else "forgotten"

    @property
    def n_removed(self) -> int:
        """Number of examples that the removals removed, which may include others that were named in the same call."""
        return sum(len(receipt.rows) for receipt in self.receipts)

    @property
    def public_keys(self) -> dict[str, str]:
        """The keys that signed the receipts, each with its fingerprint."""
        keys = dict.fromkeys(receipt.public_key for receipt in self.receipts if receipt.public_key)
        return {key: fingerprint(key) for key in keys}

    @property
    def steps(self) -> list[Step]:
        """How to check the receipts, step by step."""
        if not self.receipts:
            return []
        folder, newest = shlex.quote(self.store.receipts), self.receipts[-1]
        signed = " --public-key public.pem" if all(receipt.public_key for receipt in self.receipts) else ""
        known = "".join(f" --known {receipt.number}:{receipt.hash}" for receipt in self.receipts)
        steps = [
            Step(
                "Take the public key from its owner, not from this page, and compare its fingerprint.",
                "openssl pkey -pubin -in public.pem -outform DER | sha256sum",
                ", ".join(self.public_keys.values()),
            ),
            Step(
                "Check that all receipts are complete, unmodified and signed, and that those of this page are among "
                "them. This needs no store: the folder of receipts may lie on another machine.",
                f"erase receipts verify --folder {folder}{signed}{known}",
                "verified: a chain of",
            ),
            Step(
                "Read the receipt, and compare it with this page.",
                f"erase receipts show {newest.number} --folder {folder}",
                newest.hash,
            ),
            Step(
                "Check the store itself, and search its files for the texts. Enter each on a line of its own, then "
                "press Ctrl-D. Nothing of them is kept.",
                f"erase verify --store {shlex.quote(self.store.folder)} --receipts {folder}{signed}{known} "
                "--absent-from -",
                "verified",
            ),
            Step(
                "Without this software: compute the hash of the receipt's file.",
                f'sed \'s/"hash":"[0-9a-f]*",//\' {shlex.quote(f"{self.store.receipts}/{newest.number:08}.json")} '
                "| tr -d '\\n' | sha256sum",
                newest.hash,
            ),
        ]
        return steps if self.public_keys else steps[1:]

    def to_dict(self) -> dict[str, Any]:
        """Return the main facts as a dict for JSON."""
        named = {name: asdict(getattr(self, name)) for name in ("asked", "known", "store", "searched")}
        return {
            "verdict": self.verdict,
            "made": self.made,
            "n_removed": self.n_removed,
            "receipts": [
                {"number": each.number, "hash": each.hash, "time": each.time, "path": each.path, "n": len(each.rows)}
                for each in self.receipts
            ],
            **named,
            "cost": None if self.cost is None else asdict(self.cost),
            "verified": self.verification.ok,
            "problems": self.verification.problems,
            "scans": [scan.to_dict() for scan in self.scans],
        }

    def to_html(self) -> str:
        """Return the page: HTML that needs no other file."""
        from erase_core.erasure_report.page import page_of

        return page_of(self)

    def write(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the page to a file, completely or not at all.

        Parameters
        ----------
        path : path
        overwrite : bool, default=False
            Whether to replace a file that exists.

        Raises
        ------
        ParameterError
            `path` is not a path.
        StoreError
            The file exists, or cannot be written.
        """
        file = checks.path("path", path)
        checks.flag("overwrite", overwrite)
        try:
            (write_over if overwrite else write_new)(file, self.to_html().encode())
        except FileExistsError as error:
            raise StoreError(f"{path} exists already. Choose another file, or overwrite it.") from error
        except OSError as error:
            raise StoreError(f"{path}: {os_reason(error)}") from error

    def __str__(self) -> str:
        return {
            "forgotten": f"forgotten: {counted(self.n_removed, 'example')} removed, and the checks found nothing",
            "not forgotten": f"NOT forgotten: {counted(self.known.n_present, 'example')} still in the store",
            "problems": f"PROBLEMS: {counted(self.n_removed, 'example')} removed, but a check or a search found "
            "something",
            "unknown": "nothing is known: no example and no receipt names what was asked for",
        }[self.verdict]


def fingerprint(key: str) -> str:
    """Return the SHA-256 of a public key in DER, in hex, as `openssl` gives it.

    Parameters
    ----------
    key : str
        Ed25519 public key of 64 hexadecimal digits.
    """
    return hashlib.sha256(KEY_HEAD + bytes.fromhex(key)).hexdigest()
