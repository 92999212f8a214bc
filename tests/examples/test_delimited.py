"""CSV, TSV and their relatives: what quotes mean, rows that a stray one would join, dialects, ids that were floats."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from erase_core.errors import ExampleError, ParameterError, SourceError
from erase_core.examples.example import Example
from erase_core.examples.reading import read_examples
from hypothesis import given
from hypothesis import strategies as st
from made_examples import GOOD, GOOD_EXAMPLES, example_lists, refused, rows, storable, texts, write_csv, written

HEADER = ["id", "input", "output", "subject"]
# Ends of lines and tabs, which a TSV cell cannot hold.
plain_texts = storable.map(lambda text: text.translate(dict.fromkeys(map(ord, "\t\r\n"), "_")))
plain_texts = st.one_of(plain_texts, st.sampled_from(['"', 'say "x"', '"a', 'b"', '""', "'", ";", "a,b"]))
plain_texts = plain_texts.filter(lambda text: bool(text.strip()) and not text.startswith("\ufeff"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delimited")


def lines(*cells: list[str], delimiter: str = ",", end: str = "\n") -> bytes:
    """A table as a writer makes it that knows no quotes."""
    return "".join(delimiter.join(each) + end for each in [HEADER, *cells]).encode()


# ---- TSV ----
@given(
    st.lists(st.tuples(plain_texts, plain_texts, plain_texts), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"])
)
def test_tsv_has_no_quotes(folder: Path, cells: list[tuple[str, str, str]], end: str) -> None:
    table = lines(*([f"#{i}", *each] for i, each in enumerate(cells)), delimiter="\t", end=end)
    read = read_examples(written(folder, "plain.tsv", table)).examples
    assert read == [Example(f"#{i}", a, b, subject=c) for i, (a, b, c) in enumerate(cells)]


def test_tsv_keeps_two_people_apart(folder: Path) -> None:
    table = lines(["1", '"hello', "greeting", "customer-1"], ["2", 'bye"', "farewell", "customer-2"], delimiter="\t")
    read = read_examples(written(folder, "two.tsv", table))
    assert [(e.id, e.subject) for e in read.examples] == [(1, "customer-1"), (2, "customer-2")]
    assert read.notes == ()


@given(example_lists())
def test_quoted_tsv_is_read_if_the_quotes_are_named(folder: Path, examples: list[Example]) -> None:
    write_csv(folder / "quoted.tsv", rows(examples), "\t")
    assert read_examples(folder / "quoted.tsv", quotechar='"').examples == examples


def test_cells_of_tsv_that_are_wholly_in_quotes_are_noted(folder: Path) -> None:
    path = written(folder, "quoted.tsv", lines(["1", '"say ""x"""', "b", '"c"'], delimiter="\t"))
    read = read_examples(path)
    assert read.examples == [Example(1, '"say ""x"""', "b", subject='"c"')]
    assert len(read.notes) == 1
    assert "2 cells" in read.notes[0]
    assert "quotechar" in read.notes[0]
    for quotechar in ('"', ""):  # whoever names the quotes knows of them
        assert read_examples(path, quotechar=quotechar).notes == ()


def test_a_row_of_another_width_hints_at_quotes_in_tsv(folder: Path) -> None:
    path = written(folder, "wide.tsv", lines(["1", '"a', 'b"', "c", "d"], ["2", "a", "b", "c"], delimiter="\t"))
    read = read_examples(path, skip_bad=True)
    assert [e.id for e in read.examples] == [2]
    assert "has 5 cells" in read.skipped[0].reason
    assert "quotechar='\"'" in read.skipped[0].reason


# ---- quotes in CSV ----
STRAY: dict[str, list[list[str]]] = {
    "two rows": [["1", '"hello', "greeting", "c1"], ["2", 'bye"', "farewell", "c2"]],
    "three rows": [["1", '"hello', "greeting", "c1"], ["2", "hm", "x", "c2"], ["3", 'bye"', "farewell", "c3"]],
    "ids of text": [["a-1", '"hello', "greeting", "c1"], ["a-2", 'bye"', "farewell", "c2"]],
    "from output to input": [["1", "hello", '"greeting', "c1"], ["2", 'bye"', "farewell", "c2"]],
    "between sound rows": [
        ["0", "a", "b", "c0"],
        ["1", '"x', "y", "c1"],
        ["2", 'z"', "y", "c2"],
        ["3", "a", "b", "c3"],
    ],
    "beside a quote in a cell": [["1", '5" pipe', "part", "c1"], ["2", '"hello', "x", "c2"], ["3", "3", "4", 'c3"']],
    "around a row without a question": [["1", '"hm', "x", "c1"], ["2", '""', "x", "c2"], ["3", 'b"', "x", "c3"]],
    "and a row that is bad itself": [["1", '7"', "x", "c1"], ["2", '"a', "b", "c2", "?"], ["3", 'b"', "x", "c3"]],
}


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("cells", STRAY.values(), ids=STRAY)
def test_rows_that_a_stray_quote_joins_are_refused(folder: Path, cells: list[list[str]], skip_bad: bool) -> None:
    path = written(folder, "stray.csv", lines(*cells))
    message = refused(path, skip_bad=skip_bad)
    assert message.startswith(f"{path}, line ")
    assert "quotechar=''" in message
    assert "--quotechar" in message


