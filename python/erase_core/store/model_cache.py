"""The fitted model of a store: derived from it, kept in memory and as a snapshot beside it.

The snapshot is a cache. It is taken only if its digest is the one that the store tells, and otherwise made anew from
the vectors. It is replaced before a write counts, while no other process can write: so a removal that counts has never
left a snapshot behind that holds the row. One that was damaged, or left by a process that was killed, is replaced by
whoever finds it and can keep others from writing meanwhile.

The model is the core's own, not a `QKMeans`: that is a scikit-learn estimator, and scikit-learn takes a second to
import.
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
from erase_core.errors import DataError, IdKindError, ModelFileError, ParameterError, StoreError
from erase_core.fs.durable import discard
from erase_core.store.reads import LockedReads, Reads
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction

__all__ = ["Clustering", "ModelTransaction"]

FILE = "model.qkm"

ModelTransaction = NewType("ModelTransaction", WriteTransaction)
"""A transaction in which the model changes too. Had from `Clustering.writing`."""


class Clustering:
    """The model of a store's examples, as of the store's present generation.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    outdated : bool
        Whether the snapshot was found to be missing or another model's, and was not made good yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._model: Model | None = None
        self._generation: int | None = None
        self._changed = False
        self.outdated = False

    @property
    def snapshot(self) -> Path:
        """Where the snapshot lies."""
        return self._store.folder / FILE

    def current(self, reads: Reads) -> Model | None:
        """Return the model, read or made anew if the store has changed; None for a store without examples.

        Raises
        ------
        StoreError
            The vectors do not give the model whose digest the store tells.
        """
        generation = reads.metadata.generation
        if generation != self._generation:
            self._model = self._load(reads) if reads.metadata.digest else None
            self._generation = generation
            self.outdated |= self.has_leftovers() or (self._model is None and any(self._files()))
        return self._model

    def let_go(self, generation: int) -> None:
        """Let go of the model if it is of another generation than this one."""
        if generation != self._generation:
            self._model = self._generation = None

    def fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model | None:
        """Return a model by a fit, apart from the one that is kept up to date; None for no rows."""
        try:
            return self._fit(ids, vectors) if ids else None
        except (DataError, IdKindError, ParameterError) as error:
            raise StoreError(f"{self._store.folder} is damaged: {error}; restore a backup") from error

    def has_leftovers(self) -> bool:
        """Whether a process that was killed has left a part of a snapshot."""
        return any(file != self.snapshot for file in self._files())

    def repair(self, reads: LockedReads) -> None:
        """Put the model's snapshot in place of one that is missing or another's."""
        model, self.outdated = self.current(reads), False
        sound = model is not None and self.snapshot_digest() == model.digest()
        if not sound or self.has_leftovers():
            self._unlink()
            self._save()

    def snapshot_digest(self) -> str:
        """Return the digest of the snapshot; empty if there is none, or none that is sound."""
        with suppress(ModelFileError, OSError):
            return Model.load(self.snapshot, None, None).digest()
        return ""

    @contextmanager
    def writing(self) -> Iterator[ModelTransaction]:
        """Write to the store, with the model and its snapshot: all counts when this ends without an error."""
        self._changed = False
        try:
            with self._store.writing() as tx:
                # Before the rows change that it may have to be made of.
                self.current(tx)
                yield ModelTransaction(tx)
                if self._changed:
                    self._generation = tx.metadata.generation + 1
        except BaseException:
            if self._changed:
                self._discard()
            raise

    def add(self, tx: ModelTransaction, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> UpdateReport | None:
        """Add rows to the model, and return what that did; None if they are the first."""
        model, self._generation, self._changed = self.current(tx), None, True
        if model is None:
            self._model = self._fit(ids, vectors)
            report = None
        else:
            report = model.add(vectors, _of_one_kind(ids))
        self._announce(tx)
        return report

    def trial(self, reads: Reads, ids: Sequence[int | str]) -> tuple[UpdateReport, Model | None]:
        """Return what `remove` would do, and the model it would leave."""
        model = copy.deepcopy(self._not_empty(reads))
        report = model.remove(_of_one_kind(ids))
        return report, model if model.n_rows else None

    def remove(self, tx: ModelTransaction, ids: Sequence[int | str]) -> tuple[UpdateReport, Model | None]:
        """Remove rows from the model, and return what that did and the model."""
        model, self._generation, self._changed = self._not_empty(tx), None, True
        report = model.remove(_of_one_kind(ids))
        self._model = model if model.n_rows else None
        self._announce(tx)
        return report, self._model

    def _discard(self) -> None:
        """Let go of the model and of the snapshot, since what `add` or `remove` did does not count."""
        self._model = self._generation = None
        with suppress(OSError):
            self._unlink()

    def _not_empty(self, reads: Reads) -> Model:
        model = self.current(reads)
        if model is None:
            raise StoreError(f"{self._store.folder} is damaged: it has no model of its examples; restore a backup")
        return model

    def _announce(self, tx: ModelTransaction) -> None:
        tx.set_digest("" if self._model is None else self._model.digest())
        try:
            self._unlink()
        except OSError as error:
            raise StoreError(f"{self.snapshot}: {error.strerror or error}; nothing was changed") from error
        self._save()
        self.outdated = False

    def _save(self) -> None:
        if self._model is not None:
            # It can be made anew, so that a disk which is full is no reason to fail.
            with suppress(OSError):
                self._model.save(self.snapshot)

    def _unlink(self) -> None:
        """Overwrite and unlink the snapshot, and what a process that was killed left of one."""
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
                f"{self._store.folder} is damaged: its vectors do not give the model that it tells of; restore a backup"
            )
        return refit

    def _fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> Model:
        settings, axes = self._store.constants.settings, self._store.constants.axes
        return Model.fit(
            vectors,
            _of_one_kind(ids),
            n_clusters=settings.n_shots,
            epsilon=checks.ratio("epsilon", settings.epsilon, 0, checks.MAX_EPSILON),
            gamma=checks.ratio("gamma", settings.gamma, None, 1),
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
    """Tell the type checker what the store ensures: all are integers, or all are text."""
    return cast("list[int]", list(ids))
