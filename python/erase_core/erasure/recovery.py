"""Removals that stay done: what a crash cut short is finished, and what an old copy brings back is removed again.

Whoever opens the store after a crash goes on where it ended. A store that is older than its receipts is a copy from
before a removal: what they tell of is removed from it again.
"""

from __future__ import annotations

from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.erasure.removal import Removals, head_of
from erase_core.errors import ReceiptError
from erase_core.fs import locks
from erase_core.fs.status import exists, is_dir
from erase_core.store.model_cache import Clustering
from erase_core.store.store import Store

__all__ = ["Recovery"]


class Recovery:
    """What is to be done when a store is opened.

    Parameters
    ----------
    store : Store
    clustering : Clustering
    receipts : StoreReceipts
    removals : Removals
    """

    def __init__(self, store: Store, clustering: Clustering, receipts: StoreReceipts, removals: Removals) -> None:
        self._store, self._clustering, self._receipts, self._removals = store, clustering, receipts, removals

    def finish_what_others_left(self) -> None:
        """Finish removals whose process was killed or held up; not those that another process is about to finish.

        Raises
        ------
        ScrubError
        """
        with locks.exclusive(self._store.folder, 0) as is_alone:
            if not is_alone:
                return
            with self._store.reading() as reads:
                is_scrubbed = reads.metadata.is_scrubbed
            if not is_scrubbed:
                self._removals.finish()

    def catch_up(self) -> int | None:
        """Remove again what receipts tell of that the store does not know: it is a copy from before.

        Returns
        -------
        int or None
            How many examples; None if the store is no older than its receipts.

        Raises
        ------
        ReceiptError
            The receipts are not there, or not the store's, or some are missing or changed.
        """
        path = self._receipts.folder.path
        if not is_dir(path):
            if not (self._receipts.are_outside or exists(path)):
                return None
            raise ReceiptError(
                f"{self._store.folder}: the folder of its receipts, {path}, is not there, so that nobody can tell "
                "whether this is a copy from before a removal; bring it back, or name it (--receipts)"
            )
        with self._store.reading() as reads:
            self._receipts.check_there(reads)
        if not self._is_outdated():
            return None
        with self._clustering.writing() as tx:
            missed = self._receipts.missed(tx.metadata.head)
            if not missed:  # another process has been faster
                return None
            tokens = {bytes.fromhex(token) for receipt in missed for token in receipt.tokens}
            # By token those that came in again while the receipts were not there.
            ids = tx.known_by({bytes.fromhex(row) for receipt in missed for row in receipt.rows}, tokens)
            if ids:
                self._clustering.remove(tx, ids)
                tx.delete(ids)
            # Of what came in and was removed after the copy was made, too.
            tx.remember(tokens)
            tx.set_head(head_of(missed[-1]), is_current=False)
        return len(ids)

    def _is_outdated(self) -> bool:
        # In this order: who removes something just now writes it to the store first.
        newest = self._receipts.newest()
        with self._store.reading() as reads:
            head = reads.metadata.head
        return self._receipts.are_newer(head, newest)
