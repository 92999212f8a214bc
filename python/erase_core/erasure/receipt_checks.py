"""Whether a store and its receipts belong together: before something is removed, published, or removed again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from erase_core.errors import ReceiptError
from erase_core.fs.status import exists, is_file
from erase_core.receipts.folder import ReceiptFolder
from erase_core.receipts.receipt import NO_PREDECESSOR, Receipt
from erase_core.receipts.signing import Signer, is_signed_by
from erase_core.store.metadata import Head
from erase_core.store.reads import Reads
from erase_core.store.store import Store

__all__ = ["StoreReceipts"]

FOLDER = "receipts"


class StoreReceipts:
    """The receipts of a store, and by which keys they are signed.

    Parameters
    ----------
    store : Store
    moved : Path or None, default=None
        Where the receipts lie; None for where the store says.
    signer : Signer or None, default=None
    public_keys : frozenset of str, default=()
        If there are any, one of them must have signed each receipt.

    Attributes
    ----------
    folder : ReceiptFolder
    are_outside : bool
        Whether they lie outside the store's folder.
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
        """Return the number of the newest receipt that is published; 0 if there is none."""
        return max(self.folder.numbers(), default=0)

    def check_may_remove(self, reads: Reads) -> None:
        """Check that something may be removed.

        Raises
        ------
        ReceiptError
            The store is older than its receipts, or its receipts are signed and there is no key.
        """
        head = reads.metadata.head
        self._check_newest(reads)
        if self.signer is None and (head.public_key or self.public_keys):
            signed = "the receipts of this store are signed" if head.public_key else "public keys are named"
            raise ReceiptError(
                f"{self.store_folder}: {signed}; give the key to sign with (signing_key, --signing-key); nothing was "
                "forgotten"
            )
        if self.signer and self.public_keys and self.signer.public_key not in self.public_keys:
            raise ReceiptError(
                f"{self.store_folder}: the key given to sign with is not one whose public key was given; nothing was "
                "forgotten"
            )
        self.check_pending(reads)
        if self.public_keys and head.number and not reads.pending():
            newest = self.folder.read(head.number)
            if newest.hash != head.hash:
                raise ReceiptError(f"{self.folder.file(head.number)} is not the store's; nothing was forgotten")
            self._check_signed(newest)

    def check_pending(self, reads: Reads) -> None:
        """Check that what is to be published is signed by a key that counts, if keys are named.

        Raises
        ------
        ReceiptError
        """
        for _, content in reads.pending() if self.public_keys else ():
            self._check_signed(Receipt.from_bytes(content))

    def check_there(self, reads: Reads) -> None:
        """Check that a folder outside is the store's: it has its mark, and the newest receipt that was published."""
        if not self.are_outside:
            return
        published = reads.metadata.head.number - len(reads.pending())
        theirs = self.folder.owner != reads.constants.name
        if theirs or (published > 0 and not exists(self.folder.file(published))):
            what = "is not the folder of this store's receipts" if theirs else f"has not the receipt {published}"
            raise ReceiptError(
                f"{self.folder.path} {what}: it is another folder, or its disk is not there; bring the receipts "
                "back, or name their folder (--receipts); if they are lost for good, name one within the store, "
                f"{self.store_folder / FOLDER}; nothing was changed"
            )

    def are_newer(self, head: Head, newest: int) -> bool:
        """Whether there are receipts that the store does not know; see that the newest that it knows is the same there.

        Raises
        ------
        ReceiptError
            It is another one.
        """
        if head.number and is_file(self.folder.file(head.number)):
            known = self.folder.read(head.number)
            if (known.store, known.hash) != (self._constants.name, head.hash):
                raise ReceiptError(
                    f"{self.folder.file(head.number)} is not the store's receipt {head.number}: these are another "
                    "store's receipts, or the store is a copy from before a removal that was used without them"
                )
        return newest > head.number

    def missed(self, head: Head) -> list[Receipt]:
        """Return the receipts that the store does not know, each seen to follow from the one before.

        Raises
        ------
        ReceiptError
            One is missing, or does not follow, or is not signed by a key that counts.
        """
        previous, missed = head.hash or NO_PREDECESSOR, []
        for number in range(head.number + 1, self.newest() + 1):
            if not exists(self.folder.file(number)):
                raise ReceiptError(f"{self.folder.file(number)} is missing, though there are later receipts")
            receipt = self.folder.read(number)
            told = (receipt.number, receipt.store, receipt.previous, receipt.is_balanced)
            if told != (number, self._constants.name, previous, True):
                raise ReceiptError(
                    f"{self.folder.file(number)} does not follow from the receipt that the store knows as its "
                    "newest: these are another store's receipts, or some were exchanged"
                )
            previous = receipt.hash
            missed.append(receipt)
        # Without named keys the newest signature is enough, which covers all before it: keys may have been rotated.
        keys = self.public_keys or {head.public_key, self.signer.public_key if self.signer else ""} - {""}
        for receipt in (missed if self.public_keys else missed[-1:]) if keys else ():
            if not _is_signed(receipt, keys):
                raise ReceiptError(
                    f"{self.folder.file(receipt.number)} is not signed by a key that counts: one that was given "
                    "(public_keys, --public-key), or else that of the receipts that the store knows; nothing was "
                    "removed"
                )
        return missed

    def _check_newest(self, reads: Reads) -> None:
        self.check_there(reads)
        if exists(self.folder.file(reads.metadata.head.number + 1)):
            raise ReceiptError(
                f"{self.store_folder} is older than its receipts in {self.folder.path}: a copy from before a "
                "removal; open it again, which removes what they tell of; nothing was forgotten"
            )

    def _check_signed(self, receipt: Receipt) -> None:
        if not _is_signed(receipt, self.public_keys):
            raise ReceiptError(
                f"{self.store_folder}: receipt {receipt.number} was made without a key that counts (public_keys, "
                "--public-key); nothing was forgotten, and nothing published"
            )


def _is_signed(receipt: Receipt, keys: Collection[str]) -> bool:
    return receipt.public_key in keys and is_signed_by(receipt.public_key, receipt.signature, receipt.message)
