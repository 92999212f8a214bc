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
    row_hash: bytes
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
    """The rows that one place holds, of a model whose rows lie in several places. A `Coordinator` has the rest.

    A shard keeps its rows and their assignment to the centres that it was given. All that it is asked for and answers is
    integers, so that the parts of any split of the rows merge to the same model. Calls may come from any thread.

    Messages are `bytes`. They have a checksum: a damaged one is a `ModelFileError`, and so is one of another kind. Messages
    with rows are overwritten in the core after use; those that Python holds are not.

    Parameters
    ----------
    parameters : bytes
        What `Coordinator.parameters` returns.
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
        """Number of rows held."""
    @property
    def exponent(self) -> int | None:
        """The largest exponent of its rows; None without rows. With `max_norm`, the one that this fixes."""
    @property
    def frame(self) -> bytes | None:
        """What its rows are assigned to, as 32 bytes: equal to `Coordinator.frame` if `assign` is not needed. None if they
        are not assigned: before the first `assign`, or after an `add` of a row with a larger exponent than the model's."""
    def add(self, x: _Rows, ids: _Ids) -> None:
        """Take rows in, and assign them if the others are assigned.

        Parameters
        ----------
        x : ndarray of shape (n, n_features), float32 or float64, C-contiguous
        ids : list of n int or str

        Raises
        ------
        DataError
            A value is not finite, a norm exceeds `max_norm`, or the numbers of rows and ids differ.
        DuplicateIdError
            An id is given twice, or this shard has it. (That no two shards have the same id is for the caller to see to.)
        IdKindError
            The ids are of another kind than those held.

        Nothing was added then.
        """
    def take(self, rows: bytes) -> None:
        """Take rows in that came out of a shard (`rows`, `rows_of`, `smallest`): the very same rows, without rounding again.

        Raises
        ------
        ModelFileError
            The message is damaged, or does not have rows of this model.
        DuplicateIdError, IdKindError, DataError
            As `add`.
        """
    def remove(self, ids: _Ids) -> _Ids:
        """Overwrite those of these rows that the shard holds, and return their ids. Others are left out silently. The time
        does not depend on the number of rows held, but for a rare pass when a list of nearest rows is used up.

        Ids of the other kind than those held are not here either.
        """
    def has(self, ids: _Ids) -> list[bool]:
        """Return for each id whether its row is here."""
    def ids(self) -> NDArray[np.int64] | list[str]:
        """Return the ids, ascending. Without rows, an empty array."""
    def labels(self, ids: _Ids) -> NDArray[np.int32]:
        """Return the clusters of rows, by id.

        Raises
        ------
        UnknownIdError
            A row is not here.
        ParameterError
            The rows are not assigned (`frame` is None).
        """
    def smallest(self, after: bytes | None, count: int) -> bytes:
        """Return the `count` rows of smallest place behind a mark, or all of fewer, in order of place: candidates for the
        panel, as a message. The time does not depend on the number of rows held, but for a rare pass over their keys.

        Parameters
        ----------
        after : bytes or None
            What `Coordinator.mark` returned before the update; None from the start (for `Coordinator.fit`, with
            `count=panel`).
        count : int
        """
    def candidates(self, ids: _Ids, mark: bytes | None) -> bytes:
        """Return those of these rows that are to come onto the panel because their places are before the mark; all of them,
        but at most `panel`, if it is None. Ask for the ids that were added. Ids that are not here are left out.

        Parameters
        ----------
        ids : list of int or str
        mark : bytes or None
            What `Coordinator.mark` returned before the update.
        """
    def assign(self, centres: bytes) -> None:
        """Align the rows to the model's exponent, and assign them to the model's centres. From then on rows that come and go
        are followed. Does nothing if they are assigned to these already.

        Parameters
        ----------
        centres : bytes
            What `Coordinator.frame_message` returns.

        Raises
        ------
        ModelFileError
            The message is damaged, or of a model with other parameters.
        ParameterError
            A row here has a larger exponent than the message's: the coordinator was not told of all rows.
        """
    def part(self, nearest: int = 1) -> bytes:
        """Return the shard's part of the model, as a message for `merge_parts`: its number of rows, the largest exponent,
        the hash of the rows and, if they are assigned, the number of rows in each cluster, the sum of squared distances and
        the `nearest` (1 to 64) nearest rows of each cluster by id. Its size does not depend on the number of rows.

        Raises
        ------
        ParameterError
            `nearest` is not from 1 to 64.
        """
    def rows(self, start: int, stop: int) -> bytes:
        """Return the rows from position `start` to `stop` (exclusive, cut to `n_rows`) as a message, to be sent to another
        shard (`take`) or to `Coordinator.gather`. Positions are stable as long as no row comes or goes."""
    def rows_of(self, ids: _Ids) -> bytes:
        """Return rows by id as a message.

        Raises
        ------
        UnknownIdError
            A row is not here.
        """

