"""Parts: where a worker reads rows and ids from. A part is small and is sent to a worker; its rows are read there.

Parts that were given as arrays are the exception: their rows are sent, once, and cannot be read again.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.errors import EraseError, MissingPackageError, ParameterError, PartError, first_line, os_reason

__all__ = ["ArrayPart", "Batch", "Columns", "FilePart", "Measure", "Part", "RayPart", "parts_of"]

Ids = list[int] | list[str]
# Ids, or None for rows to be numbered; and rows.
Batch = tuple[Ids | None, NDArray[np.floating]]
Columns = tuple[str, str]

# Names of the columns of ids and vectors.
COLUMNS: Columns = ("id", "vector")
# Bytes of rows that are read at once, or sent.
READ, SEND = 2**24, 2**20


class Measure(NamedTuple):
    """The width of the rows of a part, None if there are none; how many there are; and whether they have ids."""

    width: int | None
    n_rows: int
    has_ids: bool


class Part(ABC):
    """Some rows, all with ids or all without.

    Attributes
    ----------
    name : str
        For messages.
    n_rows : int
        How many rows to expect; 0 if that is not known.
    rereadable : bool
        Whether it can be read again.
    is_here : bool
        Whether it can be read at this moment.
    """

    name: str
    n_rows: int = 0
    rereadable: bool = True
    is_here: bool = True

    @abstractmethod
    def measure(self) -> Measure:
        """Return the measure of the rows, without reading more than it takes.

        Raises
        ------
        PartError
        """

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Read the part, some megabytes at a time."""

    def read(self, first: int | None) -> Iterator[Batch]:
        """Read the part. Rows without ids are numbered from `first` on.

        Raises
        ------
        PartError
            It cannot be read. The message names it.
        """
        at = first
        try:
            for ids, rows in self.batches():
                floats = _floats(rows)
                if ids is None:
                    if at is None:
                        raise PartError("it has no ids")
                    ids = list(range(at, at + len(floats)))
                    at += len(floats)
                yield ids, floats
        except Exception as error:
            raise self._unread(error) from None

    def _unread(self, error: Exception) -> EraseError:
        """Return the error that names this part."""
        if isinstance(error, EraseError):
            return type(error)(f"{self.name}: {error}")
        reason = os_reason(error) if isinstance(error, OSError) else first_line(error)
        if "allow_pickle" in reason:
            reason = "it is damaged, or has Python objects. Save ids as an array of integers or of the type str"
        return PartError(f"{self.name} cannot be read: {reason}")


@dataclass
class FilePart(Part):
    """A file: ``.npy`` (ids in ``NAME.ids.npy`` beside it, if there is such a file), ``.npz`` or ``.parquet``."""

    path: Path
    columns: Columns

    @property
    def name(self) -> str:  # type: ignore[override]
        """The path."""
        return str(self.path)

    @property
    def _ids(self) -> Path:
        return self.path.with_suffix(".ids.npy")

    def measure(self) -> Measure:
        """Read the head of the file."""
        try:
            if self.path.suffix == ".npy":
                shape = np.load(self.path, mmap_mode="r").shape
                if self.path.name.endswith(".ids.npy") and len(shape) == 1:
                    raise PartError("these are ids, which are read with the rows beside them. Leave this file out.")
                return _measure(shape, has_ids=self._ids.exists())
            if self.path.suffix == ".npz":
                with np.load(self.path) as arrays:
                    _check_columns([*arrays], self.columns)
                    return _measure(arrays[self.columns[1]].shape, has_ids=self.columns[0] in arrays)
            file = _parquet(self.path)
            first = next(self._tables(), None)
            width = None if first is None else _measure(first[1].shape, has_ids=False).width
            return Measure(width, int(file.metadata.num_rows), self.columns[0] in file.schema_arrow.names)
        except Exception as error:
            raise self._unread(error) from None

    def batches(self) -> Iterator[Batch]:
        """Read the file."""
        if self.path.suffix == ".parquet":
            yield from self._tables()
        elif self.path.suffix == ".npz":
            with np.load(self.path) as arrays:
                yield from _pairs(arrays.get(self.columns[0]), arrays[self.columns[1]])
        else:
            ids = np.load(self._ids) if self._ids.exists() else None
            yield from _pairs(ids, np.load(self.path, mmap_mode="r"))

    def _tables(self) -> Iterator[Batch]:
        file = _parquet(self.path)
        _check_columns(file.schema_arrow.names, self.columns)
        wanted = [name for name in self.columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=_parquet_rows(file), columns=wanted):
            yield _of_columns({name: batch.column(name) for name in wanted}, self.columns)


