"""`DistributedQKMeans`: the settings and results of a `QKMeans`, with the rows on the workers of an engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from erase_core.distributed.duplicates import check_added, check_all
from erase_core.distributed.engines.choosing import engine_of
from erase_core.distributed.engines.protocol import Engine, Traffic
from erase_core.distributed.holder import Id
from erase_core.distributed.parts import Columns, Ids, parts_of
from erase_core.distributed.saving import Folder, State, described, hashes_of
from erase_core.distributed.shards import Shards, names
from erase_core.errors import IdKindError, ModelFileError, ParameterError, PartError
from erase_core.kmeans import QKMeans, core_parameters
from erase_core.resolution import warn_if_coarse

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DistributedQKMeans"]

MAX_SHARDS = 2**16
# Rows that `gather` asks a shard for at once.
ROWS = 2**14
NOTHING = ". Nothing was removed."


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
    engine : distributed.Client, "ray", "ray://host:port" or "local"
        Where the rows are held. A dask client stays open when the model is closed. ``"ray"`` is the cluster that this
        process is connected to, or else the one that `ray.init` finds or starts. ``"local"``: two shards in this
        process, to try things.
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

    _coordinator: Coordinator
    _shards: Shards

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
        # A removal that has begun, and must be done again from the beginning because a worker was lost.
        self._pending: Ids | None = None
        # Whether parts came in that do not belong to the model.
        self._to_undo = False
        self._folder: Folder | None = None
        # What the folder has of the shards.
        self._noted: dict[str, Any] = {}
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
            - a pair ``(ids, array)``, or an array of rows without ids: rows in this process, which are sent to a worker;
            - a dask array, data frame or delayed object, whose pieces are computed in the processes that hold the shards.

            Workers must be able to read the paths. If no part has ids, rows are numbered from 0 on, in the order of the
            parts.
        columns : tuple of str, default=("id", "vector")
            The names of the ids and of the vectors in ``.npz`` and ``.parquet`` files and data frames.

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
        given, engine = parts_of(parts, arguments.columns(columns)), self._connected()
        n_shards = engine.workers if self.n_shards is None else checks.integer("n_shards", self.n_shards, 1, MAX_SHARDS)
        limits = checks.n_threads(self.n_threads), checks.cache_bytes(self.cache_bytes)
        checks.integer("n_clusters", self.n_clusters, 1, checks.MAX_CLUSTERS)
        shards = Shards(engine, n_shards, *limits)
        try:
            measured = shards.measure(given)
            n_features = arguments.width(measured, given)
            seed = checks.seed(self.random_state)
            coordinator = self._new(core_parameters(self, n_features), n_features, seed)
            shards.open(coordinator.parameters(), n_features)
            shards.stage(given, arguments.numbering(measured, given, 0))
            shards.load()
            n_rows = sum(each.n_rows for each in shards.loaded if each is not None)
            if n_rows < self.n_clusters:
                raise ParameterError(f"n_samples={n_rows} should be >= n_clusters={self.n_clusters}")
            check_all(shards, n_rows)
            _fit(coordinator, shards)
        except BaseException:
            shards.close()
            raise
        self._replace(coordinator, shards, seed)
        self._columns = columns
        self._folder = None
        warn_if_coarse(coordinator)
        return self

    @staticmethod
    def _new(parameters: Mapping[str, Any], n_features: int, seed: int) -> Coordinator:
        if parameters["panel"] is None:
            raise ParameterError("panel must be 'auto' or an integer: with None, all rows would have to be here")
        return Coordinator(n_features, **(dict(parameters) | {"seed": seed}))

    def _replace(self, coordinator: Coordinator, shards: Shards, seed: int) -> None:
        if hasattr(self, "_shards"):
            self._shards.close()
        self._coordinator, self._shards, self.seed_ = coordinator, shards, seed
        self.n_features_in_ = coordinator.params()["n_features"]
        self._pending, self._to_undo = None, False

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
        coordinator, shards = self._settled()
        given = parts_of(parts, self._columns)
        measured = shards.measure(given)
        firsts = arguments.numbering(measured, given, self._next_id) if given else []
        before, n_before, n_parts = coordinator.resolution, coordinator.n_rows, len(shards.parts)
        with self._undone_on_error():
            shards.stage(given, firsts)
            shards.load()
            check_added(shards)
            changes = shards.ask("change", [], coordinator.mark(), 0, False)
            candidates = [message for change in changes for message in change.candidates]
            report, moved = coordinator.exchange([], candidates, shards.merged(changes))
        shards.settle([change.part for change in changes])
        self._finish(moved)
        shards.ask("settle")
        self._note_done(described(shards, n_parts))
        warn_if_coarse(coordinator, before)
        return _report(report, coordinator.n_rows - n_before, 0, started)

    def remove(self, ids: int | str | Iterable[int] | Iterable[str]) -> UpdateReport:
        """Remove rows, and overwrite the memory that held them. The model then equals a fit on the other rows.

        If the row is not on the panel, this takes one message to each shard and back, at once. The rows stay in files that
        they were read from: remove them there, too. They are left out whenever the files are read again.

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
        started = perf_counter()
        coordinator, shards = self._settled()
        which = self._of_kind(checks.distinct_ids(ids))
        before, n_before = coordinator.resolution, coordinator.n_rows
        on_panel = set(coordinator.on_panel(which)) if which else set()
        unsure = [id_ for id_ in which if id_ not in on_panel]
        if len(which) > 1 and unsure:
            arguments.check_known(unsure, np.any(shards.ask("has", unsure), axis=0), NOTHING)
        self._note({"remove": which})
        self._pending = which
        report = self._remove_pending(again=False)
        if coordinator.n_rows == n_before and which:
            self._note({"undo": True})
            arguments.check_known(which, [False], NOTHING)
        self._note_done()
        warn_if_coarse(coordinator, before)
        return _report(report, 0, n_before - coordinator.n_rows, started)

    def _remove_pending(self, *, again: bool) -> UpdateReport:
        """Do, or do once more, what `_pending` says. Nothing but this can follow a removal that was interrupted."""
        coordinator, shards, which = self._coordinator, self._shards, cast("Ids", self._pending)
        on_panel = coordinator.on_panel(which)
        changes = shards.ask("change", which, coordinator.mark(), len(on_panel), again)
        candidates = [message for change in changes for message in change.candidates]
        report, moved = coordinator.exchange(which, candidates, shards.merged(changes))
        removed = which if again else [id_ for change in changes for id_ in change.removed]
        shards.settle([change.part for change in changes], removed)
        self._pending = None
        self._finish(moved)
        return report

    def _finish(self, moved: bool) -> None:
        """Let the shards assign their rows, if the centres moved."""
        if moved:
            _assign(self._coordinator, self._shards)

    def _settled(self) -> tuple[Coordinator, Shards]:
        """Return coordinator and shards. An update that was interrupted is undone or completed first."""
        if not hasattr(self, "_coordinator"):
            raise NotFittedError("This DistributedQKMeans instance is not fitted yet. Call 'fit' first.")
        if not self._shards.records:
            raise ParameterError("the model is closed. Fit again, or resume it from its folder.")
        if self._to_undo:
            self._undo()
        if self._pending is not None:
            self._remove_pending(again=True)
            self._note_done()
        if not self._coordinator.is_complete:
            self._finish(True)
            self._note_done()
        return self._coordinator, self._shards

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        self._to_undo = True
        try:
            yield
        except BaseException:
            self._undo()
            raise
        self._to_undo = False

    def _undo(self) -> None:
        self._shards.undo()
        self._to_undo = False

    def _next_id(self) -> int:
        largest = [each for each in self._shards.ask("largest") if each is not None]
        if not largest and self._coordinator.n_rows:
            raise IdKindError("the rows have no ids. Give ids, since those of the model are strings.")
        return max(largest, default=-1) + 1

    def _of_kind(self, ids: list[Id]) -> Ids:
        """Check that ids are of the model's kind."""
        strings = isinstance(self._coordinator.panel_ids(), list)
        for id_ in ids:
            if isinstance(id_, str) != strings and self._coordinator.n_rows:
                have, got = ("strings", "an integer") if strings else ("integers", "a string")
                raise IdKindError(f"the ids of the model are {have}, got {got}: {id_!r}")
        return cast("Ids", ids)

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
        if not hasattr(self, "_shards"):
            self._settled()
        shards = self._shards
        lost = shards.lost()
        missing = sorted(n for record in lost for n in record.numbers if not shards.parts[n].rereadable)
        given = arguments.matched(missing, [shards.parts[n] for n in missing], parts_of(parts, self._columns))
        for record in lost:
            shards.recover(record, given)
        self._settled()
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
        coordinator, shards = self._settled()
        if fixed := [part for part in shards.parts if not part.rereadable]:
            raise PartError(f"{names(fixed)}: rows that were given as arrays cannot be read again. Fit again.")
        count = shards.engine.workers if n_shards is None else checks.integer("n_shards", n_shards, 1, MAX_SHARDS)
        after = shards.again(count)
        try:
            after.open(coordinator.parameters(), self.n_features_in_)
            after.load()
            parts = after.ask("assign", coordinator.frame_message())
            after.check_equal(shards, parts)
        except BaseException:
            after.close()
            raise
        after.settle(parts)
        after.ask("settle")
        after.frame = coordinator.frame_message()
        self._shards = after
        shards.close()
        if self._folder is not None:
            self.save(self._folder.path)
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
        if hasattr(self, "_shards"):
            self._shards.close()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

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
        return self._settled()[0].digest()

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
        which = self._of_kind(checks.distinct_ids(ids))
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
        coordinator, shards = self._settled()
        place = Folder(checks.path("folder", folder).absolute())
        place.write(State.of(coordinator, shards, self._columns, (self.n_threads, self.cache_bytes)).as_json())
        self._folder, self._noted = place, hashes_of(shards)

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
            Those that cannot be read again, because they were given as arrays or dask collections, in their order.

        Raises
        ------
        PartError
            A part has other rows than it had. The message names it.
        ModelFileError
            The folder is not a saved model, or is damaged.
        ParameterError
            `parts` are too few or too many.
        """
        place = Folder(checks.path("folder", folder).absolute())
        state = State.of_json(*place.read())
        model = cls._of_settings(state.settings, state.limits, engine)
        model._columns = state.columns
        given = arguments.matched(*state.missing(), parts_of(parts, state.columns))
        shards = Shards(model._connected(), len(state.shards), *state.limits)
        try:
            seed, n_features = state.settings["seed"], state.settings["n_features"]
            parameters = core_parameters(model, n_features)
            coordinator = cls._new(parameters, n_features, seed)
            shards.open(coordinator.parameters(), n_features)
            state.fill(shards, given)
            shards.take_up(state.shards, given)
            _fit(coordinator, shards)
            if coordinator.digest() != state.digest:
                raise ModelFileError(f"{place.path}: the model has another digest than the one that was saved")
        except BaseException:
            shards.close()
            model.close()
            raise
        model._replace(coordinator, shards, seed)
        if state.interrupted is not None:
            model._pending = state.interrupted
            model._settled()
        model.save(place.path)
        return model

    @classmethod
    def _of_settings(cls, settings: Mapping[str, Any], limits: tuple[int | None, int | None], engine: Any) -> Self:
        given = {name: each for name, each in settings.items() if name not in {"seed", "n_features"}}
        given |= {name: float(Fraction(*settings[name])) for name in ("epsilon", "gamma")}
        return cls(**given, random_state=settings["seed"], engine=engine, n_threads=limits[0], cache_bytes=limits[1])

    def _note(self, line: Mapping[str, Any]) -> None:
        if self._folder is not None:
            self._folder.append(line)

    def _note_done(self, added: Sequence[Mapping[str, Any]] = ()) -> None:
        """Note an update that is complete: parts that came in, the shards that changed, and the digest."""
        if self._folder is not None:
            shards = hashes_of(self._shards)
            changed = {at: each for at, each in shards.items() if self._noted.get(at) != each}
            self._noted = shards
            self._note({"done": changed, "digest": self._coordinator.digest(), "add": [*added]})


# ---- steps ----
def _fit(coordinator: Coordinator, shards: Shards) -> None:
    """Fit to the rows that the shards have: the first pass is over places, the second assigns the rows."""
    answers = shards.ask("smallest", coordinator.params()["panel"])
    parts = [part for _, part in answers]
    coordinator.fit([candidates for candidates, _ in answers], merge_parts(parts))
    shards.settle(parts)
    _assign(coordinator, shards)
    shards.ask("settle")


def _assign(coordinator: Coordinator, shards: Shards) -> None:
    """Let all shards assign their rows to the coordinator's centres, and complete the model with their parts."""
    shards.frame = coordinator.frame_message()
    parts = shards.ask("assign", shards.frame)
    coordinator.complete(merge_parts(parts))
    shards.settle(parts)


def _report(report: UpdateReport, n_added: int, n_removed: int, started: float) -> UpdateReport:
    """Return the report of an update of all rows: the coordinator's counts rows of the panel."""
    return UpdateReport._restore(
        n_added, n_removed, report.path, report.first_iteration, report.work, perf_counter() - started
    )
