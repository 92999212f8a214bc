"""Tables in memory and Parquet files: data frames through narwhals, and datasets of Hugging Face.

narwhals is imported only when a table is read. The type of a column matters: a float32 stays a float32, so that a
possibly rounded id is refused; and the number of a class label becomes its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from erase_core.errors import MissingPackageError, SourceError, first_line
from erase_core.examples.content import Content
from erase_core.examples.example import RowFault
from erase_core.examples.rows import Rows, unique_labels

__all__ = ["read_parquet", "read_table"]

# Attributes that identify the class of a table. They are looked up on the class: on the object, they may run a query.
TABLE = ("columns", "column_names", "__arrow_c_stream__", "__arrow_c_array__")
NARROW: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(("Float16", "float16", "halffloat"), np.float16),
    **dict.fromkeys(("Float32", "float32", "float"), np.float32),
}

Convert = Callable[[Any], object]


def read_table(source: object, wanted: Collection[str], id_column: str | None) -> Rows | None:
    """Return the rows of a table; None for any other object.

    Parameters
    ----------
    source : object
        A table that narwhals supports (pandas, polars, pyarrow, DuckDB, lazy frames and more), an object that exports
        Arrow data, or a ``datasets.Dataset``.
    wanted : collection of str
        Columns to read if they exist.
    id_column : str or None
        The column of the ids.

    Raises
    ------
    SourceError
        A wanted column occurs twice, or the engine of the table fails.
    MissingPackageError
        Reading the table needs a package that is not installed.
    """
    kind = type(source)
    if any(each.__module__.split(".")[0] == "datasets" for each in kind.__mro__) and hasattr(kind, "features"):
        return _dataset(source, wanted)
    if isinstance(source, (str, bytes, list, tuple, dict)) or not any(hasattr(kind, name) for name in TABLE):
        return None
    if not hasattr(kind, "columns") and (hasattr(kind, "dtype") or hasattr(kind, "type")):
        return None  # a single column, whose values may be rows
    import narwhals.stable.v2 as nw

    if nw.dependencies.is_pandas_like_dataframe(source):
        return _pandas(source, wanted, id_column)
    if nw.dependencies.is_pyarrow_table(source):
        return _arrow(source, kind.__name__, wanted)
    frame: Any = nw.from_native(source, pass_through=True)
    if isinstance(frame, (nw.DataFrame, nw.LazyFrame)):
        return _frame(frame, kind.__name__, wanted)
    if not (hasattr(kind, "__arrow_c_stream__") or hasattr(kind, "__arrow_c_array__")):
        return None
    try:
        table = _arrow_module("pyarrow", kind.__name__).table(source)
    except (TypeError, ValueError) as error:  # an Arrow array that is not a table
        raise SourceError(
            f"examples cannot be read from {kind.__name__}: {first_line(error)}. Give a table."
        ) from error
    return _arrow(table, kind.__name__, wanted)


def read_parquet(content: Content, wanted: Collection[str]) -> Rows:
    """Read a Parquet file.

    Raises
    ------
    MissingPackageError
        pyarrow is not installed.
    SourceError
        The file is not valid Parquet, or a wanted column occurs twice.
    """
    pyarrow, parquet = (_arrow_module(name, content.name) for name in ("pyarrow", "pyarrow.parquet"))
    try:
        with content.opened(text=False) as file:
            opened = parquet.ParquetFile(file if file.seekable() else pyarrow.BufferReader(file.read()))
            labels = unique_labels(opened.schema_arrow.names, content.name, wanted)
            table = opened.read(columns=[column for column in wanted if column in labels])
            rows = _arrow(table, content.name, wanted)
            rows.numbered = list(rows.numbered)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise SourceError(f"{content.name} cannot be read as Parquet: {first_line(error)}") from None
    rows.labels = labels
    return rows


def _arrow_module(name: str, source: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise _needs_arrow(source) from None


def _needs_arrow(source: str) -> MissingPackageError:
    return MissingPackageError(f"{source}: reading it needs pyarrow. Run `pip install 'erase-core[parquet]'`.")


# ---- frames ----
def _frame(frame: Any, name: str, wanted: Collection[str], convert: Mapping[str, Convert] | None = None) -> Rows:
    """Return the rows of a narwhals frame. A lazy frame is collected."""
    labels = list(_run(frame.collect_schema, name).names())
    found = [column for column in wanted if column in labels]
    if not found:
        return Rows(name, (), labels=labels)
    frame = _run(partial(frame.select, *found), name)
    if hasattr(frame, "collect"):
        frame = _run(frame.collect, name)
    converts = [(convert or {}).get(column) or _width(frame[column]) for column in found]
    return Rows(name, enumerate(_named(frame.iter_rows(), found, converts), 1), labels=labels)


def _run(query: Callable[[], Any], name: str) -> Any:
    """Return the result of a query by the table's own engine."""
    try:
        return query()
    except ImportError:
        raise _needs_arrow(name) from None
    except Exception as error:  # each engine has its own errors
        kind = type(error).__name__
        raise SourceError(f"{name} cannot be read: its engine failed with {kind}. Run the query yourself.") from error