@pytest.mark.parametrize("cells", [each for each in STRAY.values() if all(len(row) == 4 for row in each)], ids=str)
def test_quotes_that_are_part_of_the_text_can_be_named_so(folder: Path, cells: list[list[str]]) -> None:
    read = read_examples(written(folder, "stray.csv", lines(*cells)), quotechar="").examples
    assert [e.subject for e in read] == [row[3] for row in cells]
    assert [e.input for e in read] == [row[1] for row in cells]


OVER_LINES = {
    "a letter": "Dear Sir,\n\nmy parcel, the red one, is late.\n\nYours,\nAnn",
    "two lines": "hello\nworld",
    "commas on each line": "a, b, c\nd, e, f",
    "Windows": "hello,\r\nbye",
    "blank lines": "\n\nhello\n\n",
    "a list": "1, parcel\n2, refund",
    "quotes": 'she said "no"\nand "yes"',
    "code": "if a:\n    print(1, 2, 3)",
}


@pytest.mark.parametrize("text", OVER_LINES.values(), ids=OVER_LINES)
@pytest.mark.parametrize("place", [1, 2])
def test_a_quoted_cell_may_run_over_lines(folder: Path, text: str, place: int) -> None:
    values = ["7", "question", "answer", "ann"]
    values[place] = text
    with (folder / "over.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, ["6", "a, b", "c", "d"], values, ["8", "e", "f", "g"]])
    read = read_examples(folder / "over.csv").examples
    assert [(str(e.id), e.input, e.output, e.subject) for e in read][1] == tuple(values)
    assert len(read) == 3


def test_a_cell_that_looks_joined_is_taken_if_the_quotes_are_named(folder: Path) -> None:
    path = written(folder, "joined.csv", lines(*STRAY["two rows"]))
    assert read_examples(path, quotechar='"').examples == [
        Example(1, "hello,greeting,c1\n2,bye", "farewell", subject="c2")
    ]


def test_a_row_of_another_width_names_the_lines_that_a_quote_joined(folder: Path) -> None:
    path = written(folder, "joined.csv", lines(["1", '"hello', "x", "c1"], ["2", 'bye"', "c2"], ["3", "a", "b", "c3"]))
    read = read_examples(path, skip_bad=True)
    assert [e.id for e in read.examples] == [3]
    assert [str(bad).removeprefix(f"{path}, ") for bad in read.skipped] == [
        "line 2: has 3 cells where the header has 4; a quote extends it to line 3"
    ]


# ---- dialects ----
@given(example_lists(), st.sampled_from(";|,\t:~\u00a6"))
def test_any_character_may_be_the_delimiter(folder: Path, examples: list[Example], delimiter: str) -> None:
    path = folder / "other.csv"
    write_csv(path, rows(examples), delimiter)
    assert read_examples(path, delimiter=delimiter, quotechar='"').examples == examples


def test_any_character_may_be_the_quote(folder: Path) -> None:
    path = written(folder, "quotes.csv", b"input,output\n'Is ice cold?',yes\n'Is ''fire'', cold?',no\n")
    assert [e.input for e in read_examples(path, quotechar="'").examples] == ["Is ice cold?", "Is 'fire', cold?"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_another_delimiter_is_hinted_at(folder: Path, delimiter: str, quote: str) -> None:
    content = "".join(
        delimiter.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in [HEADER, ["1", "a", "b", "c"]]
    )
    path = written(folder, "other.csv", content.encode())
    message = refused(path)
    assert f"delimiter={delimiter!r}" in message
    assert "--delimiter" in message
    assert read_examples(path, delimiter=delimiter).examples == [Example(1, "a", "b", subject="c")]


def test_commas_in_tsv_are_hinted_at(folder: Path) -> None:
    assert "delimiter=','" in refused(written(folder, "commas.tsv", lines(["1", "a", "b", "c"])))


def test_the_delimiter_that_excel_names_is_taken(folder: Path) -> None:
    content = b"\xef\xbb\xbfsep=;\r\ninput;output\r\nIs ice cold?;yes\r\nIs fire cold?;\r\n"
    read = read_examples(written(folder, "excel.csv", content), skip_bad=True)
    assert read.examples == GOOD_EXAMPLES[:1]
    assert [bad.line for bad in read.skipped] == [4]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *(({"delimiter": value}, "delimiter") for value in ("", ",,", "\n", "\r", "\0", 5, b",", '"', "\ud800")),
        *(({"quotechar": value}, "quotechar") for value in ("''", "\n", "\0", 5, b'"', ",", "\ud800")),
    ],
    ids=str,
)
def test_a_dialect_is_single_characters(folder: Path, options: dict[str, Any], name: str) -> None:
    path = written(folder, "rows.csv", b"input,output\na,b\n")
    with pytest.raises(ParameterError, match=name):
        read_examples(path, **options)


