"""The compiled core. Private: `erase_core` is the interface."""

import os
from typing import Literal, Self, SupportsIndex, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEBUG_BUILD",
    "Coordinator",
    "Model",
    "Shard",
    "UpdateReport",
    "__version__",
    "merge_parts",
    "open_in_place",
    "open_vectors",
    "read_part",
    "seal_in_place",
    "seal_vectors",
]
__version__: str
DEBUG_BUILD: bool

_Rows = NDArray[np.float32] | NDArray[np.float64]
_Ids = list[int] | list[str]

class _Params(TypedDict):
    n_clusters: int
    epsilon: tuple[int, int]
    gamma: tuple[int, int]
    max_iter: int
    panel: int | None
    projection: int | NDArray[np.float64] | None
    max_norm: float | None
    center: NDArray[np.float64] | None
    seed: int
    n_features: int

class _Part(TypedDict):
    n_rows: int
    exponent: int | None
    row_hash: bytes | None
    frame: bytes | None
    counts: NDArray[np.int64] | None
    loss: int | None
    nearest: list[list[tuple[int, int | str]]] | None

@final
class UpdateReport:
    """The effect and the cost of one `add` or `remove`.

    Attributes
    ----------
    n_added, n_removed : int
        Rows added and removed.
    path : {"certified", "replayed", "reseeded"}
        ``certified``: no centre changed, and only the given rows were examined. ``replayed``: all steps from the first
        one with changed centres were run again. ``reseeded``: a race of the seeding was run again, and all steps if
        this changed a seed; or the number of clusters or the scale changed.
    first_iteration : int or None
        The first step that was run again, counted from 0; None if all steps were kept.
    work : int
        Number of multiply-adds.
    seconds : float
        Wall-clock time in the core.
    """

    @property
    def n_added(self) -> int: ...
    @property
    def n_removed(self) -> int: ...
    @property
    def path(self) -> Literal["certified", "replayed", "reseeded"]: ...
    @property
    def first_iteration(self) -> int | None: ...
    @property
    def work(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @staticmethod
    def _restore(
        n_added: int,
        n_removed: int,
        path: str,
        first_iteration: int | None,
        work: int,
        seconds: float,
    ) -> UpdateReport: ...
    def __reduce__(self) -> tuple[object, tuple[int, int, str, int | None, int, float]]: ...

@final
class Model:
    """A fitted model. See `erase_core.QKMeans`, which owns one."""

    @staticmethod
    def fit(
        x: _Rows,
        ids: list[int] | list[str] | None,
        *,
        n_clusters: int,
        epsilon: tuple[int, int],
        gamma: tuple[int, int],
        max_iter: int,
        panel: int | None,
        projection: int | NDArray[np.float64] | None,
        max_norm: float | None,
        center: list[float] | None,
        seed: int,
        n_threads: int | None,
        cache_bytes: int | None,
    ) -> Model: ...
    def add(self, x: _Rows, ids: list[int] | list[str] | None) -> UpdateReport: ...
    def remove(self, which: SupportsIndex | str | list[int] | list[str]) -> UpdateReport: ...
    def predict(self, x: _Rows) -> NDArray[np.int32]: ...
    def transform(self, x: _Rows) -> NDArray[np.float64]: ...
    def nearest_square_distances(self, x: _Rows) -> NDArray[np.float64]: ...
    def neighbours(self, x: _Rows, count: int) -> tuple[NDArray[np.float64], list[int] | list[str]]: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def inertia(self) -> float: ...
    @property
    def n_iter(self) -> int: ...
    @property
    def resolution(self) -> float: ...
    def largest_id(self) -> int | None: ...
    def ids(self) -> NDArray[np.int64] | list[str]: ...
    def labels(self) -> NDArray[np.int32]: ...
    def centres(self) -> NDArray[np.float64]: ...
    def exemplars(self) -> list[int | str | None]: ...
    def nearest(self, count: int) -> list[list[int | str]]: ...
    def seeds(self) -> list[int | str]: ...
    def proposals(self) -> list[list[int] | list[str]]: ...
    def digest(self) -> str: ...
    def save(self, path: str | os.PathLike[str]) -> None: ...
    @staticmethod
    def load(path: str | os.PathLike[str], n_threads: int | None, cache_bytes: int | None) -> Model: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes, n_threads: int | None, cache_bytes: int | None) -> Model: ...
    def params(self) -> _Params: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: dict[int, object]) -> Self: ...
    def __reduce__(self) -> tuple[object, tuple[bytes, int | None]]: ...