@final
class Coordinator:
    """What is left of a model whose rows lie in shards: the rows of the panel, all that follows from them, and the sums of
    the shards' parts. Its results have the same values, and `digest` the same bits, as a `Model` of all rows.

    A fit: `fit` with what `Shard.smallest(None, panel)` and `Shard.part` of all shards return; then `Shard.assign` on all
    shards; then `complete` with the merged parts.

    An update, of any removals and additions together. (1) Note `mark`, and `on_panel` of the ids that go. (2) On the shards:
    `remove`, `add`, `candidates` (of the added ids, with the mark), `part`; and `smallest` with the mark and as many rows as
    there are in `on_panel`, if there are any. (3) `exchange` with all this. (4) If it says that the centres moved: `assign` on
    all shards, and `complete` with the merged parts.

    Raises
    ------
    ParameterError
        A parameter is out of its range, or `panel` is None: then all rows would have to be here.
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
        """Return the parameters as a message, for `Shard`."""
    def params(self) -> _Params:
        """Return the parameters as `Model.params` does."""
    def fit(self, candidates: list[bytes], part: bytes) -> UpdateReport:
        """Begin anew, with the rows of smallest place of all shards. `Shard.assign` on all shards must follow.

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
            The candidates are too few for the number of rows in the parts, or a row has a larger exponent than these.
        DuplicateIdError
            Two shards have the same id.
        IdKindError
            The ids of the shards are of different kinds.

        The coordinator is then as it was.
        """
    def mark(self) -> bytes | None:
        """Return place and id of the panel's last row: a row comes onto the panel only if it is before it. None if the panel
        is not full: then all rows are on it, and every row that is added comes onto it."""
    def on_panel(self, ids: _Ids) -> _Ids:
        """Return those of these ids whose rows are on the panel."""
    def panel_ids(self) -> NDArray[np.int64] | list[str]:
        """Return the ids of all rows on the panel, ascending."""
    def exchange(self, leaving: _Ids, candidates: list[bytes], part: bytes) -> tuple[UpdateReport, bool]:
        """Take a change of the rows in that the shards have made already, in one update. It overwrites what leaves.

        Parameters
        ----------
        leaving : list of int or str
            The ids that were removed. Those that are not on the panel are passed over.
        candidates : list of bytes
            What `Shard.candidates` and `Shard.smallest` returned. A row may occur in several of them, and rows that are
            not needed do no harm.
        part : bytes
            The merged parts of all shards after the change.

        Returns
        -------
        report : UpdateReport
            `n_removed` and `n_added` are the rows that leave the panel and come onto it.
        moved : bool
            Whether the shards have to assign their rows anew, and `complete` must be called. If not, the model is complete
            with `part`.

        Raises
        ------
        ModelFileError, DuplicateIdError, IdKindError
            As `fit`.
        DataError
            As `fit`. The message says how many rows after the mark are missing: ask all shards for as many (`smallest`).

        The coordinator is then as it was.
        """
    @property
    def frame(self) -> bytes:
        """The present centres and exponent, as 32 bytes to compare with `Shard.frame`."""
    def frame_message(self) -> bytes:
        """Return the present centres and exponent as a message, for `Shard.assign`."""
    def complete(self, part: bytes) -> None:
        """Take in the merged parts of all shards, assigned to the present centres. With more `nearest` rows, `nearest` can
        be asked for as many.

        Raises
        ------
        ModelFileError
            The message is damaged.
        DataError
            A part is not assigned to the present centres, or has not the number of rows or the exponent that `fit` or
            `exchange` was told.
        """
    @property
    def is_complete(self) -> bool:
        """Whether the results are those of all rows. Until then what follows from all rows raises a `DataError`: `inertia`,
        `counts`, `resolution`, `exemplars`, `nearest` and `digest`."""
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
        """Return the number of rows in each cluster."""
    def centres(self) -> NDArray[np.float64]: ...
    def exemplars(self) -> list[int | str | None]: ...
    def nearest(self, count: int) -> list[list[int | str]]:
        """Return the ids of the `count` rows nearest to each centre, or of all its rows.

        Raises
        ------
        DataError
            The parts were asked for fewer (`Shard.part(nearest=count)`, `merge_parts`, `complete`).
        """
    def seeds(self) -> list[int | str]: ...
    def proposals(self) -> list[list[int] | list[str]]: ...
    def predict(self, x: _Rows) -> NDArray[np.int32]: ...
    def transform(self, x: _Rows) -> NDArray[np.float64]: ...
    def nearest_square_distances(self, x: _Rows) -> NDArray[np.float64]: ...
    def digest(self) -> str:
        """Return the digest, in hex: that of a `Model` of all rows."""
    def gather(self, rows: list[bytes], n_threads: int | None, cache_bytes: int | None) -> Model:
        """Return a `Model` of all rows, from the messages of all shards (`Shard.rows`): its file has the same bytes as one
        that was fitted in one process.

        Raises
        ------
        ModelFileError, DuplicateIdError, IdKindError, DataError
            As `fit`; also if there are more or fewer rows than `n_rows`.
        """
    def to_bytes(self) -> bytes:
        """Return the state: the parameters, the rows of the panel, and the merged parts."""
    @staticmethod
    def from_bytes(data: bytes, n_threads: int | None, cache_bytes: int | None) -> Coordinator:
        """Take the state up again.

        Raises
        ------
        ModelFileError
            The bytes are damaged, or of another version.
        """
    def __reduce__(self) -> tuple[object, tuple[bytes, int | None, int | None]]: ...

def merge_parts(parts: list[bytes]) -> bytes:
    """Merge parts of shards, in any order; parts of several may be merged again.

    Raises
    ------
    ModelFileError
        A part is damaged, or of a model with another number of clusters.
    IdKindError
        The ids of the shards are of different kinds.
    DataError
        The rows are too many: a sum of their squared distances reaches 2^63.
    """

def read_part(part: bytes) -> _Part:
    """Read a part.

    `row_hash` (2048 bytes) is the sum of the hashes of the rows: equal for equal sets of rows. `frame` and what follows are
    None if the rows are not assigned to the same centres. `loss` is the sum of the squared distances, and `nearest` has the
    squared distance and the id of the nearest rows of each cluster, in units of the fixed point.

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
