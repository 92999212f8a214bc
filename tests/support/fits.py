"""Fits of any number of rows, and everything that can be seen of a model.

It judges nothing. A fit here goes through `erase_core._core.Model.fit`, since `QKMeans.fit` refuses fewer rows than
clusters while a removal never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import oracle
from erase_core import QKMeans
from erase_core._core import Model
from numpy.typing import NDArray

Id = int | str
Row = list[float]
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Config:
    """The parameters of a model and the width of its rows; ratios as numerator and denominator."""

    n_clusters: int = 3
    epsilon: tuple[int, int] = (1, 2)
    gamma: tuple[int, int] = (1, 5)
    max_iter: int = 5
    panel: int | None = None
    projection: int | Matrix | None = None
    max_norm: float | None = None
    center: tuple[float, ...] | None = None
    seed: int = 0
    d: int = 2

    def core(self) -> dict[str, Any]:
        """The keywords of `_core.Model.fit`, without `n_threads` and `cache_bytes`."""
        keywords = {name: value for name, value in vars(self).items() if name != "d"}
        if isinstance(self.projection, tuple):
            keywords["projection"] = np.array(self.projection, dtype=np.float64)
        keywords["center"] = None if self.center is None else list(self.center)
        return keywords

    def estimator(self, n_threads: int | None = 1) -> QKMeans:
        """An unfitted estimator of these parameters."""
        return QKMeans(
            self.n_clusters,
            epsilon=cast("float", Fraction(*self.epsilon)),
            gamma=cast("float", Fraction(*self.gamma)),
            max_iter=self.max_iter,
            panel=self.panel,
            projection=self.projection,
            max_norm=self.max_norm,
            center=self.center,
            random_state=self.seed,
            n_threads=n_threads,
        )

    def oracle(self) -> oracle.Params:
        """The same for the oracle."""
        projection = self.projection
        return oracle.Params(
            n_clusters=self.n_clusters,
            epsilon=Fraction(*self.epsilon),
            gamma=Fraction(*self.gamma),
            max_iter=self.max_iter,
            panel=self.panel,
            projection=[list(row) for row in projection] if isinstance(projection, tuple) else projection,
            max_norm=self.max_norm,
            center=None if self.center is None else list(self.center),
            seed=self.seed,
        )


def matrix(rows: Sequence[Sequence[float]], d: int) -> NDArray[np.float64]:
    """Rows as an array of shape (n, d), also without rows."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), d)


def id_list(ids: Sequence[Id]) -> list[int] | list[str]:
    """Ids all of one kind, as the signatures want them."""
    return cast("list[int] | list[str]", list(ids))


def fresh(rows: Mapping[Id, Sequence[float]], config: Config, n_threads: int = 1) -> Model:
    """A fit on these rows and no others, of any number."""
    x = matrix(list(rows.values()), config.d)
    # Without scores, with those of some steps, or of all: a fresh fit has not what it is compared with has.
    cache_bytes = (None, 0, 4000)[len(rows) % 3]
    return Model.fit(x, id_list(list(rows)), n_threads=n_threads, cache_bytes=cache_bytes, **config.core())


def oracle_fit(rows: Mapping[Id, Sequence[float]], config: Config) -> oracle.Fitted:
    """The oracle's model of them."""
    return oracle.fit(cast("Mapping[int, Sequence[float]]", rows), config.oracle(), config.d)


class State(NamedTuple):
    """Everything that can be seen of a model, floats by their bits."""

    digest: str
    ids: list[Id]
    labels: list[int]
    centres: bytes
    shape: tuple[int, ...]
    exemplars: list[Id | None]
    nearest: list[list[Id]]
    seeds: list[Id]
    inertia: str
    resolution: str
    n_iter: int


def state(model: QKMeans | Model) -> State:
    """The state, read from the public attributes where it is an estimator."""
    core = model._model if isinstance(model, QKMeans) else model
    centres = model.cluster_centers_ if isinstance(model, QKMeans) else model.centres()
    return State(
        digest=model.digest(),
        ids=list(model.ids_ if isinstance(model, QKMeans) else model.ids()),
        labels=(model.labels_ if isinstance(model, QKMeans) else model.labels()).tolist(),
        centres=centres.tobytes(),
        shape=centres.shape,
        exemplars=list(model.exemplars_ if isinstance(model, QKMeans) else model.exemplars()),
        nearest=core.nearest(18),
        seeds=list(core.seeds()),
        inertia=(model.inertia_ if isinstance(model, QKMeans) else model.inertia).hex(),
        resolution=(model.resolution_ if isinstance(model, QKMeans) else model.resolution).hex(),
        n_iter=model.n_iter_ if isinstance(model, QKMeans) else model.n_iter,
    )