@final
class Shard:
    """The rows that one place holds, of a model whose rows are in several places. A `Coordinator` has the rest.

    A shard has its rows and their assignment to the centres that it was given. Everything that is exchanged is
    integers, so any split of the rows gives the same model. Calls may come from any thread.

    Messages are `bytes` with a checksum. A damaged message is a `ModelFileError`, and so is a message of another kind,
    or of a model with other parameters. The core overwrites the rows of a message after use. Nobody overwrites the
    `bytes` object.

    Parameters
    ----------
    parameters : bytes
        From `Coordinator.parameters`.
    n_threads, cache_bytes : int or None
        As of `Model`.

    Raises
    ------
    ModelFileError
        `parameters` is damaged.
    """

    def __new__(cls, parameters: bytes, n_threads: int | None, cache_bytes: int | None) -> Self: ...
    @property
    def n_rows(self) -> int:
        """Number of rows."""
    @property
    def exponent(self) -> int | None:
        """The largest exponent of the rows, or the one that `max_norm` fixes. None without rows and `max_norm`."""
    @property
    def frame(self) -> bytes | None:
        """What the rows are assigned to, as 32 bytes.

        If it equals `Coordinator.frame`, `assign` is not needed. It is None if the rows are not assigned: before the
        first `assign`, and after a row was added that has a larger exponent than the model.
        """
    def expect(self, more: int) -> None:
        """Make room for so many more rows, so that those present are not moved when they come. Only a hint."""
    def add(self, x: _Rows, ids: _Ids) -> None:
        """Add rows. They are assigned if the present rows are.

        Parameters
        ----------
        x : ndarray of shape (n, n_features), float32 or float64, C-contiguous
        ids : list of n int or str
            No other shard may have them; this is not checked.

        Raises
        ------
        DataError
            A value is not finite, a norm exceeds `max_norm`, or the numbers of rows and ids differ.
        DuplicateIdError
            An id is given twice, or is present in this shard.
        IdKindError
            The ids are of another kind than those of the shard.

        After an error the shard is as it was.
        """
    def take(self, rows: bytes) -> None:
        """Add rows from a message of another shard (`rows`, `rows_of`, `smallest`). They are not rounded again.

        Raises
        ------
        ModelFileError
            The message is damaged, or contains no rows of this model.
        DuplicateIdError, IdKindError, DataError
            As `add`.
        """
    def remove(self, ids: _Ids) -> _Ids:
        """Remove and overwrite the rows with these ids that are in this shard.

        The time does not depend on the number of rows. Only if a list of nearest rows is used up, one pass is needed.

        Parameters
        ----------
        ids : list of int or str
            Unknown ids are ignored.

        Returns
        -------
        list of int or str
            The ids of the removed rows.
        """
    def has(self, ids: _Ids) -> list[bool]:
        """Return for each id whether its row is in this shard."""
    def ids(self) -> NDArray[np.int64] | list[str]:
        """Return the ids in ascending order; an empty array without rows."""
    def labels(self, ids: _Ids) -> NDArray[np.int32]:
        """Return the clusters of rows.

        Raises
        ------
        UnknownIdError
            A row is not in this shard.
        DataError
            The rows are not assigned (`frame` is None).
        """
    def smallest(self, after: bytes | None, count: int) -> bytes:
        """Return the rows that are next for the panel: those of smallest place after a mark, in this order.

        The time does not depend on the number of rows. A pass over the ids is needed the first time, and when the
        known next rows are used up.

        Parameters
        ----------
        after : bytes or None
            From `Coordinator.mark`, before the update. None for all rows, as `Coordinator.fit` needs them, with
            `count=panel`.
        count : int
            Number of rows; if there are fewer, all are returned.
        """
    def candidates(self, ids: _Ids, mark: bytes | None) -> bytes:
        """Return the rows with these ids that belong on the panel if they were just added: those up to the mark.

        Parameters
        ----------
        ids : list of int or str
            The added ids. Unknown ids are ignored.
        mark : bytes or None
            From `Coordinator.mark`, before the update. None for all rows. At most `panel` rows are returned.
        """
    def assign(self, centres: bytes) -> None:
        """Assign the rows to the model's centres. Rows that are added or removed later are followed.

        If the rows are assigned to these centres already, nothing is done.

        Parameters
        ----------
        centres : bytes
            From `Coordinator.frame_message`.

        Raises
        ------
        ModelFileError
            The message is damaged, or of a model with other parameters.
        ParameterError
            A row has a larger exponent than the model: the coordinator does not know the part of this shard.
        """
    def part(self, nearest: int = 1, *, row_hash: bool = True) -> bytes:
        """Return the shard's part of the model, for `merge_parts`. Its size does not depend on the number of rows.

        It contains the number of rows, their largest exponent and their hash. If they are assigned, it also contains
        the number of rows of each cluster, the sum of the squared distances, and the nearest rows of each cluster.

        Parameters
        ----------
        nearest : int
            Number of nearest rows of each cluster, from 1 to 64.
        row_hash : bool
            Whether to include the hash of the rows. `Coordinator.digest` needs it from all shards. The first time, it
            takes about as long as a fit. From then on the shard keeps it up to date, and it is always included.

        Raises
        ------
        ParameterError
            `nearest` is out of its range.
        """
    def rows(self, start: int, stop: int) -> bytes:
        """Return the rows at the positions `start` to `stop - 1`, for `take` and `Coordinator.gather`.

        Positions stay the same until a row is added or removed. Those from `n_rows` on are ignored.
        """
    def rows_of(self, ids: _Ids) -> bytes:
        """Return the rows with these ids, for `take` and `Coordinator.gather`.

        Raises
        ------
        UnknownIdError
            A row is not in this shard.
        """

