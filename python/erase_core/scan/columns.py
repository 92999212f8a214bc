"""Reads the columns of NumPy, Parquet, Arrow and Lance files as plain values.

Packages are imported only when a file needs them. Pickled objects are never loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import first_line
from erase_core.scan.containers import Budget, BudgetError
from erase_core.scan.formats import CannotLookError

__all__ = ["arrow_values", "lance_values", "numpy_values", "parquet_values"]

Values = Iterator[tuple[str, bytes]]
# Bytes of an array, or rows of a table, to read at a time.
PART, ROWS = 2**20, 1024


def numpy_values(file: BinaryIO, path: Path | None, place: str) -> Values:
    """Yield the values of an array that are not in its file as a search of raw bytes would find them.

    These are arrays in Fortran order or in another byte order, texts (in UTF-32), and long doubles.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers of old versions
            # A file on disk is mapped, so that only parts of it are in memory.
            array = np.load(path or file, mmap_mode="r" if path else None, allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # NumPy evaluates the header, which may raise anything
        objects = any(words in str(error) for words in ("Object arrays", "Python objects"))
        reason = "has pickled objects, which are never loaded" if objects else f"is damaged: {first_line(error)}"
        raise CannotLookError(f"{reason}. It was searched as raw bytes.") from error
    yield from _of_array(array, place)


def _of_array(array: NDArray[Any], place: str) -> Values:
    if array.dtype.names:
        for name in array.dtype.names:
            yield from _of_array(array[name], f"{place} (field {name})")
        return
    if array.dtype.kind == "U":
        for part in _parts(array):
            yield from ((place, text.encode("utf-8", "surrogatepass")) for text in part.ravel().tolist())
    elif array.dtype.kind == "f" and not (array.flags.c_contiguous and array.dtype.isnative and array.itemsize <= 8):
        kind = np.dtype(f"<f{min(array.itemsize, 8)}")
        with np.errstate(over="ignore"):
            yield from ((place, np.ascontiguousarray(part, dtype=kind).tobytes()) for part in _parts(array))


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an array in parts along its first axis."""
    if array.ndim < 2:
        array = array.reshape(1, -1)
    rows = max(1, PART * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def parquet_values(file: BinaryIO, place: str, budget: Budget) -> Values:
    """Yield the values of the columns of a Parquet file."""
    parquet = _package("pyarrow.parquet", "pyarrow")
    with _damage():
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=ROWS):
            yield from _of_batch(batch, place, budget)


def arrow_values(file: BinaryIO, place: str, budget: Budget, *, stream: bool) -> Values:
    """Yield the values of the columns of an Arrow file (also called Feather) or of Arrow's stream format."""
    ipc = _package("pyarrow.ipc", "pyarrow")
    with _damage():
        if stream:
            for batch in ipc.open_stream(file):
                yield from _of_batch(batch, place, budget)
            return
        opened = ipc.open_file(file)
        for number in range(opened.num_record_batches):
            yield from _of_batch(opened.get_batch(number), place, budget)


def lance_values(path: Path | None, place: str, budget: Budget) -> Values:
    """Yield the values of the columns of a Lance data file: all rows that it has, also deleted ones."""
    if path is None:
        raise CannotLookError("is a Lance file in an archive. Unpack the archive, and scan the result.")
    try:
        reader = import_module("lance.file").LanceFileReader
    except ImportError:
        raise CannotLookError(
            "is a Lance file, and was searched only as raw bytes. Run `pip install pylance`, and scan again."
        ) from None
    with _damage():
        for batch in reader(str(path.absolute())).read_all(batch_size=ROWS).to_batches():
            yield from _of_batch(batch, place, budget)


@contextmanager
def _damage() -> Iterator[None]:
    """Convert all errors of a reader of tables: damaged files may raise anything."""
    try:
        yield
    except (BudgetError, CannotLookError, MemoryError):
        raise
    except Exception as error:
        raise CannotLookError(
            f"cannot be read as a table: {first_line(error)}. It was searched as raw bytes."
        ) from error


def _package(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise CannotLookError(
            f"has columns that need {package}. Run `pip install {package}`, and scan again."
        ) from None


def _of_batch(batch: Any, place: str, budget: Budget) -> Values:
    batch.validate(full=True)  # a damaged file may have offsets that lead out of its memory
    budget.take(batch.nbytes)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        yield from _of_column(column, f"{place} (column {name})")


def _of_column(column: Any, place: str) -> Values:
    """Yield the texts and byte strings of a column one by one, and its numbers as one value."""
    import pyarrow as pa

    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        yield from _of_column(column.storage, place)
    elif isinstance(column, pa.DictionaryArray):
        yield from _of_column(column.dictionary, place)
    elif isinstance(column, pa.RunEndEncodedArray):
        yield from _of_column(column.values, place)
    elif isinstance(column, (pa.UnionArray, pa.StructArray)):
        for number in range(kind.num_fields):
            yield from _of_column(column.field(number), place)
    elif isinstance(column, pa.MapArray):
        yield from _of_column(column.keys, place)
        yield from _of_column(column.items, place)
    elif hasattr(column, "flatten") and pa.types.is_nested(kind):
        yield from _of_column(column.flatten(), place)
    elif _is_text(kind):
        for value in column.to_pylist():
            if value is not None:
                yield place, value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    elif pa.types.is_primitive(kind) and not pa.types.is_boolean(kind):
        yield place, _numbers(column)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    names = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
    tests = [getattr(types, f"is_{name}", None) for name in names]
    return any(test is not None and test(kind) for test in tests)


def _numbers(column: Any) -> bytes:
    """Return the numbers of a column as they are in memory, with those under nulls."""
    _, content = column.buffers()
    width = column.type.bit_width // 8
    return bytes(memoryview(content)[column.offset * width : (column.offset + len(column)) * width]) if content else b""
