"""The fitted model of a store: derived from it, kept in memory and as a snapshot beside it.

The snapshot is a cache. It is taken only if its digest is the one that the store tells, and otherwise made anew from
the vectors. It is replaced before a write counts, while no other process can write: so a removal that counts has never
left a snapshot behind that holds the row. One that was damaged, or left by a process that was killed, is replaced by
whoever finds it and can keep others from writing meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from erase_core._core import UpdateReport
from erase_core.errors import DataError, IdKindError, ModelFileError, ParameterError, StoreError
from erase_core.files import discard
from erase_core.kmeans import QKMeans
from erase_core.store import Store

__all__ = ["Clustering"]

FILE = "model.qkm"


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
        self._model: QKMeans | None = None
        self._generation: int | None = None
        self._changed = False
        self.outdated = False

    @property
    def snapshot(self) -> Path:
        """Where the snapshot lies."""
        return self._store.folder / FILE

    def current(self) -> QKMeans | None:
        """Return the model, read or made anew if the store has changed; None for a store without examples.

        To be called within `reading` or `writing` of the store.

        Raises
        ------
        StoreError
            The vectors do not give the model whose digest the store tells.
        """
        generation = self._store.facts.generation
        if generation != self._generation:
            self._model = self._load() if self._store.facts.digest else None
            self._generation = generation
            self.outdated |= self.has_leftovers() or (self._model is None and any(self._files()))
        return self._model

    def let_go(self, generation: int) -> None:
        """Let go of the model if it is of another generation than this one."""
        if generation != self._generation:
            self._model = self._generation = None

    def fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> QKMeans | None:
        """Return a model by a fit, apart from the one that is kept up to date; None for no rows."""
        try:
            return self._fit(ids, vectors) if ids else None
        except (DataError, IdKindError, ParameterError) as error:
            raise StoreError(f"{self._store.folder} is damaged: {error}; restore a backup") from error

    def has_leftovers(self) -> bool:
        """Whether a process that was killed has left a part of a snapshot."""
        return any(file != self.snapshot for file in self._files())

    def repair(self) -> None:
        """Put the model's snapshot in place of one that is missing or another's. To be called within `locked`."""
        model, self.outdated = self.current(), False
        sound = model is not None and self.snapshot_digest() == model.digest()
        if not sound or self.has_leftovers():
            self._unlink()
            self._save()

    def snapshot_digest(self) -> str:
        """Return the digest of the snapshot; empty if there is none, or none that is sound."""
        with suppress(ModelFileError, OSError):
            return QKMeans.load(self.snapshot).digest()
        return ""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write to the store, with the model and its snapshot: all counts when this ends without an error."""
        self._changed = False
        try:
            with self._store.writing():
                # Before the rows change that it may have to be made of.
                self.current()
                yield
                if self._changed:
                    self._generation = self._store.facts.generation + 1
        except BaseException:
            if self._changed:
                self._discard()
            raise

    def add(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> UpdateReport | None:
        """Add rows to the model; None if they are the first. To be called within `writing`."""
        model, self._generation, self._changed = self.current(), None, True
        if model is None:
            self._model = self._fit(ids, vectors)
            report = None
        else:
            report = model.add(vectors, ids=_of_one_kind(ids))
        self._announce()
        return report

    def trial(self, ids: Sequence[int | str]) -> tuple[UpdateReport, QKMeans | None]:
        """Return what `remove` would do, and the model it would leave."""
        model = copy.deepcopy(self._not_empty())
        report = model.remove(_of_one_kind(ids))
        return report, model if len(model.ids_) else None

    def remove(self, ids: Sequence[int | str]) -> tuple[UpdateReport, QKMeans | None]:
        """Remove rows from the model, and return what that did and the model. To be called within `writing`."""
        model, self._generation, self._changed = self._not_empty(), None, True
        report = model.remove(_of_one_kind(ids))
        self._model = model if len(model.ids_) else None
        self._announce()
        return report, self._model

    def _discard(self) -> None:
        """Let go of the model and of the snapshot, since what `add` or `remove` did does not count."""
        self._model = self._generation = None
        with suppress(OSError):
            self._unlink()

    def _not_empty(self) -> QKMeans:
        model = self.current()
        if model is None:
            raise StoreError(f"{self._store.folder} is damaged: it has no model of its examples; restore a backup")
        return model

    def _announce(self) -> None:
        self._store.set_digest("" if self._model is None else self._model.digest())
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

    def _load(self) -> QKMeans:
        with suppress(ModelFileError, OSError):
            model = QKMeans.load(self.snapshot)
            if model.digest() == self._store.facts.digest:
                return model
        self.outdated = True
        ids, vectors = self._store.vectors()
        refit = self.fit(ids, vectors)
        vectors.fill(0)
        if refit is None or refit.digest() != self._store.facts.digest:
            raise StoreError(
                f"{self._store.folder} is damaged: its vectors do not give the model that it tells of; restore a backup"
            )
        return refit

    def _fit(self, ids: Sequence[int | str], vectors: NDArray[np.float32]) -> QKMeans:
        settings, axes = self._store.facts.settings, self._store.facts.axes
        model: QKMeans = QKMeans(
            settings.n_shots,
            epsilon=settings.epsilon,
            gamma=settings.gamma,
            max_iter=settings.max_iter,
            panel=settings.panel,
            projection=settings.projection if axes is None else axes,
            max_norm=1.0,
            random_state=settings.seed,
        )
        model._fit(vectors, _of_one_kind(ids), at_least=1)
        return model


def _of_one_kind(ids: Sequence[int | str]) -> list[int]:
    """Tell the type checker what the store ensures: all are integers, or all are text."""
    return cast("list[int]", list(ids))
