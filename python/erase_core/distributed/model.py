"""`DistributedQKMeans`: the settings and results of a `QKMeans`, with the rows on the workers of an engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_array

from erase_core import checks
from erase_core._core import Coordinator, UpdateReport, merge_parts
from erase_core.distributed import arguments
from erase_core.distributed.clustering import Clustering
from erase_core.distributed.engines.choosing import engine_of
from erase_core.distributed.engines.protocol import Engine, Traffic
from erase_core.distributed.parts import Columns
from erase_core.distributed.saving import Folder, State
from erase_core.distributed.shards import Shards
from erase_core.errors import NotPicklableError, ParameterError, WorkerLostError
from erase_core.kmeans import QKMeans, core_parameters
from erase_core.resolution import warn_if_coarse

if TYPE_CHECKING:
    from typing import Never, Self

__all__ = ["DistributedQKMeans"]

MAX_SHARDS = 2**16
# Rows that `gather` asks a shard for at once.
ROWS = 2**14


class DistributedQKMeans:
    """A `QKMeans` whose rows lie on the workers of a dask or Ray cluster.

    The result is, bit for bit, that of `QKMeans` on all rows: `digest` is the same, however many workers there are,
    whichever row lies where, and whatever was added and removed. Workers read their parts themselves. This process
    holds the rows of the panel only, from which all centres follow. docs/distributed.md describes which bytes travel.

    Parameters
    ----------
    n_clusters, epsilon, gamma, max_iter, projection, max_norm, center, random_state
        As for `QKMeans`.
    panel : "auto" or int, default="auto"
        As for `QKMeans`, but not None: all rows would have to be in this process.
    engine : distributed.Client, "dask://host:port", "ray", "ray://host:port" or "local"
        Where the rows are held. A dask client stays open when the model is closed; an address is connected to, and
        disconnected then. ``"ray"`` is the cluster that this process is connected to, or else the one that `ray.init`
        finds or starts. ``"local"``: two shards in this process, to try things.
    n_shards : int or None, default=None
        Number of shards. None: one for each dask worker, or for each node of a Ray cluster.
    n_threads : int or None, default=None
        Threads of each shard. None: as many as its worker has. Results do not depend on it.
    cache_bytes : int or None, default=None
        As for `QKMeans`, for each shard. Results do not depend on it.

    Attributes
    ----------
    cluster_centers_, exemplars_, inertia_, resolution_, n_iter_, seed_, n_features_in_
        As of `QKMeans`.
    n_rows_ : int
        Number of rows.

    Notes
    -----
    Calls are for one thread at a time. If a worker dies, its parts are read again on another one, without the rows
    removed since, and the new holder is accepted only if its rows have the same hash. Rows that were given as arrays
    cannot be read again: the call is a `WorkerLostError`, and `restore` takes the arrays.

    Examples
    --------
    See docs/distributed.md.
    """

    _clustering: Clustering

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        engine: Any,
        epsilon: float = 1.0,
        gamma: float = 0.2,
        max_iter: int = 5,
        panel: Literal["auto"] | int = "auto",
        projection: int | ArrayLike | None = None,
        max_norm: float | None = None,
        center: ArrayLike | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = 0,
        n_shards: int | None = None,
        n_threads: int | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.engine = engine
        self.epsilon = epsilon
        self.gamma = gamma
        self.max_iter = max_iter
        self.panel = panel
        self.projection = projection
        self.max_norm = max_norm
        self.center = center
        self.random_state = random_state
        self.n_shards = n_shards
        self.n_threads = n_threads
        self.cache_bytes = cache_bytes
        self._engine: Engine | None = None
        self._columns: Columns = ("id", "vector")

    # ---- rows ----
    def fit(self, parts: Any, *, columns: tuple[str, str] = ("id", "vector")) -> Self:
        """Fit the model to the rows of all parts: two passes over the rows, on the workers.

        Parameters
        ----------
        parts : list of parts
            Each is one of these:

            - the path of a ``.npy`` file of rows, with a file ``NAME.ids.npy`` of ids beside it, or without ids;
            - the path of a ``.npz`` or ``.parquet`` file with ids and vectors, named by `columns`;
            - a pair ``(ids, array)``, or an array of rows without ids, which are sent to a worker;
            - a dask array, data frame or delayed object. The processes that hold the shards compute its pieces. Pieces
              that have their rows with them, as of `from_array`, are arrays;
            - a Ray data set, if the engine is Ray. The processes that hold the shards read its blocks.

            Workers must be able to read the paths. If no part has ids, rows are numbered from 0 on, in the order of the
            parts.
        columns : tuple of str, default=("id", "vector")
            The names of the ids and of the vectors in ``.npz`` and ``.parquet`` files, data frames and Ray data sets.
            The ids may be left out only if there are vectors only.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            A parameter is out of range, or there are fewer rows than clusters.
        PartError
            A part cannot be read. The message names it.
        DataError, DuplicateIdError, IdKindError
            As for `QKMeans`.
        WorkerLostError
            There is no worker.
        """
        engine = self._connected()
        given = arguments.given_parts(parts, arguments.columns(columns), engine)
        n_shards = engine.workers if self.n_shards is None else checks.integer("n_shards", self.n_shards, 1, MAX_SHARDS)
        limits = checks.n_threads(self.n_threads), checks.cache_bytes(self.cache_bytes)
        checks.integer("n_clusters", self.n_clusters, 1, checks.MAX_CLUSTERS)
        shards = Shards(engine, n_shards, *limits)
        try:
            measured = shards.measure(given)
            n_features, seed = arguments.width(measured, given), checks.seed(self.random_state)
            coordinator = self._new(core_parameters(self, n_features), n_features, seed)
            clustering = Clustering(coordinator, shards)
            clustering.fit(given, arguments.numbering(measured, given, 0), self.n_clusters)
        except BaseException:
            shards.close()
            raise
        self._replace(clustering, coordinator)
        self._columns = columns
        warn_if_coarse(coordinator)
        return self

    @staticmethod
    def _new(parameters: Mapping[str, Any], n_features: int, seed: int) -> Coordinator:
        if parameters["panel"] is None:
            raise ParameterError("panel must be 'auto' or an integer: with None, all rows would have to be here")
        # While the coordinator computes, the shards wait. So it takes all processors of its machine.
        return Coordinator(n_features, **(dict(parameters) | {"seed": seed, "n_threads": None}))

    def _replace(self, clustering: Clustering, coordinator: Coordinator) -> None:
        if hasattr(self, "_clustering"):
            self._clustering.close()
        self._clustering = clustering
        params = coordinator.params()
        self.seed_, self.n_features_in_ = params["seed"], params["n_features"]

    def _fitted(self) -> Clustering:
        if not hasattr(self, "_clustering"):
            raise NotFittedError("This DistributedQKMeans instance is not fitted yet. Call 'fit' first.")
        return self._clustering

    def _settled(self) -> tuple[Coordinator, Shards]:
        return self._fitted().settled()

    def add(self, parts: Any) -> UpdateReport:
        """Add the rows of further parts. The model then equals a fit on all rows. If it fails, nothing was added.

        Parameters
        ----------
        parts : list of parts
            As for `fit`. Rows without ids get the integers after the largest id present.

        Returns
        -------
        UpdateReport
            `work` is that of this process, without the workers'.

        Raises
        ------
        PartError, DataError, DuplicateIdError, IdKindError
            See `fit`. The model is unchanged.
        WorkerLostError
            A worker died, and its rows cannot be read again. Nothing was added. See `restore`.
        """
        started = perf_counter()
        coordinator, _ = self._settled()
        before, n_before = coordinator.resolution, coordinator.n_rows
        report = self._clustering.add(arguments.given_parts(parts, self._columns, self._connected()))
        warn_if_coarse(coordinator, before)
        return _report(report, coordinator.n_rows - n_before, 0, started)

    def remove(self, ids: int | str | Iterable[int] | Iterable[str]) -> UpdateReport:
        """Remove rows, and overwrite the memory that held them. The model then equals a fit on the other rows.

        If the row is not on the panel, this takes one message to each shard and back, at once. Files that were read
        still have the rows: remove them there, too. They are left out whenever the files are read again.

        Parameters
        ----------
        ids : int, str, or iterable of either
            Repetitions are ignored.

        Returns
        -------
        UpdateReport
            `work` is that of this process, without the workers'.

        Raises
        ------
        UnknownIdError
            Some ids are not in the model. The message names them. No row was removed.
        IdKindError
            The ids have another type than those of the model.
        WorkerLostError
            A worker died, and its rows cannot be read again. `restore` takes them, and completes the removal.
        """
        started, which = perf_counter(), checks.distinct_ids(ids)
        try:
            coordinator, _ = self._settled()
            before, n_before = coordinator.resolution, coordinator.n_rows
            report = self._clustering.remove(which)
        except WorkerLostError as error:
            self._clustering.defer(which)
            raise WorkerLostError(f"{error} That completes the removal.") from None
        warn_if_coarse(coordinator, before)
        return _report(report, 0, n_before - coordinator.n_rows, started)

    # ---- workers ----
    def restore(self, parts: Any) -> Self:
        """Give rows again that were given as arrays and were lost with their workers.

        Parameters
        ----------
        parts : list of parts
            The arrays of the parts that the `WorkerLostError` names, in the order of their numbers, as they were given.
            Rows that were removed since are left out, whether they are there or not.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            They are too few or too many. The message names the parts that are missing.
        PartError
            They do not have the rows that were lost.
        """
        self._fitted().restore(arguments.given_parts(parts, self._columns, self._connected()))
        return self

    def redistribute(self, n_shards: int | None = None) -> Self:
        """Read all parts again, into another number of shards. The model does not change.

        Parameters
        ----------
        n_shards : int or None, default=None
            None: one for each worker that there is.

        Raises
        ------
        PartError
            There are parts that cannot be read again, or whose rows changed. The model is as it was.
        """
        clustering, workers = self._fitted(), self._connected().workers
        count = workers if n_shards is None else checks.integer("n_shards", n_shards, 1, MAX_SHARDS)
        clustering.redistribute(count)
        if clustering.folder is not None:
            self.save(clustering.folder.path)
        return self

    @property
    def traffic(self) -> Traffic:
        """The bytes and messages that the engine has carried for this model."""
        return self._connected().traffic

    def _connected(self) -> Engine:
        if self._engine is None:
            self._engine = engine_of(self.engine)
        return self._engine

    def close(self) -> None:
        """End the shards, and free their rows. A dask client that was given stays open."""
        if hasattr(self, "_clustering"):
            self._clustering.close()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __reduce__(self) -> Never:
        raise NotPicklableError(
            "a DistributedQKMeans cannot be copied or pickled: its rows are on workers. Use save and resume, or gather."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- results ----
    @property
    def cluster_centers_(self) -> NDArray[np.float64]:
        """Centres, after projection: ndarray of shape (n_clusters, dim)."""
        return self._settled()[0].centres()

    @property
    def exemplars_(self) -> list[int | str | None]:
        """For each cluster the id of the row nearest to its centre; None for a cluster without rows."""
        return self._settled()[0].exemplars()

    @property
    def inertia_(self) -> float:
        """Sum of the squared distances of the rows to their centres, as of `QKMeans`."""
        return self._settled()[0].inertia

    @property
    def resolution_(self) -> float:
        """Coarseness of the model relative to the spread of its rows, as of `QKMeans`."""
        return self._settled()[0].resolution

    @property
    def n_iter_(self) -> int:
        """Number of updates of the centres."""
        return self._settled()[0].n_iter

    @property
    def n_rows_(self) -> int:
        """Number of rows."""
        return self._settled()[0].n_rows

    def digest(self) -> str:
        """Return the hash of the whole state: that of a `QKMeans` with the same rows, parameters and seed."""
        return self._fitted().hashed()[0].digest()

    def nearest(self, n: int) -> list[list[int | str]]:
        """Return for each cluster the ids of the `n` rows nearest to its centre, as `QKMeans.nearest` does."""
        count = checks.integer("n", n, 1, checks.MAX_NEAREST)
        coordinator, shards = self._settled()
        if coordinator.n_rows:
            coordinator.complete(merge_parts(shards.ask("part", count)))
        return coordinator.nearest(count)

    def labels(self, ids: int | str | Iterable[int] | Iterable[str]) -> NDArray[np.int32]:
        """Return the clusters of rows, by id.

        Parameters
        ----------
        ids : int, str, or iterable of either

        Returns
        -------
        ndarray of shape (n_ids,)
            In the order of the distinct ids.

        Raises
        ------
        UnknownIdError, IdKindError
            See `remove`.
        """
        _, shards = self._settled()
        which = self._clustering.of_kind(checks.distinct_ids(ids))
        labels = np.full(len(which), -1, dtype=np.int32)
        for found in shards.ask("labels", which) if which else []:
            for position, label in found:
                labels[position] = label
        arguments.check_known(which, labels >= 0)
        return labels

    def predict(self, X: ArrayLike) -> NDArray[np.int32]:
        """Return the nearest centre of each row, as `QKMeans.predict` does. The rows stay in this process."""
        return self._settled()[0].predict(self._rows(X))

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the distances of each row to all centres, as `QKMeans.transform` does. They stay in this process."""
        return self._settled()[0].transform(self._rows(X))

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the negative sum of squared distances to the nearest centres, as `QKMeans.score` does."""
        return -float(np.sum(self._settled()[0].nearest_square_distances(self._rows(X))))

    def _rows(self, X: ArrayLike) -> NDArray[np.float64]:
        rows = np.require(check_array(X, dtype=[np.float64, np.float32], order="C"), requirements=["C", "A"])
        if rows.shape[1] != self.n_features_in_:
            raise ParameterError(f"X must have {self.n_features_in_} features, got {rows.shape[1]}")
        return cast("NDArray[np.float64]", rows)

    def gather(self) -> QKMeans:
        """Return the model as a `QKMeans` in this process. All rows come here: its memory must suffice for them."""
        coordinator, shards = self._settled()
        rows = [message for record in shards.records for message in shards.rows_of(record, ROWS)]
        limits = checks.n_threads(self.n_threads), checks.cache_bytes(self.cache_bytes)
        return QKMeans._around(coordinator.gather(rows, *limits), *limits)

    # ---- the folder ----
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all that is needed to make the model again, without rows, and keep it up to date from here on.

        The folder has the settings, where the parts are, the ids that were removed (ids only) and hashes. Every later
        update appends two lines to its journal: what it is, before it begins; and the new hashes.

        Raises
        ------
        OSError
            The folder cannot be written.
        """
        path = checks.path("folder", folder).absolute()
        self._fitted().save(path, self._columns, (self.n_threads, self.cache_bytes))

    @classmethod
    def resume(cls, folder: str | os.PathLike[str], engine: Any, *, parts: Any = ()) -> Self:
        """Make a saved model again: its parts are read, and it must have the same digest.

        An addition that was interrupted is absent, and a removal that was interrupted is completed.

        Parameters
        ----------
        folder : path
            What `save` wrote.
        engine : distributed.Client or str
            As for the class.
        parts : list of parts, default=()
            Those that are in no file: arrays, dask collections and Ray data sets, in their order.

        Raises
        ------
        PartError
            A part has other rows than it had. The message names it.
        ModelFileError
            The folder is not a saved model, or is damaged.
        ParameterError
            `parts` are too few or too many.
        """
        path = checks.path("folder", folder).absolute()
        state = State.of_json(*Folder(path).read())
        model = cls._of_settings(state.settings, state.limits, engine)
        model._columns = state.columns
        try:
            given = arguments.given_parts(parts, state.columns, model._connected())
            shards = Shards(model._connected(), len(state.shards), *state.limits)
            try:
                n_features = state.settings["n_features"]
                coordinator = cls._new(core_parameters(model, n_features), n_features, state.settings["seed"])
                clustering = Clustering(coordinator, shards)
                clustering.take_up(state, given)
                clustering.save(path, state.columns, state.limits)
            except BaseException:
                shards.close()
                raise
        except BaseException:
            model.close()
            raise
        model._replace(clustering, coordinator)
        return model

    @classmethod
    def _of_settings(cls, settings: Mapping[str, Any], limits: tuple[int | None, int | None], engine: Any) -> Self:
        given = {name: each for name, each in settings.items() if name not in {"seed", "n_features"}}
        given |= {name: float(Fraction(*settings[name])) for name in ("epsilon", "gamma")}
        return cls(**given, random_state=settings["seed"], engine=engine, n_threads=limits[0], cache_bytes=limits[1])


# ---- reports ----
def _report(report: UpdateReport, n_added: int, n_removed: int, started: float) -> UpdateReport:
    """Return the report of an update of all rows: the coordinator's counts rows of the panel."""
    return UpdateReport._restore(
        n_added, n_removed, report.path, report.first_iteration, report.work, perf_counter() - started
    )
