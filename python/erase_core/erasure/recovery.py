"""Recovery when a store is opened: finishes interrupted removals, and does removals again that an old copy lacks.

A store that is older than its receipts is a copy from before a removal. The removals that its receipts record are then
done again. So is a store whose model has a secret that the key file no longer has: its model is fitted again.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from erase_core.commitments import EMPTY, plus
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.erasure.removal import Removals, head_of
from erase_core.errors import ReceiptError, StoreError, StoreLockedError
from erase_core.fs import locks
from erase_core.fs.status import exists, is_dir
from erase_core.store.clustering import Clustering
from erase_core.store.key_file import KeyGoneError
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction

__all__ = ["Recovery"]

# Writes without a removal after which the secret is overwritten: a second of hashing.
MANY_GENERATIONS = 2**20


class Recovery:
    """The recovery of a store that is opened.

    Parameters
    ----------
    store : Store
    clustering : Clustering
    receipts : StoreReceipts
    removals : Removals
    """

    def __init__(self, store: Store, clustering: Clustering, receipts: StoreReceipts, removals: Removals) -> None:
        self._store, self._clustering, self._receipts, self._removals = store, clustering, receipts, removals

    def finish_what_others_left(self) -> int:
        """Finish what a killed process left, unless another process does so: removals, and keys that no example has.

        Returns
        -------
        int
            Number of keys that no example had.

        Raises
        ------
        ScrubError
        """
        with locks.exclusive(self._store.folder, 0) as acquired:
            if not acquired:
                return 0
            if not self._removals.are_finished():
                self._removals.finish()
            self._store.clear_replaced()
            with suppress(OSError):
                self._receipts.folder.clear_unfinished()
            self._shorten_way_to_secret()
            n_unused = self._destroy_unused_keys()
            self._store.windows.clear_unfinished()
            self._store.windows.delete(self._store.left_windows())
            return n_unused

    def catch_up(self) -> int | None:
        """Do again the removals that receipts record but the store does not know. It is then an old copy.

        Returns
        -------
        int or None
            Number of examples removed; None if the store is not older than its receipts.

        Raises
        ------
        ReceiptError
            Receipts are missing or modified, or belong to another store.
        """
        path = self._receipts.folder.path
        if not is_dir(path):
            if not (self._receipts.are_outside or exists(path)):
                return None
            raise ReceiptError(
                f"{self._store.folder}: the receipts folder {path} was not found. Without it, a copy from before a "
                "removal cannot be detected. Restore the folder, or name it if it was moved (--receipts)."
            )
        with self._store.reading() as reads:
            self._receipts.check_folder(reads)
        if not (self._is_outdated() or self._is_without_secret()):
            return None
        with self._store.writing() as tx:
            missed = self._receipts.missed(tx.state.head)
            if not missed and not self._may_adopt(tx):  # another process has done it
                return None
            tokens = {bytes.fromhex(token) for receipt in missed for token in receipt.tokens}
            # Tokens find examples that were added again, with a new hash, while the receipts were missing.
            slots = tx.slots_matching({bytes.fromhex(row) for receipt in missed for row in receipt.rows}, tokens)
            # All tokens, also those of examples that were added and removed after the copy was made.
            tx.delete(tx.rows_in(slots), tokens)
            try:
                self._clustering.refit(tx)
            except (KeyGoneError, StoreError):
                # Other examples do not open. The store must open, so that they can be forgotten by their ids.
                if not tx.n_unreadable():
                    raise
            if missed:
                tx.is_to_finish()
                tx.state.head, tx.state.head_is_current = head_of(missed[-1]), False
        return len(slots)

    def _is_outdated(self) -> bool:
        # In this order, because a removal in progress is written to the store before its receipt is published.
        newest = self._receipts.newest()
        with self._store.reading() as reads:
            head = reads.state.head
        return self._receipts.are_newer(head, newest)

    def _is_without_secret(self) -> bool:
        """Whether the store is a copy from before a removal that no receipt shows, so the secret of its model is gone.

        That was a removal by `catch_up` itself, after a still older copy was put back; or its receipt is lost.
        """
        # In this order, because a removal is committed before the secret is overwritten.
        generation = self._store.keys.generation
        with self._store.reading() as reads:
            return reads.state.model_generation < generation

    def _may_adopt(self, tx: WriteTransaction) -> bool:
        """Whether the secret of the model is gone, but all examples are there, unchanged. Then it is fitted again."""
        if tx.state.model_generation >= self._store.keys.generation:
            return False
        try:
            hashes = [row_hash for _, _, row_hash, _ in tx.checked_rows()]
        except (KeyGoneError, StoreError):  # their ids may be known, by which they can be forgotten
            return False
        return plus(EMPTY, hashes) == tx.state.commitment

    def _shorten_way_to_secret(self) -> None:
        """Overwrite the secret if the newest one takes long to compute, after many writes without a removal."""
        with self._store.reading() as reads:
            newest = reads.state.model_generation
        if newest - self._store.keys.generation > MANY_GENERATIONS:
            self._store.destroy((), newest)

    def _destroy_unused_keys(self) -> int:
        """Destroy keys that no example has: of an ingest that was killed, or of an old copy that was put back."""
        with self._store.reading() as reads:
            if len(reads.used_slots()) == len(reads):
                return 0
        with suppress(StoreLockedError), self._store.locked() as reads:
            used, taken = reads.used_slots(), reads.taken_slots()
            # Examples without keys: one of the files is an old copy, and its other half may be put back.
            if not len(np.setdiff1d(taken, used)):
                unused: list[int] = np.setdiff1d(used, taken).tolist()
                self._store.destroy(unused)
                return len(unused)
        return 0
