"""An open store together with its clustering, models, receipts and removals, and one lock for all threads.

Every call of `Erase` that reads the store's examples does so by `OpenStore.read`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TypeVar

from erase_core.backends import Backends
from erase_core.calls.calibrating import Priors
from erase_core.erasure.receipt_checks import StoreReceipts
from erase_core.erasure.removal import Removals
from erase_core.selection import possible_prompts
from erase_core.store.clustering import Clustering
from erase_core.store.key_file import KeyGoneError
from erase_core.store.reads import Reads
from erase_core.store.store import Store
from erase_core.store.user_key import KeySource

__all__ = ["OpenStore"]

T = TypeVar("T")


class OpenStore:
    """An open store.

    Parameters
    ----------
    store : Store
    backends : Backends
    receipts : StoreReceipts
    key : KeySource or None, default=None
        Where the key is from with which the store was opened.

    Attributes
    ----------
    settings : Settings
    clustering : Clustering
    removals : Removals
    priors : Priors
    shown : set of int or str
        Ids of the examples that calls have returned in prompts. The language model may keep something of them.
    lock : RLock
        Held by every call of `Erase` while it uses the store or the models.
    """

    def __init__(self, store: Store, backends: Backends, receipts: StoreReceipts, key: KeySource | None = None) -> None:
        self.store, self.backends, self.receipts, self.key = store, backends, receipts, key
        self.settings = store.constants.settings
        self.clustering = Clustering(store)
        self.removals = Removals(store, self.clustering, receipts)
        self.priors = Priors()
        self.shown: set[int | str] = set()
        self.lock = threading.RLock()
        # Of which the language model keeps prompts; None if it may keep some of what is forgotten.
        self._generation: int | None = None

    def read(self, use: Callable[[Reads], T]) -> T:
        """Return what a function reads from the store, all of it from one state.

        If the store has changed since the last call, the clustering follows, and what the language model has cached of
        removed examples is dropped. If another process forgets an example while it is read, its key is gone. The
        function is then called again with the newer state.

        Raises
        ------
        StoreError
            The store cannot be read: it was closed, moved or damaged.
        """
        before = None
        while True:
            with self.store.reading() as reads:
                generation = reads.state.generation
                try:
                    if generation != self._generation:
                        self._follow(reads)
                    return use(reads)
                except KeyGoneError as error:
                    if generation == before:
                        raise self.store.lacks_keys() from error
            before = generation

    def _follow(self, reads: Reads) -> None:
        try:
            self.clustering.refresh(reads)
        finally:
            self.forget_gone()
        self._generation = reads.state.generation

    def forget_gone(self, removed: Collection[int | str] = ()) -> None:
        """Drop what the language model has cached of prompts that showed an example that is gone by now.

        If it fails, or is interrupted, the next call that reads the store tries it again.

        Parameters
        ----------
        removed : collection of int or str, default=()
            Examples that this call has removed. A language model that has other handles, too, may keep something of
            them that this handle has not shown.

        Raises
        ------
        LLMError
        """
        before, self._generation = self._generation, None
        gone = self.clustering.take_gone()
        self.shown.update(removed)
        ids = None if before is None or gone is None else gone.union(removed)
        self.priors.forget(ids)
        self.backends.forget(ids, self.shown)
        if ids is None:
            self.shown.clear()
        else:
            self.shown.difference_update(ids)
        self._generation = before

    def prompts(self, reads: Reads) -> list[list[int | str]]:
        """Return all prompts that a query can get, as the ids of their demonstrations; none with ``strategy="knn"``."""
        return possible_prompts(self.settings, self.clustering.current(reads))

    def close(self) -> None:
        """Close the store, and overwrite what the language model has cached of prompts. See `Erase.close`."""
        with self.lock:
            self.priors.forget()
            try:
                self.backends.forget(None, self.shown)
            finally:
                self.store.close()
