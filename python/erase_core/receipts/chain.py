"""Verification of a chain of receipts. It does not need the store.

The rules are pure functions: `ReceiptFolder.collect` reads the receipts first. Nothing here needs the store that the
receipts are of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from erase_core import checks
from erase_core.errors import ParameterError, ReceiptError, printable
from erase_core.fs.status import exists, is_dir
from erase_core.receipts import signing
from erase_core.receipts.folder import FoundReceipt, ReceiptFolder
from erase_core.receipts.problem import Problem
from erase_core.receipts.receipt import NO_PREDECESSOR, Receipt, ReceiptRef, as_receipt_ref

__all__ = ["ChainVerification", "judge_chain", "verify_receipts"]


@dataclass(frozen=True)
class ChainVerification:
    """The result of verifying a chain of receipts: whether it is complete and unmodified.

    Parameters
    ----------
    ok : bool
        Whether there are no problems.
    n_receipts : int
        Number of receipts found, valid or not.
    head : str
        Hash of the newest receipt, in hex. Empty if there are no receipts, or the newest is missing or modified.
    public_keys : tuple of str
        Keys by which receipts are signed.
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


def verify_receipts(
    folder: str | PathLike[str],
    *,
    head: tuple[int, str] | None = None,
    known: Iterable[tuple[int, str]] = (),
    public_keys: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
) -> ChainVerification:
    """Verify a folder of receipts, without their store.

    Parameters
    ----------
    folder : path
    head : (int, str) or None, default=None
        Number and hash (64 hexadecimal digits) of the newest receipt, from the store or from a note. Without it,
        receipts missing at the end cannot be detected, nor, if receipts are not signed, a chain that was replaced as a
        whole.
    known : iterable of (int, str), default=()
        Number and hash of receipts that were written down earlier. They must be present; newer receipts may follow.
    public_keys : str, path or iterable of them, default=()
        Keys, in hex or as PEM files. Each receipt must be signed by one of them. Without keys, signatures are checked
        by the keys in the receipts themselves.

    Raises
    ------
    ParameterError
        The folder does not exist, or a key is invalid.
    MissingPackageError
        Receipts are signed, and the package cryptography is not installed.
    """
    path = checks.path("folder", folder)
    newest = None if head is None else as_receipt_ref("head", head)
    noted = [as_receipt_ref("known", each) for each in checks.several("known", known)]
    if not is_dir(path) and (exists(path) or newest is None or newest.number):
        raise ParameterError(f"{path} is not a folder")
    keys = signing.as_public_keys(public_keys)
    return judge_chain(ReceiptFolder(path).collect(), newest, noted, keys)


def judge_chain(
    found: Sequence[FoundReceipt],
    head: ReceiptRef | None,
    known: Collection[ReceiptRef] = (),
    keys: frozenset[str] = frozenset(),
) -> ChainVerification:
    """Judge receipts as `verify_receipts` does. Reads no files.

    Parameters
    ----------
    found : sequence of FoundReceipt
        As `ReceiptFolder.collect` returns them.
    head, known, keys
        See `verify_receipts`.

    Raises
    ------
    MissingPackageError
        Receipts are signed, and the package cryptography is not installed.
    """
    noted = {*known, *([head] if head else ())}
    newest = found[-1].number if found else 0
    in_place = {each.number: receipt for each in found if (receipt := each.in_place)}
    problems = [*_of_receipts(found, in_place, keys), *_of_noted(in_place, newest, noted, head)]
    last = max([newest, *(ref.number for ref in noted)])
    return ChainVerification(
        ok=not problems,
        n_receipts=len(found),
        head=in_place[last].hash if last in in_place else "",
        public_keys=tuple(sorted({receipt.public_key for receipt in in_place.values() if receipt.public_key})),
        problems=tuple(problems),
    )


def _of_receipts(
    found: Sequence[FoundReceipt], in_place: Mapping[int, Receipt], keys: frozenset[str]
) -> Iterator[Problem]:
    """Yield the problems of each receipt, and of gaps between receipts."""
    store = next((receipt.store for receipt in in_place.values()), "")
    before = 0
    for each in found:
        number = each.number
        # One problem for a whole gap, since it may be very large.
        if number > before + 1:
            others = f" ({number - before - 1} in all)" if number > before + 2 else ""
            yield Problem(before + 1, "omitted", f"it is missing, but there are later ones{others}")
        yield from _of_receipt(each, in_place.get(number - 1), store, keys)
        before = number


def _of_receipt(found: FoundReceipt, before: Receipt | None, store: str, keys: frozenset[str]) -> Iterator[Problem]:
    """Yield the problems of one receipt, given the receipt before it and the store of the first."""
    number, receipt = found.number, found.receipt
    if isinstance(receipt, ReceiptError):
        yield Problem(number, "tampered", str(receipt))
        return
    if found.is_replaced:
        yield Problem(number, "tampered", "it differs from the one that is to be published")
    if receipt.number != number:
        yield Problem(number, "reordered", f"its own number is {receipt.number}")
        return
    if (before or number == 1) and receipt.previous != (before.hash if before else NO_PREDECESSOR):
        yield Problem(number, "tampered", "it does not continue the previous receipt: one of the two was replaced")
    if receipt.store != store:
        yield Problem(number, "foreign", f"it belongs to the store {receipt.store}, unlike the first receipt")
    if not receipt.is_balanced:
        yield Problem(
            number, "unbalanced", "the examples before the removal are not the remaining and the removed ones"
        )
    yield from _of_signature(receipt, keys)


def _of_signature(receipt: Receipt, keys: frozenset[str]) -> Iterator[Problem]:
    if not receipt.public_key:
        if keys:
            yield Problem(receipt.number, "unsigned", "it has no signature")
    elif not signing.is_signed_by(receipt.public_key, receipt.signature, receipt.message):
        yield Problem(receipt.number, "forged", "its signature does not match its key")
    elif keys and receipt.public_key not in keys:
        yield Problem(
            receipt.number, "forged", f"it is signed by {receipt.public_key}, which is not one of the given keys"
        )


def _of_noted(
    found: Mapping[int, Receipt], last: int, noted: Collection[ReceiptRef], head: ReceiptRef | None
) -> Iterator[Problem]:
    """Yield where the chain contradicts the receipts that were written down: missing, different or later ones."""
    beyond = [ref.number for ref in noted if ref.number > last]
    if beyond:
        yield Problem(max(beyond), "truncated", f"the newest receipt found is {last}, not {max(beyond)}")
    for ref in sorted(noted):
        if ref.number in found and found[ref.number].hash != ref.hash:
            yield Problem(ref.number, "tampered", "it differs from the one that was written down")
    if head and last > head.number:
        yield Problem(last, "newer", f"receipt {head.number} was named as the newest, but there are later ones")