@dataclass
class ArrayPart(Part):
    """Rows that are in this process, and ids or None. They are not kept."""

    ids: Ids | None
    rows: NDArray[np.floating]
    name: str = "an array"
    rereadable: bool = field(default=False, init=False)
    is_here: bool = True

    def measure(self) -> Measure:
        """Look at the array."""
        return _measure(self.rows.shape, has_ids=self.ids is not None)

    def batches(self) -> Iterator[Batch]:
        """Cut the rows into messages."""
        step = max(1, SEND // max(1, self.rows[:1].nbytes))
        for start in range(0, len(self.rows), step):
            yield None if self.ids is None else self.ids[start : start + step], self.rows[start : start + step]

    def emptied(self) -> ArrayPart:
        """Return what is kept of it: its name, and whether it had ids."""
        return ArrayPart(None if self.ids is None else [], np.empty((0, 0)), self.name, is_here=False)


@dataclass
class LazyPart(Part):
    """A piece of a dask collection, which the holder computes within its own process."""

    pickled: bytes
    columns: Columns
    name: str

    def measure(self) -> Measure:
        """Compute the piece."""
        try:
            ids, rows = self._computed()
            return _measure(rows.shape, has_ids=ids is not None)
        except Exception as error:
            raise self._unread(error) from None

    def batches(self) -> Iterator[Batch]:
        """Compute the piece."""
        yield from _pairs(*self._computed())

    def _computed(self) -> tuple[Any, Any]:
        value = pickle.loads(self.pickled).compute(scheduler="synchronous")
        if isinstance(value, tuple):
            ids, rows = value
            return ids, np.asarray(rows)
        if hasattr(value, "columns"):
            _check_columns([*value.columns], self.columns)
            wanted = {name: value[name] for name in self.columns if name in value.columns}
            return _of_columns(wanted, self.columns)
        return None, np.asarray(value)


@dataclass
class RayPart(Part):
    """A block of a Ray data set: a table in Ray's object store, which the holder reads there by its reference.

    A reference that is pickled into bytes would keep the block for as long as the cluster runs. So it is not pickled:
    the engine lends it to the holder for the length of a call.
    """

    lent: Any
    columns: Columns
    name: str

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"lent": None}

    def measure(self) -> Measure:
        """Look at the table."""
        try:
            table = self._table()
            first = next(self._batches(table.slice(0, 1)), None)
            width = None if first is None else _measure(first[1].shape, has_ids=False).width
            return Measure(width, int(table.num_rows), self.columns[0] in table.column_names)
        except Exception as error:
            raise self._unread(error) from None

    def batches(self) -> Iterator[Batch]:
        """Read the table where it is."""
        yield from self._batches(self._table())

    def _table(self) -> Any:
        import ray

        return ray.get(self.lent)

    def _batches(self, table: Any) -> Iterator[Batch]:
        if table.num_rows:
            _check_columns(table.column_names, self.columns)
        step = max(1, READ * table.num_rows // max(1, table.nbytes))
        wanted = [name for name in self.columns if name in table.column_names]
        for batch in table.select(wanted).to_batches(max_chunksize=step):
            yield _of_columns({name: batch.column(name) for name in wanted}, self.columns)


# ---- what the caller gives ----
def parts_of(given: Any, columns: Columns) -> list[Part]:
    """Return what a caller gives as parts.

    Parameters
    ----------
    given : one part or a list of parts
        See `DistributedQKMeans.fit`.
    columns : tuple of str
        The names of ids and of vectors in tables.

    Raises
    ------
    ParameterError, IdKindError, DataError
    """
    is_pair = isinstance(given, tuple) and len(given) == 2 and hasattr(given[1], "shape")
    if is_pair or _is_dask(given) or _is_ray(given) or isinstance(given, (str, os.PathLike, np.ndarray)):
        given = [given]
    if not isinstance(given, Iterable):
        raise ParameterError(f"parts must be a list of parts, got {type(given).__name__}. {_WANTED}")
    return [part for number, each in enumerate(given) for part in _parts(each, number, columns)]


_WANTED = (
    "A part is the path of a .npy, .npz or .parquet file, a pair (ids, array), an array, a dask array, data frame "
    "or delayed, or a Ray data set."
)


def _parts(given: Any, number: int, columns: Columns) -> list[Part]:
    if isinstance(given, (str, os.PathLike)):
        path = checks.path("a part", given)
        if path.suffix not in {".npy", ".npz", ".parquet"}:
            raise ParameterError(f"part {number}: {path} is not a .npy, .npz or .parquet file")
        return [FilePart(path.absolute(), columns)]
    if _is_dask(given):
        return _lazy(given, number, columns)
    if _is_ray(given):
        blocks = enumerate(given.to_arrow_refs())
        return [RayPart(block, columns, f"part {number}, block {index} of a Ray data set") for index, block in blocks]
    if isinstance(given, np.ndarray):
        return [ArrayPart(None, _floats(given), f"part {number}, an array")]
    if isinstance(given, (tuple, list)) and len(given) == 2:
        ids, rows = checks.id_list(given[0], ordered=True), _floats(np.asarray(given[1]))
        if ids is not None and len(ids) != len(rows):
            raise PartError(f"part {number} has {len(ids)} ids for {len(rows)} rows")
        return [ArrayPart(ids, rows, f"part {number}, an array")]
    raise ParameterError(f"part {number} is of the type {type(given).__name__}. {_WANTED}")


def _is_dask(given: Any) -> bool:
    return "dask" in sys.modules and bool(sys.modules["dask"].is_dask_collection(given))


def _is_ray(given: Any) -> bool:
    return "ray.data" in sys.modules and isinstance(given, sys.modules["ray.data"].Dataset)


def _lazy(given: Any, number: int, columns: Columns) -> list[Part]:
    # A delayed object has every attribute that it is asked for.
    is_collection = hasattr(type(given), "to_delayed")
    if hasattr(type(given), "rechunk") and given.ndim == 2:  # an array: a block shall have whole rows
        given = given.rechunk({1: -1})
    pieces = given.to_delayed() if is_collection else [given]
    # Each piece without what only the others need.
    only = sys.modules["dask"].optimize
    return [
        _piece(only(piece)[0], columns, f"part {number}, piece {index} of a dask collection")
        for index, piece in enumerate(pieces.flat if isinstance(pieces, np.ndarray) else pieces)
    ]


def _piece(piece: Any, columns: Columns, name: str) -> Part:
    """Return a piece of a collection. One that has its rows with it is an array: it must not be kept here."""
    import cloudpickle  # type: ignore[import-untyped] # comes with dask

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        has_rows = False

        def reducer_override(self, obj: Any) -> Any:
            self.has_rows = self.has_rows or (isinstance(obj, np.ndarray) and obj.ndim > 1 and obj.size > 0)
            return super().reducer_override(obj)

    stream = io.BytesIO()
    (pickler := Pickler(stream)).dump(piece)
    part = LazyPart(stream.getvalue(), columns, name)
    if not pickler.has_rows:
        return part
    try:
        ids, rows = part._computed()
        return ArrayPart(checks.id_list(ids, ordered=True), _floats(rows), name)
    except Exception as error:
        raise part._unread(error) from None


# ---- arrays and columns ----
def _check_columns(names: list[str], columns: Columns) -> None:
    """Refuse a table whose ids may have another name. Its rows would be numbered, and a removal would take others.

    A table with vectors only has rows without ids.
    """
    ids, vectors = columns
    others = [name for name in names if name != vectors]
    hint = "Name the columns of ids and vectors by columns=."
    if vectors not in names:
        raise PartError(f"there is no column {vectors!r}. {hint}")
    if ids not in names and (others or ids != COLUMNS[0]):
        only = f", but {', '.join(repr(name) for name in others[:3])}" if others else ""
        raise PartError(f"there is no column {ids!r}{only}. {hint} Rows are numbered if there are vectors only.")


def _measure(shape: tuple[int, ...], *, has_ids: bool) -> Measure:
    if len(shape) != 2:
        raise PartError(f"rows must be a matrix, got an array of {len(shape)} dimensions")
    return Measure(shape[1] if shape[0] else None, shape[0], has_ids)


def _floats(rows: NDArray[Any]) -> NDArray[np.floating]:
    """Return rows as float32 or float64, without a change of value."""
    if rows.ndim != 2:
        raise PartError(f"rows must be a matrix, got an array of {rows.ndim} dimensions")
    if rows.dtype.kind not in "iufb":
        raise PartError(f"rows must be numbers, got an array of {rows.dtype}")
    if np.ma.is_masked(rows):
        raise PartError("rows must be numbers, got an array with masked values. Fill them in.")
    single = rows.dtype.kind == "f" and rows.dtype.itemsize <= 4
    return np.require(rows, np.float32 if single else np.float64, ["C", "A"])


def _pairs(ids: Any, rows: Any) -> Iterator[Batch]:
    given = checks.id_list(ids, ordered=True)
    if given is not None and len(given) != len(rows):
        raise PartError(f"there are {len(given)} ids for {len(rows)} rows")
    step = max(1, READ // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        chosen: Any = None if given is None else given[start : start + step]
        yield chosen, rows[start : start + step]
    if len(rows) == 0:
        yield given, rows


def _of_columns(table: dict[str, Any], columns: Columns) -> Batch:
    """Return ids and rows of the columns of a table: of Arrow, or of pandas."""
    ids, vectors = table.get(columns[0]), table[columns[1]]
    rows = np.asarray(vectors.to_numpy_ndarray()) if hasattr(vectors, "to_numpy_ndarray") else _arrow_matrix(vectors)
    if rows is None:
        rows = np.array([np.asarray(each) for each in vectors])
    if rows.ndim == 1 and len(rows) == 0:
        rows = rows.reshape(0, 0)
    return None if ids is None else checks.id_list(np.asarray(ids), ordered=True), rows


def _arrow_matrix(vectors: Any) -> NDArray[Any] | None:
    if not hasattr(vectors, "null_count"):
        return None
    if not hasattr(vectors, "value_lengths") and not hasattr(vectors.type, "list_size"):
        raise PartError(f"the vectors must be lists of numbers, got a column of the type {vectors.type}")
    flat = vectors.flatten()
    if vectors.null_count or flat.null_count:
        raise PartError("the vectors have null values")
    if len(vectors) and len(flat) % len(vectors):
        raise PartError("the vectors have different lengths")
    matrix = flat.to_numpy(zero_copy_only=False).reshape(len(vectors), -1) if len(vectors) else np.empty((0, 0))
    if hasattr(vectors, "value_lengths") and len({*vectors.value_lengths().to_pylist()}) > 1:
        raise PartError("the vectors have different lengths")
    return np.asarray(matrix)


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingPackageError.of("pyarrow", "parquet") from None
    return parquet.ParquetFile(path)


def _parquet_rows(file: Any) -> int:
    """Return how many rows are read at once."""
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    n_bytes = sum(int(group.total_byte_size) for group in groups)
    return max(1, READ * int(file.metadata.num_rows) // max(1, n_bytes))
