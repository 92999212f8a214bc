"""Tables in memory: the same rows from any library are the same examples; types count, and nothing is lost unseen."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from erase_core.errors import ExampleError, SourceError
from erase_core.examples.example import Example, NewExample, Reading
from erase_core.examples.reading import read_examples
from hypothesis import given, settings
from made_examples import GOOD, GOOD_EXAMPLES, Rows, example_lists, parquet, pyarrow, refused, rows
from processes import run


def polars() -> Any:
    return pytest.importorskip("polars", reason="polars is not installed")


def duckdb() -> Any:
    return pytest.importorskip("duckdb", reason="duckdb is not installed")


def datasets() -> Any:
    return pytest.importorskip("datasets", reason="datasets is not installed")


def arrow(rows: Rows) -> Any:
    return pyarrow.Table.from_pylist(rows)


def of_duckdb(rows: Rows) -> Any:
    return duckdb().from_arrow(arrow(rows))


class Exported:
    """A table of a library that nobody knows: it exports Arrow data and does nothing else."""

    def __init__(self, rows: Rows) -> None:
        self._table = arrow(rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


# All columns are given types, since a column without any value has none.
TABLES: dict[str, Callable[[Rows], Any]] = {
    "pandas": pd.DataFrame,
    "pandas by pyarrow": lambda rows: arrow(rows).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda rows: polars().DataFrame(rows, infer_schema_length=None),
    "polars, lazy": lambda rows: polars().LazyFrame(rows, infer_schema_length=None),
    "Arrow": arrow,
    "Arrow batch": lambda rows: arrow(rows).combine_chunks().to_batches()[0],
    "Arrow reader": lambda rows: arrow(rows).to_reader(),
    "Arrow by export": Exported,
    "DuckDB": of_duckdb,
    "dataset": lambda rows: datasets().Dataset.from_list(rows),
    "dataset, streamed": lambda rows: datasets().Dataset.from_list(rows).to_iterable_dataset(),
    "dataset, of unknown columns": lambda rows: datasets().IterableDataset.from_generator(lambda: iter(rows)),
    "dataset as numpy": lambda rows: datasets().Dataset.from_list(rows).with_format("numpy"),
    "dataset as pandas": lambda rows: datasets().Dataset.from_list(rows).with_format("pandas"),
}
WITH_IDS: Rows = [
    {"id": 2**53 + 1, "input": "a", "output": "b", "subject": "ann"},
    {"id": -5, "input": "c", "output": "d", "subject": None},
]
tables = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@tables
def test_the_same_rows_are_the_same_examples(table: Callable[[Rows], Any]) -> None:
    assert read_examples(table(WITH_IDS)) == Reading([Example(**row) for row in WITH_IDS], [])


@pytest.mark.parametrize("kind", ["polars", "polars, lazy", "Arrow", "DuckDB"])
@given(examples=example_lists())
@settings(max_examples=25)
def test_any_rows_are_the_same_examples(kind: str, examples: list[Example]) -> None:
    assert read_examples(TABLES[kind](rows(examples))) == Reading(examples, [])


@tables
def test_a_bad_row_is_the_same_bad_row(table: Callable[[Rows], Any]) -> None:
    source = [{**GOOD[0], "output": " "}, GOOD[1]]
    read = read_examples(table(source), skip_bad=True)
    assert read.examples == GOOD_EXAMPLES[1:]
    assert [(bad.line, bad.field, bad.reason) for bad in read.skipped] == [(1, "output", "is empty")]


@tables
@pytest.mark.parametrize("skip_bad", [False, True])
def test_no_examples_are_an_error(table: Callable[[Rows], Any], skip_bad: bool) -> None:
    with pytest.raises(ExampleError, match="row 1"):
        read_examples(table([{**row, "output": ""} for row in GOOD]), skip_bad=skip_bad)
    with pytest.raises(SourceError, match=r"no column 'input'.*'question'"):
        read_examples(table([{"question": "a", "output": "b"}]), skip_bad=skip_bad)


@tables
def test_other_names_and_other_columns(table: Callable[[Rows], Any]) -> None:
    source = [{"q": row["input"], "a": row["output"], "score": 0.5, "who": 7} for row in GOOD]
    read = read_examples(table(source), fields={"input": "q", "output": "a", "subject": "who"})
    assert [(e.input, e.output, e.subject) for e in read.examples] == [(e.input, e.output, "7") for e in GOOD_EXAMPLES]


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        lambda: pd.Series(["a", "b"]),
        lambda: polars().Series(["a", "b"]),
        lambda: pyarrow.array(["a", "b"]),
        lambda: pyarrow.chunked_array([["a", "b"]]),
        lambda: np.array([["a", "b"]]),
        lambda: np.zeros((2, 2)),
        lambda: duckdb().connect(),
    ],
)
def test_what_is_no_table_is_an_error(source: Callable[[], Any], skip_bad: bool) -> None:
    with pytest.raises((ExampleError, SourceError)):
        read_examples(source(), skip_bad=skip_bad)


def test_a_query_that_fails_is_one_clear_line() -> None:
    pl = polars()
    frame = pl.LazyFrame(GOOD).with_columns(pl.col("input").cast(pl.Int64))
    message = refused(frame)
    assert message.startswith("LazyFrame cannot be read: ")
    assert "ice" not in message


def test_a_query_that_cannot_be_run_is_one_clear_line(tmp_path: Path) -> None:
    scan = polars().scan_csv(tmp_path / "none.csv")
    assert refused(scan).startswith("LazyFrame cannot be read: ")
    connection = duckdb().connect()
    relation = connection.sql("SELECT 'a' AS input, 'b' AS output")
    connection.close()
    assert refused(relation).startswith("DuckDBPyRelation cannot be read: ")


# ---- types ----
@pytest.mark.parametrize(
    ("dtype", "exact"),
    [
        ("float16", 2047),
        ("float32", 2**24 - 1),
        ("Float32", 2**24 - 1),
        ("float[pyarrow]", 2**24 - 1),
        ("Sparse[float32]", 2**24 - 1),
        ("float64", 2**53 - 1),
        ("Float64", 2**53 - 1),
        ("double[pyarrow]", 2**53 - 1),
    ],
)
@pytest.mark.parametrize("is_category", [False, True])
def test_pandas_keeps_the_width_of_floats(dtype: str, exact: int, is_category: bool) -> None:
    if is_category and dtype == "float16":
        pytest.skip("pandas has no categories of them")
    for id_, is_exact in ((exact, True), (exact + 1, False), (exact + 2, False)):
        column = pd.Series([float(id_), 1.0]).astype(dtype)
        frame = pd.DataFrame({"id": column.astype("category") if is_category else column, "input": "a", "output": "b"})
        read = read_examples(frame, skip_bad=True)
        assert [e.id for e in read.examples] == ([id_, 1] if is_exact else [1])


NARROW = {
    "Arrow, half": lambda values: pyarrow.array(np.array(values, "float16")),
    "Arrow, single": lambda values: pyarrow.array(values, pyarrow.float32()),
    "Arrow, dictionary": lambda values: pyarrow.array(values, pyarrow.float32()).dictionary_encode(),
}


@pytest.mark.parametrize("column", NARROW.values(), ids=NARROW)
def test_narrow_floats_are_refused_in_every_arrow_source(tmp_path: Path, column: Callable[[list[float]], Any]) -> None:
    wide = 2.0**24 if "half" not in str(column([1.0]).type) else 2.0**11
    table = pyarrow.table({"id": column([wide, 1.0]), "input": ["a", "b"], "output": ["c", "d"]})
    path = tmp_path / "narrow.parquet"
    parquet.write_table(table, path)
    for source in (table, table.to_reader(), path):
        read = read_examples(source, skip_bad=True)
        assert [e.id for e in read.examples] == [1]
        assert "exact only below" in read.skipped[0].reason


def test_narrow_floats_are_refused_in_polars_duckdb_and_datasets() -> None:
    table = pyarrow.table(
        {"id": pyarrow.array([2.0**24, 1.0], pyarrow.float32()), "input": ["a", "b"], "output": ["c"] * 2}
    )
    frame = polars().from_arrow(table)
    dataset = datasets().Dataset(table)
    sources = [frame, frame.lazy(), duckdb().from_arrow(table), dataset, dataset.to_iterable_dataset()]
    for source in [*sources, dataset.with_format("numpy"), dataset.with_format("polars")]:
        read = read_examples(source, skip_bad=True)
        assert [e.id for e in read.examples] == [1]
        assert "float32" in read.skipped[0].reason


def test_decimal_ids_are_integers_if_they_are_whole() -> None:
    source = [{"id": Decimal(i), "input": "a", "output": "b"} for i in (3, 2**63 - 1)]
    decimals = [pd.DataFrame(source), arrow(source), polars().DataFrame(source)]
    decimals.append(duckdb().sql(f"SELECT unnest([3, {2**63 - 1}])::DECIMAL(38, 0) AS id, 'a' AS input, 'b' AS output"))
    decimals.append(duckdb().sql(f"SELECT unnest([3, {2**63 - 1}])::HUGEINT AS id, 'a' AS input, 'b' AS output"))
    for table in decimals:
        assert [(e.id, type(e.id)) for e in read_examples(table).examples] == [(3, int), (2**63 - 1, int)]
    with pytest.raises(ExampleError, match="Decimal"):
        read_examples(duckdb().sql("SELECT 1.5::DECIMAL(9, 1) AS id, 'a' AS input, 'b' AS output"))


def test_classes_of_a_dataset_are_their_names(tmp_path: Path) -> None:
    module = datasets()
    label = module.ClassLabel(names=["refund", "delivery"])
    features = module.Features({"input": module.Value("string"), "output": label, "subject": module.Value("int64")})
    values = {"input": ["a", "b", "c"], "output": [1, 0, None], "subject": [7, None, 9]}
    dataset = module.Dataset.from_dict(values, features=features)
    dataset.to_parquet(tmp_path / "classes.parquet")
    sources = [dataset, dataset.to_iterable_dataset(), dataset.with_format("numpy"), dataset.with_format("arrow")[:]]
    for source in [*sources, dataset.select([2, 1, 0]).select([2, 1, 0]), tmp_path / "classes.parquet"]:
        read = read_examples(source, skip_bad=True)
        assert read.examples == [
            NewExample(input="a", output="delivery", subject="7"),
            NewExample(input="b", output="refund"),
        ]
        assert [(bad.line, bad.field, bad.reason) for bad in read.skipped] == [(3, "output", "is missing")]


def test_a_class_that_has_no_name_is_a_bad_row() -> None:
    module = datasets()
    features = module.Features({"input": module.Value("string"), "output": module.ClassLabel(names=["x"])})
    table = pyarrow.table({"input": ["a", "b", "c"], "output": [0, 5, -1]}).cast(features.arrow_schema)
    read = read_examples(table, skip_bad=True)
    assert read.examples == [NewExample(input="a", output="x")]
    assert [(bad.field, bad.reason) for bad in read.skipped] == [
        ("output", "must be a class from 0 to 0, got 5"),
        ("output", "is missing"),
    ]


# ---- pandas' index ----
FRAME = pd.DataFrame([{"input": "a", "output": "b"}, {"input": "c", "output": "d"}])


def test_an_index_with_the_name_of_a_column_is_that_column() -> None:
    for index in (pd.Index([30, 10], name="id"), pd.MultiIndex.from_tuples([(30, "x"), (10, "y")], names=["id", "z"])):
        assert [e.id for e in read_examples(FRAME.set_index(index)).examples] == [30, 10]
    named = FRAME.set_index(pd.Index(["t-3", "t-1"], name="ticket"))
    assert [e.id for e in read_examples(named, fields={"id": "ticket"}).examples] == ["t-3", "t-1"]
    subjects = FRAME.assign(id=[1, 2]).set_index(pd.Index(["ann", "bob"], name="subject"))
    assert read_examples(subjects) == Reading(
        [Example(1, "a", "b", subject="ann"), Example(2, "c", "d", subject="bob")], []
    )


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (pd.Index([30, 10]), "'index'"),
        (pd.Index([1, 0]), "'index'"),
        (pd.RangeIndex(1, 3), "'index'"),
        (pd.Index(["t-3", "t-1"]), "'index'"),
        (pd.Index([0, 1], name="ticket"), "'ticket'"),
        (pd.MultiIndex.from_tuples([(1, "x"), (2, "y")], names=["ticket", None]), "'ticket'"),
    ],
    ids=str,
)
def test_another_index_is_named_and_what_is_advised_works(index: Any, word: str) -> None:
    frame = FRAME.set_index(index)
    read = read_examples(frame)
    assert [e.id for e in read.examples] == [None, None]
    assert len(read.notes) == 1
    assert "index" in read.notes[0]
    assert f"fields={{'id': {word}}}" in read.notes[0]
    if index.nlevels == 1:
        again = read_examples(frame.reset_index(), fields={"id": word.strip("'")})
        assert [e.id for e in again.examples] == list(index)


def test_an_index_beside_ids_or_one_that_only_counts_is_not_worth_a_word() -> None:
    assert read_examples(FRAME).notes == ()
    assert read_examples(FRAME.set_index(pd.Index([0, 1]))).notes == ()
    assert read_examples(FRAME.assign(id=[1, 2]).set_index(pd.Index([30, 10]))).notes == ()


def test_an_index_in_parquet_is_named(tmp_path: Path) -> None:
    FRAME.set_index(pd.Index(["t-3", "t-1"])).to_parquet(tmp_path / "a.parquet")
    assert "'__index_level_0__'" in read_examples(tmp_path / "a.parquet").notes[0]
    FRAME.set_index(pd.Index(["t-3", "t-1"], name="id")).to_parquet(tmp_path / "b.parquet")
    assert [e.id for e in read_examples(tmp_path / "b.parquet").examples] == ["t-3", "t-1"]


# ---- columns that look like a field ----
ALIKE = [
    "Subject",
    "SUBJECT ",
    "customer_id",
    "CustomerID",
    "customer",
    "user_id",
    "userName",
    "client-no",
    "patient",
    "email",
]
ALIKE += [
    "data_subject",
    "Employee Number",
    "author_name",
    "customer_email",
    "account_id",
    "phone",
    "member_ids",
    "Person",
]
UNLIKE = ["user_message", "score", "customers_answer", "emails_sent", "split", "subjective", "users_rating", "topic"]


@pytest.mark.parametrize("column", ALIKE)
@pytest.mark.parametrize("make", [list, pd.DataFrame, arrow])
def test_a_column_that_looks_like_the_subject_is_named(column: str, make: Callable[[Rows], Any]) -> None:
    source = make([{**row, column: "ann"} for row in GOOD])
    read = read_examples(source)
    assert [e.subject for e in read.examples] == [None, None]
    assert len(read.notes) == 1
    assert f"fields={{'subject': {column!r}}}" in read.notes[0]
    assert f"--field {shlex.quote(f'subject={column}')}" in read.notes[0]
    used = read_examples(source, fields={"subject": column})
    assert [e.subject for e in used.examples] == ["ann", "ann"]
    assert used.notes == ()


@pytest.mark.parametrize("column", UNLIKE)
def test_other_columns_are_not_worth_a_word(column: str) -> None:
    assert read_examples([{**row, column: "x"} for row in GOOD]).notes == ()
    assert read_examples([{**row, "subject": None, "customer_id": "x"} for row in GOOD]).notes == ()
    assert read_examples([{"customer": "a", "output": "b"}], fields={"input": "customer"}).notes == ()


def test_an_id_in_capitals_is_named_too() -> None:
    read = read_examples([{**row, "ID": i, "Rationale": "x"} for i, row in enumerate(GOOD)])
    assert ["fields={'id': 'ID'}" in read.notes[0], "fields={'rationale': 'Rationale'}" in read.notes[1]] == [
        True,
        True,
    ]


IMPORTED = """
import sys
import erase_core
before = "narwhals" in sys.modules
erase_core.read_examples([{"input": "a", "output": "b"}])
erase_core.read_examples(sys.argv[1])
print("narwhals" in sys.modules and not before)
"""


def test_narwhals_is_not_imported_unless_for_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("input,output\na,b\n")
    assert run(IMPORTED, path).stdout == "False\n"


def test_an_index_that_looks_like_the_subjects_is_noted() -> None:
    frame = pd.DataFrame({"input": ["a"], "output": ["b"]}, index=pd.Index(["ann"], name="customer_id"))
    notes = " ".join(read_examples(frame).notes)
    assert "fields={'subject': 'customer_id'}" in notes
    assert "fields={'id': 'customer_id'}" in notes
    assert read_examples(frame, fields={"subject": "customer_id"}).examples[0].subject == "ann"