@final
class Coordinator:
    """The rest of a model whose rows are in shards: the rows of the panel, and the sum of the shards' parts.

    All results equal those of a `Model` of all rows, and `digest` has the same bits.

    A fit: call `fit` with what `smallest(None, panel)` and `part` of all shards return. Then call `assign` on all
    shards, and `complete` with their merged parts.

    An update, of any removals and additions at once:

    1. Get `mark`, and `on_panel` of the ids to remove.
    2. On the shards: `remove`, `add`, then `candidates` of the added ids with the mark, and `part`. If `on_panel`
       returned any ids, also `smallest` with the mark and as many rows.
    3. Call `exchange` with all of these.
    4. If the centres moved: `assign` on all shards, and `complete` with their merged parts.

    Raises
    ------
    ParameterError
        A parameter is out of its range, or `panel` is None: then all rows would have to be in one place.
    """

    def __new__(
        cls,
        n_features: int,
        *,
        n_clusters: int,
        epsilon: tuple[int, int],
        gamma: tuple[int, int],
        max_iter: int,
        panel: int,
        projection: int | NDArray[np.float64] | None,
        max_norm: float | None,
        center: list[float] | None,
        seed: int,
        n_threads: int | None,
        cache_bytes: int | None,
    ) -> Self: ...
    def parameters(self) -> bytes:
        """Return the parameters as a message for `Shard`."""
    def params(self) -> _Params:
        """Return the parameters as `Model.params` does."""
    def fit(self, candidates: list[bytes], part: bytes) -> UpdateReport:
        """Start anew with the rows of smallest place of all shards. `assign` on all shards and `complete` must follow.

        Parameters
        ----------
        candidates : list of bytes
            Of each shard, `smallest(None, panel)`.
        part : bytes
            The merged parts of all shards, assigned or not.

        Raises
        ------
        ModelFileError
            A message is damaged.
        DataError
            There are too few candidates, or the parts do not contain them.
        DuplicateIdError
            Two shards have the same id.
        IdKindError
            The shards have ids of different kinds.

        After an error the coordinator is as it was.
        """
    def mark(self) -> bytes | None:
        """Return the place and the id of the panel's last row.

        As long as no row leaves the panel, a row after the mark cannot get onto it. None if the panel is not full:
        then every row is on it.
        """
    def on_panel(self, ids: _Ids) -> _Ids:
        """Return those of these ids whose rows are on the panel."""
    def panel_ids(self) -> NDArray[np.int64] | list[str]:
        """Return the ids of all rows on the panel in ascending order."""
    def exchange(self, leaving: _Ids, candidates: list[bytes], part: bytes) -> tuple[UpdateReport, bool]:
        """Update the model after the shards have changed. Rows that leave the panel are overwritten.

        Parameters
        ----------
        leaving : list of int or str
            The removed ids, on the panel or not.
        candidates : list of bytes
            From `Shard.candidates` and `Shard.smallest`. A row may be in several messages, and there may be more rows
            than needed.
        part : bytes
            The merged parts of all shards after the change.

        Returns
        -------
        report : UpdateReport
            `n_removed` and `n_added` count the rows that left the panel and came onto it.
        moved : bool
            True if the shards must assign their rows again, and `complete` must follow. If False, the model is
            complete.

        Raises
        ------
        ModelFileError, DuplicateIdError, IdKindError
            As `fit`.
        DataError
            As `fit`. If rows are missing, the message says how many to request with `smallest`.

        After an error the coordinator is as it was.
        """
    @property
    def frame(self) -> bytes:
        """The hash of the centres and the exponent, 32 bytes. Compare it with `Shard.frame`."""
    def frame_message(self) -> bytes:
        """Return the centres and the exponent as a message for `Shard.assign`."""
    def complete(self, part: bytes) -> None:
        """Take the merged parts of all shards, assigned to the present centres.

        Parameters
        ----------
        part : bytes
            With more nearest rows, `nearest` can return as many.

        Raises
        ------
        ModelFileError
            The message is damaged.
        DataError
            A part is not assigned to the present centres, or the rows are not those of the last `fit` or `exchange`.
        """
    @property
    def is_complete(self) -> bool:
        """Whether the model includes the parts of all shards.

        If not, `inertia`, `counts`, `resolution`, `exemplars`, `nearest` and `digest` raise a `DataError`.
        """
    @property
    def n_rows(self) -> int:
        """Number of rows of all shards."""
    @property
    def inertia(self) -> float: ...
    @property
    def n_iter(self) -> int: ...
    @property
    def resolution(self) -> float: ...
    def counts(self) -> NDArray[np.int64]:
        """Return the number of rows of each cluster."""
    def centres(self) -> NDArray[np.float64]: ...
    def exemplars(self) -> list[int | str | None]: ...
    def nearest(self, count: int) -> list[list[int | str]]:
        """Return for each cluster the ids of the `count` rows nearest to its centre, or of all its rows.

        Raises
        ------
        DataError
            The parts have fewer. Request them with `Shard.part(nearest=count)`, merge them, and call `complete`.
        """
    def seeds(self) -> list[int | str]: ...
    def proposals(self) -> list[list[int] | list[str]]: ...
    def predict(self, x: _Rows) -> NDArray[np.int32]: ...
    def transform(self, x: _Rows) -> NDArray[np.float64]: ...
    def nearest_square_distances(self, x: _Rows) -> NDArray[np.float64]: ...
    def digest(self) -> str:
        """Return the digest in hex. A `Model` of all rows has the same.

        Raises
        ------
        DataError
            A part has no hash of its rows (`Shard.part(row_hash=True)`).
        """
    def gather(self, rows: list[bytes], n_threads: int | None, cache_bytes: int | None) -> Model:
        """Return a `Model` of all rows. Its file has the same bytes as that of a model that was fitted in one process.

        Parameters
        ----------
        rows : list of bytes
            From `Shard.rows`, of all shards.
        n_threads, cache_bytes : int or None
            As of `Model`.

        Raises
        ------
        ModelFileError, DuplicateIdError, IdKindError
            As `fit`.
        DataError
            There are more or fewer rows than `n_rows`.
        """
    def to_bytes(self) -> bytes:
        """Return the state: the parameters, the rows of the panel, and the merged parts."""
    @staticmethod
    def from_bytes(data: bytes, n_threads: int | None, cache_bytes: int | None) -> Coordinator:
        """Restore a coordinator from its state.

        Raises
        ------
        ModelFileError
            The bytes are damaged, or of another version.
        """
    def __reduce__(self) -> tuple[object, tuple[bytes, int | None, int | None]]: ...

