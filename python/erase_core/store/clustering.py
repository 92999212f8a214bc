"""The fitted model of a store. It is in no file, because it is a function of the rows, and a fit is faster.

What other processes change is followed in the log of changes. Only who is too far behind loads all rows.

The model is a `Model` of the core, not a `QKMeans`, because scikit-learn takes a second to import.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, NewType, cast

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core._core import Model, UpdateReport
from erase_core.errors import DataError, IdKindError, ParameterError, StoreError, UnknownIdError
from erase_core.receipts.receipt import UpdatePath
from erase_core.store.database import damage
from erase_core.store.key_file import KeyGoneError
from erase_core.store.reads import Reads
from erase_core.store.records import Changes
from erase_core.store.schema import FILE
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction

__all__ = ["Clustering", "ModelTransaction", "Update"]

ModelTransaction = NewType("ModelTransaction", WriteTransaction)
"""A transaction that may also change the model. `Clustering.writing` yields it."""


class Update(NamedTuple):
    """How the model was brought up to date.

    Parameters
    ----------
    path : {"certified", "replayed", "reseeded"}
        See `UpdateReport`.
    seconds : float
    """

    path: UpdatePath
    seconds: float


class Clustering:
    """The model of a store's examples in the store's current generation.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._model: Model | None = None
        # None: there is nothing in memory.
        self._generation: int | None = None
        self._ids: dict[int, int | str] = {}
        self._changed = False
        # Of examples that are gone since they were last taken; None if they are not known.
        self._gone: set[int | str] | None = None
        # The generation up to which they are.
        self._gone_until: int | None = None

    def current(self, reads: Reads) -> Model | None:
        """Return the model, brought up to date if the store has changed; None for a store without examples.

        Raises
        ------
        StoreError
            A fit of the vectors is not the model that the store was left with.
        """
        self.refresh(reads)
        if self._generation is None:
            # Read first: others may forget examples meanwhile.
            _ = reads.model_secret
            self._load(reads)
            if not reads.is_model(self._digest()):
                self._drop()
                raise StoreError(
                    f"{self._store.folder} is damaged: a fit of its vectors does not give its model. Restore a backup."
                )
            self._generation = reads.state.generation
        return self._model

    def digest(self, reads: Reads) -> str:
        """Return the digest of the model; empty for a store without examples. Errors are those of `current`."""
        self.current(reads)
        return self._digest()

    def refresh(self, reads: Reads) -> None:
        """Bring the model up to date if there is one and the store has changed, or drop it."""
        generation, known = reads.state.generation, self._generation
        if known is None and generation != self._gone_until:
            self._gone = None
        self._gone_until = generation
        if known is None or known == generation:
            return
        # An error must not leave a model that is half changed.
        gone = self._gone
        self._generation = self._gone = None
        changes = reads.changes_since(known)
        if changes is not None:
            left = {self._ids[slot] for slot in changes.gone if slot in self._ids}
            if self._follow(reads, changes):
                self._generation, self._gone = generation, None if gone is None else gone | left
                return
        self._drop()

    def take_gone(self) -> set[int | str] | None:
        """Return the ids of the examples that are gone since this was last called; None if they are not known.

        Gone are those that this process has removed, and those of others by the last `refresh`.
        """
        gone, self._gone = self._gone, set()
        return gone

    def fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model | None:
        """Fit a new model and return it, without changing the current one; None if there are no rows."""
        try:
            return self._fit(ids, vectors) if len(ids) else None
        except (DataError, IdKindError, ParameterError) as error:
            raise StoreError(f"{self._store.folder} is damaged: {error}. Restore a backup.") from error

    @contextmanager
    def writing(self, *, may_lack_model: bool = False) -> Iterator[ModelTransaction]:
        """Write to the store and the model. All is committed when the block ends without an error.

        Parameters
        ----------
        may_lack_model : bool, default=False
            Whether to go on if there are rows that do not open, so no model can be fitted. See `is_current`.
        """
        self._changed = False
        try:
            with self._store.writing() as tx:
                # Before the rows are changed, since it may have to be fitted from them.
                try:
                    self.current(tx)
                except (KeyGoneError, StoreError):
                    if not (may_lack_model and tx.n_unreadable()):
                        raise
                    self._drop()
                yield ModelTransaction(tx)
            if self._changed:
                self._generation = tx.state.generation
        except BaseException:
            if self._changed:
                self._drop()
            raise

    def is_current(self, reads: Reads) -> bool:
        """Whether the model of this state is in memory."""
        return self._generation == reads.state.generation

    def add(self, tx: ModelTransaction, slots: range, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model:
        """Add rows to the model, and return it."""
        self._changed, self._generation = True, None
        model = self._take_in(slots, ids, vectors)
        tx.set_model(self._digest())
        return model

    def trial(self, reads: Reads, ids: Sequence[int | str]) -> tuple[Update, Model | None]:
        """Return the update of `remove` and the resulting model, without changing anything."""
        model = copy.deepcopy(self._not_empty(self.current(reads)))
        report = model.remove(_of_one_kind(ids))
        return Update(report.path, report.seconds), model if model.n_rows else None

    def remove(
        self, tx: ModelTransaction, slots: Sequence[int], ids: Sequence[int | str]
    ) -> tuple[Update, Model | None]:
        """Remove rows from the model, and return the update and the resulting model."""
        if {self._ids.get(slot) for slot in slots} != set(ids):
            raise damage(self._store.folder / FILE, "ids")
        self._changed, self._generation = True, None
        report = self._take_out(slots, ids)
        if self._gone is not None:
            self._gone |= set(ids)
        tx.set_model(self._digest())
        return Update(report.path, report.seconds), self._model

    def refit(self, tx: WriteTransaction) -> tuple[Update, Model | None]:
        """Fit the rows as they are in a transaction, and return the update and the model."""
        start = time.perf_counter()
        self._load(tx)
        model = self._model
        tx.set_model(self._digest())
        # Whether the transaction is committed is not known here.
        self._drop()
        return Update("reseeded", time.perf_counter() - start), model

    def _drop(self) -> None:
        self._model, self._generation, self._ids, self._changed, self._gone = None, None, {}, False, None

    def _digest(self) -> str:
        return "" if self._model is None else self._model.digest()

    def _not_empty(self, model: Model | None) -> Model:
        if model is None:
            raise StoreError(f"{self._store.folder} is damaged: it has no model of its examples. Restore a backup.")
        return model

    def _follow(self, reads: Reads, changes: Changes) -> bool:
        """Do to the model what was done to the store, and return whether it is the store's model then."""
        gone = [slot for slot in changes.gone if slot in self._ids]
        slots, ids, vectors = reads.vectors(changes.came)
        try:
            if gone:
                self._take_out(gone, [self._ids[slot] for slot in gone])
            if slots:
                self._take_in(slots, ids, vectors)
        except (DataError, IdKindError, UnknownIdError):
            return False
        finally:
            vectors.fill(0)
        with suppress(KeyGoneError):  # there is a newer state already, with which it will be compared
            return reads.is_model(self._digest())
        return True

    def _load(self, reads: Reads) -> None:
        self._model, self._generation, self._ids = None, None, {}
        slots, ids, vectors = reads.vectors()
        try:
            self._model = self.fit(ids, vectors)
        finally:
            vectors.fill(0)
        self._ids = dict(zip(slots, ids, strict=True))

    def _take_in(self, slots: Sequence[int], ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model:
        if self._model is None:
            self._model = self._fit(ids, vectors)
        else:
            self._model.add(vectors, _of_one_kind(ids))
        self._ids |= zip(slots, ids, strict=True)
        return self._model

    def _take_out(self, slots: Sequence[int], ids: Sequence[int | str]) -> UpdateReport:
        model = self._not_empty(self._model)
        report = model.remove(_of_one_kind(ids))
        self._model = model if model.n_rows else None
        for slot in slots:
            del self._ids[slot]
        return report

    def _fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model:
        settings, axes = self._store.constants.settings, self._store.constants.axes
        return Model.fit(
            vectors,
            _of_one_kind(ids),
            n_clusters=settings.n_clusters,
            epsilon=checks.epsilon(settings.epsilon),
            gamma=checks.gamma(settings.gamma),
            max_iter=settings.max_iter,
            panel=checks.panel(settings.panel, settings.n_clusters),
            projection=checks.projection(settings.projection if axes is None else axes, vectors.shape[1]),
            max_norm=1.0,
            center=None,
            seed=settings.seed,
            n_threads=None,
            cache_bytes=None,
        )


def _of_one_kind(ids: Sequence[int | str]) -> list[int]:
    """Return ids as a list, cast for the type checker. The store ensures that all are integers or all are text."""
    return cast("list[int]", list(ids))
