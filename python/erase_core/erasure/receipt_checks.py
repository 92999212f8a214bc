"""Checks that a store and its receipts belong together, before a removal, its repetition, and the publishing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from erase_core.errors import ReceiptError
from erase_core.fs.status import exists, is_file
from erase_core.receipts.folder import ReceiptFolder
from erase_core.receipts.receipt import NO_PREDECESSOR, Receipt
from erase_core.receipts.signing import Signer, is_signed_by
from erase_core.store.reads import Reads
from erase_core.store.state import Head
from erase_core.store.store import Store

__all__ = ["StoreReceipts"]

FOLDER = "receipts"


class StoreReceipts:
    """The receipts of a store, and the keys that sign them.

    Parameters
    ----------
    store : Store
    moved : Path or None, default=None
        Folder of the receipts, if they were moved. None: the folder that the store names.
    signer : Signer or None, default=None
    public_keys : frozenset of str, default=()
        If given, one of them must have signed each receipt.

    Attributes
    ----------
    folder : ReceiptFolder
    are_outside : bool
        Whether the receipts are outside the store's folder.
    """

    def __init__(
        self,
        store: Store,
        moved: Path | None = None,
        signer: Signer | None = None,
        public_keys: frozenset[str] = frozenset(),
    ) -> None:
        self.store_folder, self._constants = store.folder, store.constants
        self.moved, self.signer, self.public_keys = moved, signer, public_keys
        path = moved or store.constants.receipts or store.folder / FOLDER
        self.are_outside = not path.resolve().is_relative_to(store.folder.resolve())
        self.folder = ReceiptFolder(path)

    def newest(self) -> int:
        """Return the number of the newest published receipt; 0 without receipts."""
        return max(self.folder.numbers(), default=0)

    def unpublished(self, reads: Reads) -> list[tuple[int, bytes]]:
        """Return the numbers and contents of the receipts that the store has and the folder does not."""
        return [(number, content) for number, content in reads.pending() if not is_file(self.folder.file(number))]

    def check_may_remove(self, reads: Reads) -> None:
        """Check that the receipts allow a removal.

        Raises
        ------
        ReceiptError
            The store is older than its receipts, a receipt is missing or invalid, or a key is missing.
        """
        head = reads.state.head
        self._check_newest(reads)
        if self.signer is None and (head.public_key or self.public_keys):
            signed = "the receipts of this store are signed" if head.public_key else "public keys are named"
            raise ReceiptError(
                f"{self.store_folder}: {signed}, but there is no key to sign with; nothing was forgotten. Give the key "
                "(signing_key, --signing-key)."
            )
        if self.signer and self.public_keys and self.signer.public_key not in self.public_keys:
            raise ReceiptError(
                f"{self.store_folder}: the signing key belongs to none of the named public keys; nothing was "
                "forgotten. Give the key of one of them, or name its public key too (public_keys, --public-key)."
            )
        self.check_pending(reads)
        if self.public_keys and head.number and not self.unpublished(reads):
            newest = self.folder.read(head.number)
            if newest.hash != head.hash:
                raise ReceiptError(
                    f"{self.folder.file(head.number)} is not the store's receipt; nothing was forgotten. Restore the "
                    "receipts of this store."
                )
            self._check_signed(newest)

    def check_pending(self, reads: Reads) -> None:
        """Check that the pending receipts are signed by one of the public keys, if there are any.

        Raises
        ------
        ReceiptError
        """
        for _, content in self.unpublished(reads) if self.public_keys else ():
            self._check_signed(Receipt.from_bytes(content))

    def check_folder(self, reads: Reads) -> None:
        """Check that a receipts folder outside belongs to the store: it has its name and its newest published receipt.

        Raises
        ------
        ReceiptError
        """
        if not self.are_outside:
            return
        published = reads.state.head.number - len(self.unpublished(reads))
        theirs = self.folder.owner != reads.constants.name
        if theirs or (published > 0 and not exists(self.folder.file(published))):
            what = "is not the receipts folder of this store" if theirs else f"does not contain receipt {published}"
            raise ReceiptError(
                f"{self.folder.path} {what}: it is another folder, or its disk is not mounted; nothing was changed. "
                "Restore the receipts, or name their folder (--receipts). If they are lost, name the folder "
                f"{self.store_folder / FOLDER} instead."
            )

    def are_newer(self, head: Head, newest: int) -> bool:
        """Whether there are receipts that the store does not know. Checks the newest receipt that it knows.

        Raises
        ------
        ReceiptError
            That receipt is not the store's.
        """
        if head.number and is_file(self.folder.file(head.number)):
            receipt = self.folder.read(head.number)
            if (receipt.store, receipt.hash) != (self._constants.name, head.hash):
                raise ReceiptError(
                    f"{self.folder.file(head.number)} is not the store's receipt {head.number}: the receipts are of "
                    "another store, or the store is an old copy in which something was forgotten without them. Restore "
                    "the receipts of this store."
                )
        return newest > head.number

    def missed(self, head: Head) -> list[Receipt]:
        """Return the receipts that the store does not know. Each is checked to follow from the one before.

        Raises
        ------
        ReceiptError
            A receipt is missing, does not follow, or is not signed by an accepted key.
        """
        previous, missed = head.hash or NO_PREDECESSOR, []
        for number in range(head.number + 1, self.newest() + 1):
            if not exists(self.folder.file(number)):
                raise ReceiptError(
                    f"{self.folder.file(number)} is missing, but there are later receipts. Restore the missing receipt."
                )
            receipt = self.folder.read(number)
            stated = (receipt.number, receipt.store, receipt.previous, receipt.is_balanced)
            if stated != (number, self._constants.name, previous, True):
                raise ReceiptError(
                    f"{self.folder.file(number)} does not follow from the newest receipt that the store knows: the "
                    "receipts are of another store, or some were exchanged. Restore the receipts of this store."
                )
            previous = receipt.hash
            missed.append(receipt)
        # Without public keys, the newest signature is enough: it covers all receipts before, and keys may have changed.
        keys = self.public_keys or {head.public_key, self.signer.public_key if self.signer else ""} - {""}
        for receipt in (missed if self.public_keys else missed[-1:]) if keys else ():
            if not _is_signed(receipt, keys):
                raise ReceiptError(
                    f"{self.folder.file(receipt.number)} is not signed by an accepted key; nothing was removed. "
                    "Accepted are the named public keys or, without any, the signing key and the key that the store "
                    "knows. Name the right ones (public_keys, --public-key), or restore the receipt."
                )
        return missed

    def _check_newest(self, reads: Reads) -> None:
        self.check_folder(reads)
        if exists(self.folder.file(reads.state.head.number + 1)):
            raise ReceiptError(
                f"{self.store_folder} is older than its receipts in {self.folder.path}: it is a copy from before a "
                "removal; nothing was forgotten. Open it again, which does that removal again."
            )

    def _check_signed(self, receipt: Receipt) -> None:
        if not _is_signed(receipt, self.public_keys):
            raise ReceiptError(
                f"{self.store_folder}: receipt {receipt.number} is not signed by a named public key; nothing was "
                "forgotten or published. If you trust its key, name it too (public_keys, --public-key)."
            )


def _is_signed(receipt: Receipt, keys: Collection[str]) -> bool:
    return receipt.public_key in keys and is_signed_by(receipt.public_key, receipt.signature, receipt.message)