def merge_parts(parts: list[bytes]) -> bytes:
    """Merge parts of shards, in any order. Merged parts can be merged again.

    Raises
    ------
    ModelFileError
        The list is empty, a part is damaged, or the parts are of models with different parameters.
    IdKindError
        The shards have ids of different kinds.
    DuplicateIdError
        A row is in two parts. This is noticed only if it is among the nearest rows of both.
    DataError
        A sum of squared distances reaches 2^63, which needs more than 2^31 rows.
    """

def read_part(part: bytes) -> _Part:
    """Return the contents of a part.

    `row_hash` (2048 bytes) is the sum of the hashes of the rows, which depends on the set of the rows alone. It is None
    if a shard was not asked for it. `frame` and the rest are None if the rows are not all assigned to the same centres.
    `loss` is the sum of the squared distances. `nearest` contains the squared distance and the id of the nearest rows
    of each cluster. Distances are in units of the fixed point.

    Raises
    ------
    ModelFileError
        The part is damaged.
    """

def seal_vectors(
    context: bytes, first: int, keys: bytes, ids: list[int] | list[str] | list[int | str], vectors: NDArray[np.float32]
) -> list[bytes]:
    """Seal the vectors of examples in consecutive slots. `keys` has 32 bytes for each."""

def open_vectors(
    context: bytes, slots: list[int], keys: bytes, blobs: list[bytes], out: NDArray[np.float32]
) -> tuple[list[int] | list[str], int | None]:
    """Open vectors into an array; return the ids, and the index of the first one that does not open."""

def seal_in_place(key: bytes, nonce: bytes, associated: bytes, content: NDArray[np.uint8]) -> bytes:
    """Seal bytes, which become the ciphertext. Return the tag."""

def open_in_place(key: bytes, nonce: bytes, associated: bytes, content: NDArray[np.uint8], tag: bytes) -> bool:
    """Open sealed bytes, and return whether they open; if not, they are as they were."""
