"""The fitted model of a store: kept in memory, and as a snapshot file in the store's folder.

The snapshot is a cache. It is used only if its digest is the one in the store; otherwise the model is fitted again from
the vectors. It is replaced before a write is committed, while no other process can write. So after a committed removal
no snapshot contains the removed row. A snapshot that is damaged, or was left by a killed process, is replaced by the
next process that finds it and can lock the store.

The model is a `Model` of the core, not a `QKMeans`, because scikit-learn takes a second to import.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NewType, cast

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core._core import Model, UpdateReport
from erase_core.errors import DataError, IdKindError, ModelFileError, ParameterError, StoreError, os_reason
from erase_core.fs.durable import discard
from erase_core.store.reads import LockedReads, Reads
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction

__all__ = ["Clustering", "ModelTransaction"]

FILE = "model.qkm"

ModelTransaction = NewType("ModelTransaction", WriteTransaction)
"""A transaction that may also change the model. `Clustering.writing` yields it."""


class Clustering:
    """The model of a store's examples in the store's current generation.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    outdated : bool
        Whether the snapshot was found to be missing or wrong, and has not been replaced yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._model: Model | None = None
        self._generation: int | None = None
        self._changed = False
        self.outdated = False

    @property
    def snapshot(self) -> Path:
        """Path of the snapshot."""
        return self._store.folder / FILE

    def current(self, reads: Reads) -> Model | None:
        """Return the model, loaded or fitted again if the store has changed; None for a store without examples.

        Raises
        ------
        StoreError
            A fit of the vectors does not have the digest that is in the store.
        """
        generation = reads.metadata.generation
        if generation != self._generation:
            self._model = self._load(reads) if reads.metadata.digest else None
            self._generation = generation
            self.outdated |= self.has_leftovers() or (self._model is None and any(self._files()))
        return self._model

    def drop_if_stale(self, generation: int) -> None:
        """Drop the model if it belongs to another generation than the given one."""
        if generation != self._generation:
            self._model = self._generation = None

    def fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model | None:
        """Fit a new model and return it, without changing the current one; None if there are no rows."""
        try:
            return self._fit(ids, vectors) if ids else None
        except (DataError, IdKindError, ParameterError) as error:
            raise StoreError(f"{self._store.folder} is damaged: {error}. Restore a backup.") from error

    def has_leftovers(self) -> bool:
        """Whether a killed process has left an incomplete snapshot."""
        return any(file != self.snapshot for file in self._files())

    def repair(self, reads: LockedReads) -> None:
        """Replace a snapshot that is missing or wrong, and delete incomplete ones."""
        model, self.outdated = self.current(reads), False
        sound = model is not None and self.snapshot_digest() == model.digest()
        if not sound or self.has_leftovers():
            self._unlink()
            self._save()

    def snapshot_digest(self) -> str:
        """Return the digest of the snapshot; empty if it is missing or invalid."""
        with suppress(ModelFileError, OSError):
            return Model.load(self.snapshot, None, None).digest()
        return ""

    @contextmanager
    def writing(self) -> Iterator[ModelTransaction]:
        """Write to the store, the model and its snapshot. All is committed when the block ends without an error."""
        self._changed = False
        try:
            with self._store.writing() as tx:
                # Load the model now: it may have to be fitted from the rows as they are before the change.
                self.current(tx)
                yield ModelTransaction(tx)
                if self._changed:
                    self._generation = tx.metadata.generation + 1
        except BaseException:
            if self._changed:
                self._discard()
            raise

    def add(self, tx: ModelTransaction, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> UpdateReport | None:
        """Add rows to the model, and return the report; None if they are the first rows."""
        model, self._generation, self._changed = self.current(tx), None, True
        if model is None:
            self._model = self._fit(ids, vectors)
            report = None
        else:
            report = model.add(vectors, _of_one_kind(ids))
        self._announce(tx)
        return report

    def trial(self, reads: Reads, ids: Sequence[int | str]) -> tuple[UpdateReport, Model | None]:
        """Return the report of `remove` and the resulting model, without changing anything."""
        model = copy.deepcopy(self._not_empty(reads))
        report = model.remove(_of_one_kind(ids))
        return report, model if model.n_rows else None

    def remove(self, tx: ModelTransaction, ids: Sequence[int | str]) -> tuple[UpdateReport, Model | None]:
        """Remove rows from the model, and return the report and the resulting model."""
        model, self._generation, self._changed = self._not_empty(tx), None, True
        report = model.remove(_of_one_kind(ids))
        self._model = model if model.n_rows else None
        self._announce(tx)
        return report, self._model

    def _discard(self) -> None:
        """Drop the model and delete the snapshot, because the change by `add` or `remove` was not committed."""
        self._model = self._generation = None
        with suppress(OSError):
            self._unlink()

    def _not_empty(self, reads: Reads) -> Model:
        model = self.current(reads)
        if model is None:
            raise StoreError(f"{self._store.folder} is damaged: it has no model of its examples. Restore a backup.")
        return model

    def _announce(self, tx: ModelTransaction) -> None:
        tx.set_digest("" if self._model is None else self._model.digest())
        try:
            self._unlink()
        except OSError as error:
            raise StoreError(f"{self.snapshot}: {os_reason(error)}; nothing was changed") from error
        self._save()
        self.outdated = False

    def _save(self) -> None:
        if self._model is not None:
            # The snapshot can be made again, so a full disk is not a failure.
            with suppress(OSError):
                self._model.save(self.snapshot)

    def _unlink(self) -> None:
        """Overwrite and delete the snapshot, and incomplete ones of killed processes."""
        for file in self._files():
            with suppress(FileNotFoundError):
                discard(file)

    def _files(self) -> list[Path]:
        return list(self._store.folder.glob(f"{FILE}*"))

    def _load(self, reads: Reads) -> Model:
        with suppress(ModelFileError, OSError):
            model = Model.load(self.snapshot, None, None)
            if model.digest() == reads.metadata.digest:
                return model
        self.outdated = True
        ids, vectors = reads.vectors()
        refit = self.fit(ids, vectors)
        vectors.fill(0)
        if refit is None or refit.digest() != reads.metadata.digest:
            raise StoreError(
                f"{self._store.folder} is damaged: a fit of its vectors does not give its model. Restore a backup."
            )
        return refit

    def _fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model:
        settings, axes = self._store.constants.settings, self._store.constants.axes
        return Model.fit(
            vectors,
            _of_one_kind(ids),
            n_clusters=settings.n_shots,
            epsilon=checks.epsilon(settings.epsilon),
            gamma=checks.gamma(settings.gamma),
            max_iter=settings.max_iter,
            panel=checks.panel(settings.panel, settings.n_shots),
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
