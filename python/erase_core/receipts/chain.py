"""Receipts as files in a folder, one for each removal, and whether they form a chain that nobody has touched.

What a receipt says is receipts.py's business. Nothing here needs the store that the receipts are of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from erase_core import checks
from erase_core.errors import ParameterError, ReceiptError, printable
from erase_core.fs.durable import make_folder, sync_folder, write_new
from erase_core.receipts import signing
from erase_core.receipts.receipt import HASH, NO_PREDECESSOR, Receipt

__all__ = ["ChainVerification", "Problem", "ReceiptFolder", "as_noted", "verify_chain", "verify_receipts"]

MARK = "STORE"
NAME = re.compile(r"([0-9]{8})\.json")
Kind = Literal["tampered", "reordered", "omitted", "truncated", "newer", "forged", "unsigned", "foreign", "unbalanced"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a chain of receipts.

    Parameters
    ----------
    number : int
        The receipt.
    kind : str
        ``tampered``: it, or the one before, is not what was written. ``reordered``: it stands in another's place.
        ``omitted``: it is missing between others. ``truncated``: it is missing at the end. ``newer``: it follows the
        one that was named as the newest. ``forged``: its signature is not that of its key, or not of one that was
        named. ``unsigned``: it has none, though keys were named.
        ``foreign``: it is of another store than the first. ``unbalanced``: before is not after and what was removed.
    text : str
        A sentence that says what was found.
    """

    number: int
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"receipt {self.number} is {self.kind}: {self.text}"


