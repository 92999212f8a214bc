"""The estimator: scikit-learn's interface over the compiled core. All arithmetic and all state are the core's."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data

from erase_core import checks
from erase_core._core import Model, UpdateReport
from erase_core.errors import IdKindError, ParameterError
from erase_core.resolution import warn_if_coarse

if TYPE_CHECKING:
    from typing import Never, Self

__all__ = ["QKMeans"]

_Result = TypeVar("_Result")


class QKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Quantised k-means that forgets exactly.

    After any sequence of `add` and `remove` the model is, bit for bit, the one that `fit` gives on the rows that
    remain, with the same ids, parameters and seed: `digest` is equal, whatever the order, the batches and the number of
    threads were. Centres lie on a lattice with a random phase, so that most small changes of a cluster's mean do not
    move them; arithmetic is in integers throughout.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters, 1 to 65536. If removals leave fewer rows than this, every row is a cluster of its own.
    epsilon : float, default=1.0
        Pitch of the lattice, above 0 and at most 3, in units of the largest row norm (rounded up to a power of two)
        over the square root of the dimension (of 256, if that is more). The first three updates have 4, 3 and 2 times
        this pitch. Larger: removals are cheaper, clusters worse. See docs/choosing.md.
    gamma : float, default=0.2
        Balance correction, 0 to 1. A cluster of fewer than ``gamma * m / n_clusters`` of the ``m`` rows on the panel is
        moved only in proportion.
    max_iter : int, default=5
        Number of updates of the centres, 1 to 1024. All of them are run. If they leave the panel's rows farther from
        their centres than the seeds did, the seeds are the centres.
    panel : "auto", int or None, default="auto"
        Number of rows that choose the centres, at least `n_clusters`: those with the smallest random keys. Every row is
        assigned to the centres and may be an exemplar. A row that is not on the panel moves no centre, so its removal
        costs the same however many rows there are. ``"auto"``: ``max(1024, 64 * n_clusters)``. None: all rows.
        Groups of rows that are rare enough to miss a sample of this size get no centre of their own.
    projection : None, int or array of shape (m, n_features), default=None
        Linear map applied to the rows before clustering. An int: random signs drawn from the seed. A matrix, best with
        orthonormal rows: it must not have been computed from data that may have to be forgotten.
    max_norm : float or None, default=None
        Bound of the rows' Euclidean norms; a row that exceeds it by more than 1.5 % is refused. None: taken from the
        rows present, rounded up to a power of two; a removal or addition that changes it is as slow as a fit.
        Give ``1.0`` for normalised embeddings.
    center : array of shape (n_features,) or None, default=None
        Subtracted from every row, in `fit` and all other methods, in float64 and before all else; so it is what
        `max_norm` and `epsilon` count from. For rows that lie far from the origin: see the notes. As a matrix of
        `projection`, it must not have been computed from data that may have to be forgotten.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None, default=0
        Seed of every draw, 0 to 2**64 - 1. None draws one at each `fit`; `seed_` and a saved model keep it.
    n_threads : int or None, default=None
        Threads to use; None for all processors. No influence on results.
    cache_bytes : int or None, default=None
        Memory for scores that make a replay cost what its centres moved by. They take ``4 * n_rows * n_clusters`` bytes
        for the last assignment, and as much for the panel's rows in each update, as far as they fit. None: in
        proportion to the rows, and at least 32 MiB. 0 for none. No influence on results.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features or m)
        Centres, after projection; `center` is added again, so that they lie where the rows do.
    labels_ : ndarray of shape (n_rows,)
        Cluster of each row, in the order of `ids_`.
    ids_ : ndarray of int64 or list of str
        Ids of the rows, ascending.
    exemplars_ : list of int, str or None
        For each cluster the id of the row nearest to its centre; None for a cluster without rows.
    inertia_ : float
        Sum of the squared distances of the rows to their centres, after projection. Of the rows as the model has them,
        rounded to its fixed point: where `resolution_` is high it may be far from that of the rows as given.
    resolution_ : float
        How coarse the model counts: the lattice's pitch, or 1024 steps of the fixed point if that is more, over the
        spread of most of the rows, in one coordinate. 1 to 4 for normalised embeddings. Above 256 `fit` gives a
        `DataWarning`, and so do `add` and `remove` if it was not before. Infinite if most rows are equal.
    n_iter_ : int
        Number of updates of the centres: `max_iter`, or 0 for a model without rows.
    seed_ : int
        The seed in use.
    n_features_in_ : int
        Width of the rows.

    Notes
    -----
    Rows are rounded to 14 bits of the largest norm. So rows close together but far from the origin, or beside one
    that is much larger, differ in few bits or none: give a `center`, scale by public data, or leave out the large one.

    Quantised k-means: Ginart, Guan, Valiant and Zou, "Making AI Forget You", NeurIPS 2019, section 4.1. The seeding is
    greedy k-means++ (Arthur and Vassilvitskii, SODA 2007), each trial drawn as an exponential race so that it can be
    maintained. The whole algorithm, to the bit, is docs/algorithm.md. For rows near the largest floats the figures in
    units of the data (centres, inertia, distances) may be infinite; labels, exemplars and digests are right anyway.

    Examples
    --------
    >>> import numpy as np
    >>> from erase_core import QKMeans
    >>> X = np.random.default_rng(0).normal(size=(1000, 16))
    >>> model = QKMeans(n_clusters=4).fit(X)
    >>> model.remove(17).n_removed
    1
    >>> ids = np.delete(np.arange(1000), 17)
    >>> model.digest() == QKMeans(n_clusters=4).fit(X[ids], ids=ids).digest()
    True
    """

    # What was read from the model since its last change. Not part of the state.
    _results: dict[str, object]
    _model: Model

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        epsilon: float = 1.0,
        gamma: float = 0.2,
        max_iter: int = 5,
        panel: Literal["auto"] | int | None = "auto",
        projection: int | ArrayLike | None = None,
        max_norm: float | None = None,
        center: ArrayLike | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = 0,
        n_threads: int | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.epsilon = epsilon
        self.gamma = gamma
        self.max_iter = max_iter
        self.panel = panel
        self.projection = projection
        self.max_norm = max_norm
        self.center = center
        self.random_state = random_state
        self.n_threads = n_threads
        self.cache_bytes = cache_bytes

    def fit(self, X: ArrayLike, y: object = None, *, ids: Iterable[int] | Iterable[str] | None = None) -> Self:
        """Fit the model to rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Finite numbers; float32 and float64 are taken as they are.
        y : ignored
        ids : iterable of int or of str, default=None
            One unique id for each row, in the order of the rows, so not a set; ``0 .. n_rows - 1`` by default. Integers
            are 64 bits, signed.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            A parameter is out of range, or there are fewer rows than clusters.
        DataError
            ``max_norm`` is exceeded, or there are not as many ids as rows.
        DuplicateIdError, IdKindError
            The ids are not unique, or not all integers or all strings, or a set, which has no order.
        ValueError
            `X` is not a matrix of finite numbers.
        """
        if getattr(y, "ndim", 0) == 2 and np.ndim(X) == 1:
            raise IdKindError("fit: the rows come first and ids are given by name; call fit(X, ids=ids)")
        self._fit(X, ids, at_least=self.n_clusters)
        warn_if_coarse(self._model)
        return self

    def _fit(self, X: ArrayLike, ids: Iterable[int] | Iterable[str] | None, *, at_least: int) -> Self:
        """Fit, to as few rows as the caller allows: a model can come to have fewer than clusters by removals."""
        with self._unchanged_on_error():
            n_clusters = checks.integer("n_clusters", self.n_clusters, 1, checks.MAX_CLUSTERS)
            rows = self._rows(X, reset=True)
            if len(rows) < at_least:
                raise ParameterError(f"n_samples={len(rows)} should be >= n_clusters={n_clusters}")
            seed = checks.seed(self.random_state)
            model = Model.fit(
                rows,
                checks.id_list(ids, ordered=True),
                n_clusters=n_clusters,
                epsilon=checks.ratio("epsilon", self.epsilon, 0, checks.MAX_EPSILON),
                gamma=checks.ratio("gamma", self.gamma, None, 1),
                max_iter=checks.integer("max_iter", self.max_iter, 1, checks.MAX_ITER),
                panel=checks.panel(self.panel, n_clusters),
                projection=checks.projection(self.projection, rows.shape[1]),
                max_norm=checks.max_norm(self.max_norm),
                center=checks.center(self.center, rows.shape[1]),
                seed=seed,
                n_threads=checks.n_threads(self.n_threads),
                cache_bytes=checks.cache_bytes(self.cache_bytes),
            )
            self._model, self.seed_ = model, seed
            self._results = {}
        return self

    def fit_predict(
        self, X: ArrayLike, y: object = None, *, ids: Iterable[int] | Iterable[str] | None = None
    ) -> NDArray[np.int32]:
        """Fit, and return the cluster of each row of `X`, in the order of `X`.

        Parameters and errors are those of `fit`.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        given = checks.id_list(ids, ordered=True)
        labels = self.fit(X, y, ids=given).labels_
        if given is None:
            return labels.copy()
        in_order_given = np.empty_like(labels)
        in_order_given[sorted(range(len(given)), key=given.__getitem__)] = labels
        return in_order_given

    def add(self, X: ArrayLike, *misplaced: Never, ids: Iterable[int] | Iterable[str] | None = None) -> UpdateReport:
        """Add rows, as if they had been there at the fit.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        ids : iterable of int or of str, default=None
            Unique ids that are not in the model, of the kind it has. By default the integers after the largest one
            present; so an id that was removed may be given again. By name, never by position.

        Returns
        -------
        UpdateReport

        Raises
        ------
        DuplicateIdError, IdKindError, DataError, ValueError
            As for `fit`. The model is then as it was.
        NotFittedError
            `fit` has not been called.
        """
        model = self._fitted()
        if misplaced:
            raise IdKindError("add: the rows come first and ids are given by name; call add(X, ids=ids)")
        rows = self._rows(X)
        before = model.resolution
        report = model.add(rows, checks.id_list(ids, ordered=True))
        self._results = {}
        warn_if_coarse(model, before)
        return report

    def remove(self, ids: int | str | Iterable[int] | Iterable[str]) -> UpdateReport:
        """Remove rows, as if they had never been there, and overwrite the memory that held them.

        Removal is never refused: the last row can go too.

        Parameters
        ----------
        ids : int, str, or iterable of either
            Ids of rows in the model. An id that is named twice counts once.

        Returns
        -------
        UpdateReport

        Raises
        ------
        UnknownIdError
            Some ids are not in the model; the message names them, and no row was removed.
        IdKindError
            The ids are not of the kind that the model has.
        NotFittedError
            `fit` has not been called.
        """
        model = self._fitted()
        which = ids if isinstance(ids, (int, str, np.integer)) else cast("list[int]", checks.id_list(ids))
        before = model.resolution
        report = model.remove(which)
        self._results = {}
        warn_if_coarse(model, before)
        return report

    def predict(self, X: ArrayLike) -> NDArray[np.int32]:
        """Return the nearest centre of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of any norm, also above ``max_norm``.

        Returns
        -------
        ndarray of shape (n_rows,)

        Raises
        ------
        EmptyModelError
            All rows have been removed.
        NotFittedError
            `fit` has not been called.
        """
        return self._fitted().predict(self._rows(X))

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the Euclidean distances of each row to all centres, after projection.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_clusters)

        Raises
        ------
        EmptyModelError, NotFittedError
            As for `predict`.
        """
        return self._fitted().transform(self._rows(X))

    def kneighbors(self, X: ArrayLike, n_neighbors: int = 5) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return the rows of the model that are nearest to each row of `X`, by fixed point; ties to the smaller id.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        n_neighbors : int, default=5
            At most the number of rows in the model.

        Returns
        -------
        distances : ndarray of shape (n_rows, n_neighbors)
            Euclidean distances, after projection, ascending.
        ids : ndarray of shape (n_rows, n_neighbors)
            Integers, or strings as objects.

        Raises
        ------
        ParameterError
            `n_neighbors` is not from 1 to the number of rows.
        EmptyModelError, NotFittedError
            As for `predict`.
        """
        model = self._fitted()
        rows = self._rows(X)
        count = checks.integer("n_neighbors", n_neighbors, 1, model.n_rows or checks.MAX_DIM)
        distances, ids = model.neighbours(rows, count)
        dtype = np.int64 if ids and isinstance(ids[0], int) else object
        return distances, np.array(ids, dtype=dtype).reshape(distances.shape)

    def nearest(self, n: int) -> list[list[int | str]]:
        """Return for each cluster the ids of the rows nearest to its centre.

        Ties go to the smaller id, so that the result is a function of the rows that are there. The first of each is the
        cluster's exemplar.

        Parameters
        ----------
        n : int
            Rows of each cluster, 1 to 64. A cluster of fewer rows has all of them listed.

        Returns
        -------
        list of list of int or str
            One list for each cluster, nearest first; empty for a cluster without rows.

        Raises
        ------
        ParameterError
            `n` is out of its range.
        NotFittedError
            `fit` has not been called.
        """
        return self._fitted().nearest(checks.integer("n", n, 1, checks.MAX_NEAREST))

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the negative sum of the squared distances of the rows to their nearest centres, after projection.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : ignored

        Returns
        -------
        float

        Raises
        ------
        EmptyModelError, NotFittedError
            As for `predict`.
        """
        return -float(np.sum(self._fitted().nearest_square_distances(self._rows(X))))

    def digest(self) -> str:
        """Return the 256-bit hash of the whole state, in hex: equal exactly for equal models.

        It is defined in docs/algorithm.md, section 9. The first call takes a pass over the rows; the others take the
        same time for any number of rows, also after removals and additions.
        """
        return self._fitted().digest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all. Equal models give equal bytes.

        The format is docs/file-format.md. It has no names of features, `n_threads` and `cache_bytes`.
        """
        self._fitted().save(checks.path("path", path))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, n_threads: int | None = None, cache_bytes: int | None = None
    ) -> Self:
        """Read a model from a file that `save` wrote.

        Raises
        ------
        ModelFileError
            The file is not a whole, sound model of this version.
        """
        limits = checks.n_threads(n_threads), checks.cache_bytes(cache_bytes)
        return cls._around(Model.load(checks.path("path", path), *limits), n_threads, cache_bytes)

    @classmethod
    def _around(cls, model: Model, n_threads: int | None = None, cache_bytes: int | None = None) -> Self:
        params: dict[str, Any] = dict(model.params())
        width, seed = params.pop("n_features"), params.pop("seed")
        ratios = {name: float(Fraction(*params[name])) for name in ("epsilon", "gamma")}
        estimator = cls(**params | ratios, random_state=seed, n_threads=n_threads, cache_bytes=cache_bytes)
        estimator._model, estimator.seed_, estimator.n_features_in_ = model, seed, width
        estimator._results = {}
        return estimator

    @property
    def cluster_centers_(self) -> NDArray[np.float64]:
        """Centres, after projection: ndarray of shape (n_clusters, dim)."""
        return self._result("cluster_centers_", Model.centres)

    @property
    def labels_(self) -> NDArray[np.int32]:
        """Cluster of each row, in the order of `ids_`: ndarray of shape (n_rows,)."""
        return self._result("labels_", Model.labels)

    @property
    def ids_(self) -> NDArray[np.int64] | list[str]:
        """Ids of the rows, ascending."""
        return self._result("ids_", Model.ids)

    @property
    def exemplars_(self) -> list[int | str | None]:
        """For each cluster the id of the row nearest to its centre; None for a cluster without rows."""
        return self._result("exemplars_", Model.exemplars)

    @property
    def inertia_(self) -> float:
        """Sum of the squared distances of the rows, in fixed point, to their centres, after projection."""
        return self._fitted().inertia

    @property
    def resolution_(self) -> float:
        """How coarse the model counts, against the spread of its rows: a warning is due above 256."""
        return self._fitted().resolution

    @property
    def n_iter_(self) -> int:
        """Number of updates of the centres."""
        return self._fitted().n_iter

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _fitted(self) -> Model:
        try:
            return self._model
        except AttributeError:
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            ) from None

    def _rows(self, X: ArrayLike, *, reset: bool = False) -> NDArray[np.float32] | NDArray[np.float64]:
        rows = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], order="C")
        return cast("NDArray[np.float32] | NDArray[np.float64]", np.require(rows, requirements=["C", "A"]))

    def _result(self, name: str, read: Callable[[Model], _Result]) -> _Result:
        """Return what is read from the model, kept until the next change: some of it takes a sort of all ids."""
        model = self._fitted()
        results = self._results
        if name not in results:
            results[name] = read(model)
        result = results[name]
        if isinstance(result, np.ndarray):
            # Shared by all who ask; nobody may change what the others see.
            result.flags.writeable = False
            return cast("_Result", result)
        return cast("_Result", copy.copy(result))

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            for name in self.__dict__.keys() - before.keys():
                del self.__dict__[name]
            # Results are read again: the model may have changed meanwhile.
            self.__dict__.update(before | ({"_results": {}} if "_results" in before else {}))
            raise

    # The model changes in place: a copy that shared it would forget along with the original.
    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_model")

    def __getstate__(self) -> dict[str, Any]:
        state = cast("dict[str, Any]", super().__getstate__())
        return {name: value for name, value in state.items() if name != "_results"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._results = {}
