"""What each format has of its own: lines, marks, quotes, ids in CSV, columns of tables, files that are cut or odd."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from erase_core.errors import ExampleError, MissingPackageError
from erase_core.examples.example import BadRow, NewExample
from erase_core.examples.reading import read_examples
from made_examples import GOOD, GOOD_EXAMPLES, WRITERS, parquet, pyarrow, refused, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


# ---- JSON ----
def test_jsonl_counts_blank_lines_and_takes_a_mark_and_any_end_of_line(folder: Path) -> None:
    lines = [json.dumps(GOOD[0]), "", "  ", json.dumps({"input": "a"}), json.dumps(GOOD[1])]
    path = written(folder, "lines.jsonl", b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    reading = read_examples(path, skip_bad=True)
    assert reading.examples == GOOD_EXAMPLES
    assert [str(row) for row in reading.skipped] == [f"{path}, line 4, field 'output': is missing"]


BAD_LINES = {
    "not UTF-8": (b'{"input": "\xff"}', "is not UTF-8"),
    "not UTF-8 in a field that is not read": (b'{"input": "a", "output": "b", "c": "\xff"}', "is not UTF-8"),
    "cut off": (b'{"input": "a"', "is not JSON: Expecting ',' delimiter, character 14"),
    "not JSON": (b"input: a", "is not JSON: Expecting value, character 1"),
    "two objects": (b'{"a": 1} {"a": 2}', "is not JSON: Extra data, character 10"),
    "a list": (b"[1, 2]", "must be an object with named fields, got list"),
    "null": (b"null", "must be an object with named fields, got NoneType"),
    "deep": (b"[" * 100_000, "cannot be read as JSON: "),
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_of_jsonl_is_one_bad_row(folder: Path, line: bytes, reason: str) -> None:
    first, last = (json.dumps(row).encode() for row in GOOD)
    path = written(folder, "bad.jsonl", b"\n".join([first, line, last]))
    reading = read_examples(path, skip_bad=True)
    assert reading.examples == GOOD_EXAMPLES
    assert [(row.line, row.field) for row in reading.skipped] == [(2, None)]
    assert str(reading.skipped[0]).startswith(f"{path}, line 2: {reason}")
    with pytest.raises(ExampleError):
        read_examples(path)


def test_repeated_keys_and_nan_are_taken_as_python_does(folder: Path) -> None:
    line = b'{"input": "a", "input": "Is ice cold?", "output": "yes", "subject": NaN, "score": Infinity}'
    assert read_examples(written(folder, "odd.jsonl", line)).examples == GOOD_EXAMPLES[:1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[\n{"input": "\xff"}]', "is not UTF-8 in line 2"),
        ('[\n"é",\n{"input": }]'.encode(), "is not JSON in line 3: Expecting value, character 11"),
        (b'{"input": "a"}\n{"input": "b"}\n', "If each line holds one object, give format='jsonl'."),
        (b'{"input": "a", "output": "b"}', "must be a list of objects, or a BIG-bench task"),
        (b"3", "must be a list of objects, or a BIG-bench task"),
    ],
)
def test_json_of_another_shape_is_refused(folder: Path, content: bytes, words: str) -> None:
    assert words in refused(written(folder, "bad.json", content), skip_bad=True)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("number", "id_"),
    [
        ("7.0", 7),
        ("7e2", 700),
        ("9007199254740991.0", 2**53 - 1),
        ("9007199254740993", 2**53 + 1),
        ("9007199254740992.0", None),
        ("9007199254740993.0", None),
        ("-9007199254740993.0", None),
        ("9007199254740990.9999", None),
        ("1e16", None),
        ("7.00000000000000000001", None),
        ("1e-400", None),
        ("1e-99999999999999999999", None),
        ("1e400", None),
    ],
)
def test_an_id_in_json_is_the_number_that_is_written_or_is_refused(
    folder: Path, kind: str, number: str, id_: int | None
) -> None:
    row = f'{{"id": {number}, "input": "Is ice cold?", "output": "yes"}}'
    path = written(folder, f"id.{kind}", (row if kind == "jsonl" else f"[{row}]").encode())
    if id_ is not None:
        assert [example.id for example in read_examples(path).examples] == [id_]
    else:
        with pytest.raises(ExampleError, match="field 'id'"):
            read_examples(path, skip_bad=True)


# ---- CSV ----
def test_csv_counts_the_lines_of_the_file(folder: Path) -> None:
    path = written(
        folder, "lines.csv", b'input,output\r\n"a\r\nb",yes\r\n\r\n,no\r\n"c\n\nd",\r\ne\r\nf,g,h\r\ni,\xff\r\n'
    )
    reading = read_examples(path, skip_bad=True)
    assert [example.input for example in reading.examples] == ["a\r\nb"]
    assert [str(row).removeprefix(f"{path}, ") for row in reading.skipped] == [
        "line 5, field 'input': is empty",
        "line 6, field 'output': is empty",
        "line 9: has 1 cells where the header has 2",
        "line 10: has 3 cells where the header has 2",
        "line 11: is not UTF-8",
    ]


@pytest.mark.parametrize("content", [b'a,"b"c\nd,e\n', b'a,"b\nd,e\n'], ids=["after a quote", "no closing quote"])
def test_a_wrong_quote_makes_all_of_a_csv_file_doubtful(folder: Path, content: bytes) -> None:
    path = written(folder, "quote.csv", b"input,output\nx,y\n" + content)
    assert refused(path, skip_bad=True).startswith(f"{path}, line 3 is not CSV: ")


def test_cells_of_any_length_are_taken_and_the_limit_of_others_is_left_alone(folder: Path) -> None:
    before = csv.field_size_limit()
    path = written(folder, "long.csv", b"input,output\n" + b"a" * (before + 1) + b",b\n")
    assert len(read_examples(path).examples[0].input) == before + 1
    refused(written(folder, "long.csv", b'input,output\na,"b"c\n'))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["1", "-2", "0"], [1, -2, 0]),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["1.0", "-2.0"], [1, -2]),
        (["1.0", "2"], ["1.0", "2"]),
        (["1", "02"], ["1", "02"]),
        (["1", "-0"], ["1", "-0"]),
        (["1", "+2"], ["1", "+2"]),
        (["1", " 2"], ["1", " 2"]),
        (["1", "\u0662"], ["1", "\u0662"]),
        (["1", "1_0"], ["1", "1_0"]),
        (["1", "a"], ["1", "a"]),
        (["9" * 5000, "1"], ["9" * 5000, "1"]),
        (["", ""], [None, None]),
    ],
    ids=lambda cells: str(cells)[:40],
)
def test_ids_of_a_csv_column_are_integers_if_all_are_written_as_such(
    folder: Path, cells: list[str], ids: list[object]
) -> None:
    path = folder / "ids.csv"
    WRITERS["csv"](path, [{"id": cell, "input": "a", "output": "b"} for cell in cells])
    read = [example.id for example in read_examples(path).examples]
    assert [(id_, type(id_)) for id_ in read] == [(id_, type(id_)) for id_ in ids]


def test_a_missing_id_of_a_csv_file_is_one_bad_row(folder: Path) -> None:
    path = written(folder, "ids.csv", b"id,input,output\n1,a,b\n,a,b\n3,a,b\n")
    reading = read_examples(path, skip_bad=True)
    assert [example.id for example in reading.examples] == [1, 3]
    assert reading.skipped == [BadRow(str(path), 3, "id", "is missing, but line 2 has one")]


# ---- tables ----
def test_a_column_that_is_read_must_not_occur_twice(folder: Path) -> None:
    frame = pd.DataFrame([["a", "b", "c"]], columns=["input", "output", "input"])
    assert refused(frame) == "DataFrame has more than one column 'input'. Rename all but one."
    path = written(folder, "twice.csv", b"input,output,input\na,b,c\n")
    assert refused(path) == f"{path} has more than one column 'input'. Rename all but one."
    others = pd.DataFrame([["a", "b", 1, 2]], columns=["input", "output", "x", "x"])
    assert read_examples(others).examples == [NewExample(input="a", output="b")]


def test_ids_that_pandas_keeps_as_floats_are_integers(folder: Path) -> None:
    frame = pd.DataFrame({"id": [1, None, 3], "input": ["a"] * 3, "output": ["b"] * 3})
    assert frame["id"].dtype.kind == "f"
    frame.to_parquet(folder / "ids.parquet")
    frame.dropna().to_csv(folder / "ids.csv", index=False)
    for source in (frame, folder / "ids.parquet", folder / "ids.csv"):
        ids = [example.id for example in read_examples(source, skip_bad=True).examples]
        assert [(id_, type(id_)) for id_ in ids] == [(1, int), (3, int)]


def test_nullable_and_categorical_columns_are_read() -> None:
    frame = pd.DataFrame({"id": [1, 2], "input": ["a", "b"], "output": ["c", "d"], "subject": ["ann", None]})
    typed = frame.astype({"id": "Int64", "input": "string", "output": "category", "subject": "string"})
    assert read_examples(typed) == read_examples(frame)
    assert [example.subject for example in read_examples(typed).examples] == ["ann", None]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"input,output\n", b"PAR1" + b"\0" * 64 + b"PAR1"], ids=repr)
def test_what_is_no_parquet_is_refused(folder: Path, content: bytes) -> None:
    path = written(folder, "bad.parquet", content)
    assert refused(path).startswith(str(path))


def test_parquet_cut_short_is_refused(folder: Path) -> None:
    path = folder / "cut.parquet"
    WRITERS["parquet"](path, GOOD)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert refused(path).startswith(str(path))


def test_parquet_with_texts_that_are_not_utf8_is_refused(folder: Path) -> None:
    path = folder / "bytes.parquet"
    buffers = pyarrow.array([b"\xff"]).buffers()
    column = pyarrow.StringArray.from_buffers(1, buffers[1], buffers[2])
    parquet.write_table(pyarrow.table({"input": column, "output": ["b"]}), path)
    assert "utf-8" in refused(path).lower()


def test_without_pyarrow_parquet_names_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "some.parquet"
    WRITERS["parquet"](path, GOOD)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'erase-core\[parquet\]'"):
        read_examples(path)
