"""The compiled core. Private: `erase_core` is the interface."""

import os
from typing import Literal, Self, SupportsIndex, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEBUG_BUILD",
    "Model",
    "UpdateReport",
    "__version__",
    "open_in_place",
    "open_vectors",
    "seal_in_place",
    "seal_vectors",
]
__version__: str
DEBUG_BUILD: bool

_Rows = NDArray[np.float32] | NDArray[np.float64]

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
