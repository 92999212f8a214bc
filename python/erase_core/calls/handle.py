"""An open store and what works on it: clustering, models, receipts, removals, and one lock for a process's threads.

Every call of `Erase` that reads the store's examples reads them by `Handle.reading`.
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
        """Read the store as of one moment.

        If the store has changed since the last call, what the clustering and the language model keep of the older
        state is dropped first. Afterwards the snapshot is written anew if it is out of date.

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
            # A process that writes now, or may write here where this one may not, does so itself.
            with suppress(StoreError, OSError), self.store.locked() as reads:
                self.clustering.repair(reads)

    def shown(self, reads: Reads) -> list[int | str]:
        """Return the ids of the demonstrations, in their order; with ``strategy="knn"`` there are none."""
        return select_demonstrations(self.settings, self.clustering.current(reads))

    def close(self) -> None:
        """Close the store, and have the language model overwrite what it keeps of prompts."""
        with self.lock:
            self.models.forget()
            self.store.close()
