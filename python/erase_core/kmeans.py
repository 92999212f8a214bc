"""`QKMeans`: scikit-learn's interface to the compiled core, which owns the state and does all arithmetic."""

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

__all__ = ["QKMeans", "core_parameters"]

_Result = TypeVar("_Result")


class QKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Quantised k-means that forgets exactly.

    After any sequence of `add` and `remove`, the model equals, bit for bit, a fresh `fit` on the remaining rows with
    the same ids, parameters and seed. Order, batches and number of threads make no difference to `digest`. Centres lie
    on a lattice with a random phase, so most small changes of a cluster's mean do not move them. All arithmetic is in
    integers.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters, 1 to 65536. If removals leave fewer rows, every row is a cluster of its own.
    epsilon : float, default=1.0
        Pitch of the lattice, above 0 and at most 3. The unit is the largest row norm (rounded up to a power of two)
        divided by the square root of the dimension, or by 16 below 256 dimensions. The first three updates use 4, 3 and
        2 times this pitch. A larger pitch makes removals cheaper and clusters worse: see docs/choosing.md.
    gamma : float, default=0.2
        Balance correction, 0 to 1. A cluster with fewer than ``gamma * m / n_clusters`` of the ``m`` rows on the panel
        moves only by the proportion of rows that it has.
    max_iter : int, default=5
        Number of updates of the centres, 1 to 1024. All of them are run. The last centres are kept if they are better
        for the rows on the panel than the seeds, else the seeds.
    panel : "auto", int or None, default="auto"
        Number of rows that choose the centres, at least `n_clusters`: those with the smallest random keys, which depend
        on ids and seed. All rows are assigned to the centres and may be exemplars. A row that is not on the panel moves
        no centre, so its removal costs the same however many rows there are. "auto": ``max(1024, 64 * n_clusters)``.
        None: all rows. Groups of rows too small to be on the panel get no centre of their own: see docs/choosing.md.
    projection : None, int or array of shape (m, n_features), default=None
        Linear map applied to the rows before clustering. An int: a matrix of random signs, drawn from the seed, with
        that many rows. A matrix: best with orthonormal rows. It must not be computed from data that may have to be
        forgotten.
    max_norm : float or None, default=None
        Largest allowed Euclidean norm of a row. A row that exceeds it by more than 1.5 % is refused. None: the largest
        norm of the rows present, rounded up to a power of two; an update that changes it is as slow as a fit. Use
        ``1.0`` for normalised embeddings.
    center : array of shape (n_features,) or None, default=None
        Subtracted from every row in float64, before anything else, in `fit` and all other methods. So `max_norm` and
        `epsilon` apply to the centred rows. Use it for rows that lie far from the origin: see the notes. Like a
        projection matrix, it must not be computed from data that may have to be forgotten.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None, default=0
        Seed of all random draws, 0 to 2**64 - 1. None: a new seed for each `fit`. The seed is kept in `seed_` and in
        a saved model.
    n_threads : int or None, default=None
        Number of threads. None: one for each processor. Results do not depend on it.
    cache_bytes : int or None, default=None
        Memory in bytes for cached scores, which make replays faster. Those of the assignment of all rows take
        ``4 * n_rows * n_clusters`` bytes, and those of one update as much for the rows on the panel; as many as fit are
        cached. None: in proportion to the rows, at least 32 MiB. 0: no cache. Results do not depend on it.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features or m)
        Centres, after projection. `center` is added back, so they lie among the rows as given.
    labels_ : ndarray of shape (n_rows,)
        Cluster of each row, in the order of `ids_`.
    ids_ : ndarray of int64 or list of str
        Ids of the rows, ascending.
    exemplars_ : list of int, str or None
        For each cluster the id of the row nearest to its centre; None for a cluster without rows.
    inertia_ : float
        Sum of the squared distances of the rows to their centres, after projection and after rounding to fixed point.
        If `resolution_` is high, it may differ much from the inertia of the rows as given.
    resolution_ : float
        Coarseness of the model relative to its rows: the larger of the lattice's pitch and 1024 steps of the fixed
        point, divided by the spread of most rows in one coordinate. 1 to 4 for normalised embeddings. `fit` gives a
        `DataWarning` if it is above 256, `add` and `remove` if they raise it above 256. Infinite if most rows are
        equal.
    n_iter_ : int
        Number of updates of the centres: `max_iter`, or 0 for a model without rows.
    seed_ : int
        The seed in use.
    n_features_in_ : int
        Width of the rows.

    Notes
    -----
    Rows are rounded to 14 bits of the largest norm. So rows that are close together but far from the origin, or much
    smaller than the largest row, may be rounded to nearly equal values. Then give a `center`, scale by public data, or
    leave out the large row.

    Quantised k-means: Ginart, Guan, Valiant and Zou, "Making AI Forget You", NeurIPS 2019, section 4.1. The seeding is
    greedy k-means++ (Arthur and Vassilvitskii, SODA 2007). Each trial is drawn as an exponential race, so that it can
    be maintained. docs/algorithm.md defines the whole algorithm to the bit. For rows near the largest floats, results
    in units of the data (centres, inertia, distances) may be infinite; labels, exemplars and digests remain correct.

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

    # Results read from the model since its last change: a cache, not part of the state.
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
            Finite numbers. float32 and float64 are used without conversion.
        y : ignored
        ids : iterable of int or of str, default=None
            One unique id for each row, in the order of the rows, so not a set. Integers must fit in 64 bits, signed.
            None: ``0 .. n_rows - 1``.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            A parameter is out of range, or there are fewer rows than clusters.
        DataError
            A row exceeds ``max_norm``, or the numbers of rows and ids differ.
        DuplicateIdError
            An id is given twice.
        IdKindError
            The ids are neither all integers nor all strings, or are a set, which has no order.
        ValueError
            `X` is not a matrix of finite numbers.
        """
        if getattr(y, "ndim", 0) == 2 and np.ndim(X) == 1:
            raise IdKindError("fit: ids must be given by name, after the rows. Call fit(X, ids=ids).")
        self._fit(X, ids, at_least=self.n_clusters)
        warn_if_coarse(self._model)
        return self

    def _fit(self, X: ArrayLike, ids: Iterable[int] | Iterable[str] | None, *, at_least: int) -> Self:
        """Fit to `at_least` rows or more. After removals, a model may have fewer rows than clusters."""
        with self._unchanged_on_error():
            n_clusters = checks.integer("n_clusters", self.n_clusters, 1, checks.MAX_CLUSTERS)
            rows = self._rows(X, reset=True)
            if len(rows) < at_least:
                raise ParameterError(f"n_samples={len(rows)} should be >= n_clusters={n_clusters}")
            seed = checks.seed(self.random_state)
            parameters = core_parameters(self, rows.shape[1])
            model = Model.fit(rows, checks.id_list(ids, ordered=True), **parameters, seed=seed)
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
        """Add rows. The model then equals a fresh fit on all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        ids : iterable of int or of str, default=None
            Unique ids that are not in the model, of the same type as its ids; only by name. None: the integers after
            the largest id present, so the id of a removed row may be used again.

        Returns
        -------
        UpdateReport

        Raises
        ------
        DuplicateIdError, IdKindError, DataError, ValueError
            See `fit`. The model is unchanged.
        NotFittedError
            `fit` has not been called.
        """
        model = self._fitted()
        if misplaced:
            raise IdKindError("add: ids must be given by name, after the rows. Call add(X, ids=ids).")
        rows = self._rows(X)
        before = model.resolution
        report = model.add(rows, checks.id_list(ids, ordered=True))
        self._results = {}
        warn_if_coarse(model, before)
        return report

    def remove(self, ids: int | str | Iterable[int] | Iterable[str]) -> UpdateReport:
        """Remove rows, and overwrite the memory that held them. The model then equals a fresh fit on the other rows.

        Even the last row can be removed.

        Parameters
        ----------
        ids : int, str, or iterable of either
            Ids of rows in the model. Repetitions are ignored.

        Returns
        -------
        UpdateReport

        Raises
        ------
        UnknownIdError
            Some ids are not in the model. The message names them. No row was removed.
        IdKindError
            The ids have another type than those of the model.
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
            Rows of any norm, even above ``max_norm``.

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
            See `predict`.
        """
        return self._fitted().transform(self._rows(X))

    def kneighbors(self, X: ArrayLike, n_neighbors: int = 5) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return the rows of the model that are nearest to each row of `X`, compared in fixed point.

        Ties go to the smaller id.

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
            See `predict`.
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
            `n` is out of range.
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
            See `predict`.
        """
        return -float(np.sum(self._fitted().nearest_square_distances(self._rows(X))))

    def digest(self) -> str:
        """Return the hash of the whole state, 256 bits in hex, which is equal exactly for equal models.

        It is defined in docs/algorithm.md, section 9. The first call takes a pass over the rows. Later calls do not,
        even after removals and additions.
        """
        return self._fitted().digest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, completely or not at all. Equal models give equal bytes.

        docs/file-format.md defines the format. Feature names, `n_threads` and `cache_bytes` are not saved.

        Raises
        ------
        OSError
            The file cannot be written.
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
            The file is not a model file of this version, or is damaged.
        OSError
            The file cannot be read.
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
        """Sum of the squared distances of the rows to their centres, after projection and rounding to fixed point."""
        return self._fitted().inertia

    @property
    def resolution_(self) -> float:
        """Coarseness of the model relative to the spread of its rows. Above 256, a `DataWarning` is given."""
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
        """Return a result read from the model, cached until the next change: some results sort all ids."""
        model = self._fitted()
        results = self._results
        if name not in results:
            results[name] = read(model)
        result = results[name]
        if isinstance(result, np.ndarray):
            # All callers share this array, so none may modify it.
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
            # Drop the cached results: the model may have changed meanwhile.
            self.__dict__.update(before | ({"_results": {}} if "_results" in before else {}))
            raise

    # The model changes in place, so a copy must not share it.
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


def core_parameters(given: Any, n_features: int) -> dict[str, Any]:
    """Return an estimator's parameters as the core takes them, but for the seed.

    Parameters
    ----------
    given : object
        Has the parameters of `QKMeans` as attributes.
    n_features : int

    Raises
    ------
    ParameterError
    """
    n_clusters = checks.integer("n_clusters", given.n_clusters, 1, checks.MAX_CLUSTERS)
    return {
        "n_clusters": n_clusters,
        "epsilon": checks.epsilon(given.epsilon),
        "gamma": checks.gamma(given.gamma),
        "max_iter": checks.integer("max_iter", given.max_iter, 1, checks.MAX_ITER),
        "panel": checks.panel(given.panel, n_clusters),
        "projection": checks.projection(given.projection, n_features),
        "max_norm": checks.max_norm(given.max_norm),
        "center": checks.center(given.center, n_features),
        "n_threads": checks.n_threads(given.n_threads),
        "cache_bytes": checks.cache_bytes(given.cache_bytes),
    }
