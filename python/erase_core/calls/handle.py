"""An open store together with its clustering, models, receipts and removals, and one lock for all threads.

Every call of `Erase` that reads the store's examples does so in `Handle.reading`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from erase_core.backends import Backends
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.erasure.removal import Removals
from erase_core.errors import StoreError
from erase_core.selection import select_demonstrations
from erase_core.store.model_cache import Clustering
from erase_core.store.reads import Reads
from erase_core.store.store import Store

__all__ = ["Handle"]


class Handle:
    """An open store.

    Parameters
    ----------
    store : Store
    models : Backends
    receipts : StoreReceipts

    Attributes
    ----------
    settings : Settings
    clustering : Clustering
    removals : Removals
    lock : RLock
        Held by every call of `Erase` while it uses the store or the models.
    """

    def __init__(self, store: Store, models: Backends, receipts: StoreReceipts) -> None:
        self.store, self.models, self.receipts = store, models, receipts
        self.settings = store.constants.settings
        self.clustering = Clustering(store)
        self.removals = Removals(store, self.clustering, receipts)
        self.lock = threading.RLock()
        self._generation: int | None = None

    @contextmanager
    def reading(self) -> Iterator[Reads]:
        """Make all reads in the block see the same state.

        If the store has changed since the last call, what the clustering and the language model have cached of the
        older state is dropped first. After the block, the snapshot is replaced if it was found to be missing or wrong.

        Raises
        ------
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        outermost = not self.store.busy
        with self.store.reading() as reads:
            generation = reads.metadata.generation
            if generation != self._generation:
                self.clustering.let_go(generation)
                self.models.forget()
                self._generation = generation
            yield reads
        if outermost and self.clustering.outdated:
            # If another process is writing, or this one may not write, another one repairs the snapshot.
            with suppress(StoreError, OSError), self.store.locked() as reads:
                self.clustering.repair(reads)

    def shown(self, reads: Reads) -> list[int | str]:
        """Return the ids of the demonstrations, in order; none with ``strategy="knn"``."""
        return select_demonstrations(self.settings, self.clustering.current(reads))

    def close(self) -> None:
        """Close the store, and overwrite what the language model has cached of prompts."""
        with self.lock:
            try:
                self.models.forget()
            finally:
                self.store.close()