@dataclass(frozen=True)
class ChainVerification:
    """Whether receipts form a chain that nobody has touched.

    Parameters
    ----------
    ok : bool
        Whether there are no problems.
    n_receipts : int
        How many files of receipts are there.
    head : str
        Hash of the newest, in hex; empty if there is none, or it is not there or was changed.
    public_keys : tuple of str
        Those that receipts are signed with.
    problems : tuple of Problem
    """

    ok: bool
    n_receipts: int
    head: str
    public_keys: tuple[str, ...]
    problems: tuple[Problem, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.ok:
            return printable("\n".join(["NOT verified:", *map(str, self.problems)]))
        if not self.n_receipts:
            return "verified: no receipts"
        signed = f"signed by {', '.join(key[:16] for key in self.public_keys)}" if self.public_keys else "unsigned"
        one = self.n_receipts == 1
        return (
            f"verified: a chain of {self.n_receipts} receipt{'' if one else 's'}, {signed}; "
            f"the newest is {self.n_receipts}:{self.head}"
        )


class ReceiptFolder:
    """A folder with one store's receipts: ``00000001.json`` and so on.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def new(cls, path: Path, owner: str) -> ReceiptFolder:
        """Make a folder for a store's receipts, which may be there but must be nobody's yet, and put its mark on it.

        Raises
        ------
        ReceiptError
            It cannot be made, or belongs to another store.
        """
        folder = cls(path.absolute())
        try:
            make_folder(folder.path)
            taken = folder.numbers()
        except OSError as error:
            raise ReceiptError(f"{path}: {error.strerror or error}") from error
        if taken:
            raise ReceiptError(f"{path} holds receipts already, of another store; choose another folder")
        try:
            write_new(folder.path / MARK, f"{owner}\n".encode())
        except FileExistsError:
            raise ReceiptError(
                f"{path} is meant for another store's receipts; choose another folder, or remove {MARK} from it if "
                "that store was never made"
            ) from None
        except OSError as error:
            raise ReceiptError(f"{path}: {error.strerror or error}") from error
        return folder

    def give_up(self) -> None:
        """Take the mark off again."""
        with suppress(OSError):
            (self.path / MARK).unlink()

    @property
    def owner(self) -> str:
        """Name of the store whose mark the folder has; empty if it has none."""
        try:
            return (self.path / MARK).read_text("ascii", "replace").strip()
        except OSError:
            return ""

    def numbers(self) -> list[int]:
        """Return the numbers of the receipts that are there, ascending; none if the folder is not there.

        Raises
        ------
        ReceiptError
            The folder cannot be read.
        """
        try:
            names = [file.name for file in self.path.iterdir()] if self.path.is_dir() else []
        except OSError as error:
            raise ReceiptError(f"{self.path}: {error.strerror or error}") from error
        return sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))

    def read(self, number: int) -> Receipt:
        """Read a receipt.

        Raises
        ------
        ReceiptError
            It is not there, or was changed.
        """
        file = self.file(number)
        if file.exists() and not file.is_file():
            raise ReceiptError(f"{file} is no file")
        try:
            return Receipt.from_bytes(file.read_bytes())
        except OSError as error:
            raise ReceiptError(f"{file}: {error.strerror or error}") from error
        except ReceiptError as error:
            raise ReceiptError(f"{file}: {error}") from None

    def publish(self, number: int, content: bytes, *, new_folder: bool = False) -> None:
        """Write a receipt, durably; nothing if it is there. The folder is made only if it is said that it may be new.

        Raises
        ------
        ReceiptError
            Another one is there.
        OSError
            It cannot be written.
        """
        if new_folder:
            make_folder(self.path)
        for partial in self.path.glob("[0-9]" * 8 + ".json.partial-*"):
            partial.unlink(missing_ok=True)
        try:
            write_new(self.file(number), content)
        except FileExistsError:
            if self.file(number).read_bytes() != content:
                raise ReceiptError(f"{self.file(number)} is another receipt than the store's") from None
            sync_folder(self.path)  # which may be what failed before

    def file(self, number: int) -> Path:
        """Return where a receipt lies."""
        return self.path / f"{number:08}.json"


def verify_receipts(
    folder: str | PathLike[str],
    *,
    head: tuple[int, str] | None = None,
    known: Iterable[tuple[int, str]] = (),
    public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
) -> ChainVerification:
    """Verify a folder of receipts, without the store that they are of.

    Parameters
    ----------
    folder : path
    head : (int, str) or None, default=None
        Number and hash (64 hexadecimal digits) of the newest receipt, as the store or whoever wrote it down knows
        them. Without it nobody can see that receipts are missing at the end, or, if they are not signed, that all were
        written anew.
    known : iterable of (int, str), default=()
        Number and hash of receipts that were written down earlier, and must be among them; newer ones may follow.
    public_keys : str, path or iterable of them, default=()
        Keys, in hex or as PEM files, one of which must have signed each receipt. Without any, signatures are checked by
        the keys that receipts bring.

    Raises
    ------
    ParameterError
        There is no such folder, or a key is none.
    MissingPackageError
        Receipts are signed, and the package cryptography is not installed.
    """
    path = checks.path("folder", folder)
    head = None if head is None else as_noted("head", head)
    noted = [as_noted("known", each) for each in checks.several("known", known)]
    if not path.is_dir() and (path.exists() or head is None or head[0]):
        raise ParameterError(f"{path} is no folder")
    return verify_chain(ReceiptFolder(path), head, noted, signing.as_public_keys(public_keys))[0]


def as_noted(name: str, given: object) -> tuple[int, str]:
    """Return number and hash of a receipt as somebody noted them; the hash in small letters.

    Raises
    ------
    ParameterError
        `given` is something else.
    """
    number, hash_ = given if isinstance(given, (tuple, list)) and len(given) == 2 else (None, None)
    if type(number) is int and number >= 0 and isinstance(hash_, str):
        hash_ = hash_.lower()
        if HASH.fullmatch(hash_) if number else hash_ in ("", NO_PREDECESSOR):
            return number, hash_
    raise ParameterError(f"{name} must be a number and a hash of 64 hexadecimal digits, got {given!r}")


def verify_chain(
    folder: ReceiptFolder,
    head: tuple[int, str] | None,
    known: Collection[tuple[int, str]] = (),
    keys: frozenset[str] = frozenset(),
    *,
    pending: Mapping[int, bytes] = MappingProxyType({}),
    upto: int | None = None,
) -> tuple[ChainVerification, list[Receipt]]:
    """Verify receipts as `verify_receipts` does, and return the sound ones too.

    Those that are not published yet count as if they were; those beyond a number do not count, if one is given.
    """
    numbers = [number for number in sorted({*folder.numbers(), *pending}) if upto is None or number <= upto]
    noted = {*known, *([head] if head else ())}
    last = max([*numbers, *(number for number, _ in noted)], default=0)
    problems: list[Problem] = []
    found: dict[int, Receipt] = {}
    for before, number in zip([0, *numbers], numbers, strict=False):
        # One problem for all of a gap, which may be of any size.
        if number > before + 1:
            others = f" ({number - before - 1} in all)" if number > before + 2 else ""
            problems.append(Problem(before + 1, "omitted", f"it is missing, though there are later ones{others}"))
        problems += _problems(folder, pending, number, found, keys)
    problems += _of_noted(found, max(numbers, default=0), noted, head)
    verification = ChainVerification(
        ok=not problems,
        n_receipts=len(numbers),
        head=found[last].hash if last in found else "",
        public_keys=tuple(sorted({receipt.public_key for receipt in found.values() if receipt.public_key})),
        problems=tuple(problems),
    )
    return verification, list(found.values())


def _problems(
    receipts: ReceiptFolder, pending: Mapping[int, bytes], number: int, found: dict[int, Receipt], keys: frozenset[str]
) -> Iterator[Problem]:
    """Yield what is wrong with one receipt; add it to those that were found."""
    try:
        published = number not in pending or receipts.file(number).exists()
        receipt = receipts.read(number) if published else Receipt.from_bytes(pending[number])
    except ReceiptError as error:
        yield Problem(number, "tampered", str(error))
        return
    if published and receipt.to_bytes() != pending.get(number, receipt.to_bytes()):
        yield Problem(number, "tampered", "it is another than the one that is to be published")
    if receipt.number != number:
        yield Problem(number, "reordered", f"it says that it is receipt {receipt.number}")
        return
    found[number] = receipt
    before = found.get(number - 1)
    if (before or number == 1) and receipt.previous != (before.hash if before else NO_PREDECESSOR):
        yield Problem(number, "tampered", "it does not follow from the one before: one of both was replaced")
    if receipt.store != next(iter(found.values())).store:
        yield Problem(number, "foreign", f"it is of the store {receipt.store}, unlike the first")
    if not receipt.is_balanced:
        yield Problem(number, "unbalanced", "what was there before is not what was left and what was removed")
    yield from _of_signature(receipt, keys)


def _of_signature(receipt: Receipt, keys: frozenset[str]) -> Iterator[Problem]:
    if not receipt.public_key:
        if keys:
            yield Problem(receipt.number, "unsigned", "it has no signature")
    elif not signing.is_signed_by(receipt.public_key, receipt.signature, receipt.message):
        yield Problem(receipt.number, "forged", "its signature is not that of its key")
    elif keys and receipt.public_key not in keys:
        yield Problem(
            receipt.number, "forged", f"it is signed by {receipt.public_key}, which is none of the keys given"
        )


def _of_noted(
    found: dict[int, Receipt], last: int, noted: Collection[tuple[int, str]], head: tuple[int, str] | None
) -> Iterator[Problem]:
    """Yield what is not as somebody noted it: that a receipt is there, and that one is the last."""
    beyond = [number for number, _ in noted if number > last]
    if beyond:
        yield Problem(max(beyond), "truncated", f"the newest there is receipt {last}, not {max(beyond)}")
    for number, hash_ in sorted(noted):
        if number in found and found[number].hash != hash_:
            yield Problem(number, "tampered", "it is another than the one that was written down")
    if head and last > head[0]:
        yield Problem(last, "newer", f"receipt {head[0]} was named as the newest, and there are later ones")