def _width(column: Any) -> Convert | None:
    """Return the type of a column of float16 or float32, which Python would convert to float64; otherwise None."""
    name = str(column.dtype)
    if name in {"Categorical", "Enum", "Unknown"}:  # the categories of pandas may be floats
        with suppress(Exception):
            name = str(np.asarray(column.to_native()).dtype)
    return NARROW.get(name)


def _named(rows: Iterator[Sequence[Any]], names: Sequence[str], converts: Sequence[Convert | None]) -> Iterator[object]:
    for row in rows:
        named: dict[str, Any] = {}
        fault: RowFault | None = None
        for name, value, convert in zip(names, row, converts, strict=True):
            named[name] = value if convert is None or value is None else _converted(value, convert)
            if isinstance(named[name], RowFault):
                fault = fault or RowFault(name, str(named[name].reason))
        yield fault or named


def _converted(value: Any, convert: Convert) -> Any:
    """Return a value in the type of its column, or a fault. Missing values stay unchanged."""
    try:
        return value if value != value else convert(value)
    except RowFault as fault:
        return fault
    except (TypeError, ValueError):  # pandas' NA, which is neither equal nor unequal to itself
        return value


def _pandas(native: Any, wanted: Collection[str], id_column: str | None) -> Rows:
    """Return the rows of a pandas frame, whose index may hold the ids."""
    import narwhals.stable.v2 as nw

    name = type(native).__name__
    labels = unique_labels(native.columns, name, wanted)
    levels = [level for level in native.index.names if level in wanted and level not in labels]
    if levels:
        native = native.reset_index(level=levels)
        labels = [*levels, *labels]
    notes = []
    if id_column is not None and id_column not in labels and not _is_default(native.index):
        named = [level for level in native.index.names if level is not None]
        which = f" {', '.join(map(repr, named))}" if named else ""
        how = f"give fields={{'id': {named[0]!r}}}" if named else "call reset_index() and give fields={'id': 'index'}"
        notes.append(
            f"the index{which} of the {name} is not read, and examples are numbered; if it contains the ids, {how}"
        )
    found = [column for column in wanted if column in labels]
    if not found:
        return Rows(name, (), labels=labels)
    rows = _frame(nw.from_native(native[found]), name, found)
    # A level of the index can be read like a column, and may hold the subjects.
    unread = [level for level in native.index.names if level is not None and level not in labels]
    rows.labels, rows.notes = [*labels, *unread], notes
    return rows


def _is_default(index: Any) -> bool:
    """Whether an index only numbers the rows."""
    return index.names == [None] and index.nlevels == 1 and list(index) == list(range(len(index)))


# ---- Arrow ----
def _arrow(table: Any, name: str, wanted: Collection[str]) -> Rows:
    import narwhals.stable.v2 as nw

    labels = unique_labels(table.column_names, name, wanted)
    found = [column for column in wanted if column in labels]
    names = _class_names((table.schema.metadata or {}).get(b"huggingface"))
    convert = {column: partial(_class_name, names[column]) for column in found if column in names}
    rows = _frame(nw.from_native(table.select(found)), name, found, convert)
    rows.labels = labels
    return rows


def _class_names(metadata: bytes | None) -> dict[str, list[str]]:
    """Return the class names that `datasets` writes into the schema of a file, by column."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        features = json.loads(metadata or b"{}")["info"]["features"]
        labels = {name: feature for name, feature in features.items() if isinstance(feature, dict)}
        return {name: list(each["names"]) for name, each in labels.items() if each.get("_type") == "ClassLabel"}
    return {}


def _class_name(names: Sequence[str], value: Any) -> object:
    if isinstance(value, str):
        return value
    number = int(value)
    if number == -1:  # by convention, a row without a label
        return None
    if not 0 <= number < len(names):
        raise RowFault(None, f"must be a class from 0 to {len(names) - 1}, got {number}")
    return names[number]


# ---- datasets ----
def _dataset(dataset: Any, wanted: Collection[str]) -> Rows:
    """Return the rows of a Hugging Face dataset, whatever its output format is."""
    name = type(dataset).__name__
    features = dict(dataset.features or {})
    labels = list(dataset.column_names or features)
    found = [column for column in wanted if column in labels]
    if labels and not found:
        return Rows(name, (), labels=labels)
    plain = dataset.with_format(None)
    if not labels:  # a streaming dataset may not know its columns before its rows
        return Rows(name, enumerate(plain, 1))
    converts = [_feature(features.get(column)) for column in found]
    rows = ([row.get(column) for column in found] for row in plain.select_columns(found))
    return Rows(name, enumerate(_named(rows, found, converts), 1), labels=labels)


def _feature(feature: Any) -> Convert | None:
    if type(feature).__name__ == "ClassLabel":
        return partial(_class_name, list(feature.names))
    return NARROW.get(str(getattr(feature, "dtype", "")))