@pytest.mark.parametrize("options", [{"delimiter": ";"}, {"quotechar": ""}], ids=str)
def test_a_dialect_is_for_csv_and_tsv(folder: Path, options: dict[str, Any]) -> None:
    path = written(folder, "rows.jsonl", json.dumps(GOOD[0]).encode())
    for source in (path, GOOD, pd.DataFrame(GOOD)):
        with pytest.raises(ParameterError, match="CSV and TSV"):
            read_examples(source, **options)


# ---- ids ----
@pytest.mark.parametrize(
    ("cells", "bad"),
    [
        (["9007199254740991.0", "-9007199254740991.0"], []),
        (["1.0", "9007199254740992.0", "-9007199254740992.0"], [3, 4]),
        (["1.0", "9" * 5000 + ".0"], [3]),
        (["1", "1.23457E+11"], [3]),
        (["1.0", "1e+16", "2.0"], [3]),
        (["a", "1E+5"], [3]),
        (["1.9E+1", "12e5", "1e5"], [2]),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_ids_that_were_written_as_floats_are_exact_or_refused(
    folder: Path, cells: list[str], bad: list[int], kind: str
) -> None:
    delimiter = "," if kind == "csv" else "\t"
    table = lines(*([cell, "a", "b", "c"] for cell in cells), delimiter=delimiter)
    read = read_examples(written(folder, f"ids.{kind}", table), skip_bad=True)
    assert [(row.line, row.field) for row in read.skipped] == [(line, "id") for line in bad]


@pytest.mark.parametrize("number", ["4.91712E+11", "4,91712E+11", "5E+11", "4.91712E11"])
def test_what_a_spreadsheet_rounded_is_refused(folder: Path, number: str) -> None:
    for cells, field in ((["1", "a", "b", number], "subject"), ([number, "a", "b", "c"], "id")):
        path = written(folder, "rounded.csv", lines(cells, delimiter=";"))
        with pytest.raises(ExampleError, match=rf"line 2, field '{field}': .*rounded"):
            read_examples(path, delimiter=";")


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1, max_size=4), texts)
def test_what_pandas_makes_of_ids_as_floats_is_never_another_id(folder: Path, ids: list[int], text: str) -> None:
    frame = pd.DataFrame({"id": ids, "input": "a", "output": "b"})
    frame["id"] = frame["id"].astype("float64")
    frame.to_csv(folder / "floats.csv", index=False)
    try:
        read = read_examples(folder / "floats.csv", skip_bad=True)
    except ExampleError:
        return
    assert {e.id for e in read.examples} <= set(ids)


def test_customers_numbers_that_pandas_wrote_as_floats_are_those_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"input": ["a", "b", "c"], "output": "d", "subject": [1001, None, 2**53 - 1]})
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    assert [example.subject for example in read_examples(path).examples] == ["1001", None, str(2**53 - 1)]
    assert read_examples(path).examples == read_examples(frame).examples
    path.write_text(path.read_text() + f"e,f,{2**53 + 1}.0\n")
    with pytest.raises(ExampleError, match="line 5, field 'subject': is written as a float"):
        read_examples(path)
    path.write_text(path.read_text() + "g,h,version 2.0\n")  # not numbers, then
    assert read_examples(path).examples[0].subject == "1001.0"


def test_another_delimiter_is_seen_where_a_label_has_a_comma(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("input;output;name, first\na;b;c\n")
    with pytest.raises(SourceError, match=r"separated by ';'\. Give delimiter=';'"):
        read_examples(path)
