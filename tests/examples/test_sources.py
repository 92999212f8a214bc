"""Files and tables: the same rows from any of them are the same examples; what cannot be read is one clear line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from erase_core.errors import ParameterError
from erase_core.examples.example import Example, Reading
from erase_core.examples.reading import read_examples
from hypothesis import assume, given
from hypothesis import strategies as st
from made_examples import GOOD, GOOD_EXAMPLES, OPTIONS, WRITERS, Dataset, example_lists, objects, refused, rows, written
from processes import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


# ---- one law for all ----
def subjects_are_text(examples: list[Example]) -> bool:
    """Whether no subject is a number in CSV, where a column of subjects such as "1.0" is one of numbers."""
    return not any(re.fullmatch(r"[-+.,0-9eE]+", example.subject or "") for example in examples)


@given(example_lists())
def test_what_is_written_in_any_format_reads_back_equal(folder: Path, examples: list[Example]) -> None:
    assume(subjects_are_text(examples))
    for kind, write in WRITERS.items():
        path = folder / f"back.{kind}"
        write(path, rows(examples))
        assert read_examples(path, **OPTIONS.get(kind, {})) == Reading(examples, []), kind
        assert read_examples(str(path), **OPTIONS.get(kind, {})) == Reading(examples, []), kind


@given(example_lists())
def test_the_same_rows_from_any_object_are_the_same_examples(examples: list[Example]) -> None:
    for kind, source in objects(rows(examples)).items():
        assert read_examples(source) == Reading(examples, []), kind


@given(example_lists(least=2), st.data())
def test_the_same_rows_are_bad_in_any_source(folder: Path, examples: list[Example], data: st.DataObject) -> None:
    assume(subjects_are_text(examples))
    broken = data.draw(st.integers(1, len(examples)))
    given_rows = rows(examples)
    given_rows[broken - 1]["output"] = " "
    kept = [example for i, example in enumerate(examples, 1) if i != broken]
    for kind, write in WRITERS.items():
        write(folder / f"bad.{kind}", given_rows)
    sources = {**objects(given_rows), **{kind: folder / f"bad.{kind}" for kind in WRITERS}}
    for kind, source in sources.items():
        reading = read_examples(source, skip_bad=True, **OPTIONS.get(kind, {}))
        assert reading.examples == kept, kind
        assert [(row.field, row.reason) for row in reading.skipped] == [("output", "is empty")], kind
        if kind not in {"csv", "tsv"}:  # whose rows may take several lines
            assert reading.skipped[0].line == broken, kind


@pytest.mark.parametrize("kind", WRITERS)
def test_the_format_may_be_given_in_place_of_a_name_that_tells_it(folder: Path, kind: str) -> None:
    path = folder / "rows.data"
    WRITERS[kind](path, GOOD)
    assert read_examples(path, format=kind).examples == GOOD_EXAMPLES
    assert "the name does not show the format" in refused(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_columns_may_have_other_names_in_any_format(folder: Path, kind: str) -> None:
    path = folder / f"renamed.{kind}"
    WRITERS[kind](path, [{"question": row["input"], "answer": row["output"], "rest": "?"} for row in GOOD])
    fields = {"input": "question", "output": "answer"}
    assert read_examples(path, fields=fields).examples == GOOD_EXAMPLES
    found = "only 'question', 'answer', 'rest'"
    assert refused(path) == f"{path} has no column 'input', {found}. Name its columns with fields (--field)."
    # Even a field that may be missing must be there if it is named: a typing error would lose every subject.
    assert f"has no column 'custmer', {found}" in refused(path, fields={**fields, "subject": "custmer"}, skip_bad=True)


def test_capitals_in_the_name_and_ndjson_are_known(folder: Path) -> None:
    content = "".join(json.dumps(row) + "\n" for row in GOOD).encode()
    for name in ("A.JSONL", "a.ndjson"):
        assert read_examples(written(folder, name, content)).examples == GOOD_EXAMPLES


# ---- what cannot be read ----
def test_paths_that_lead_to_no_file_are_refused(folder: Path) -> None:
    assert refused(folder / "none.jsonl") == f"{str(folder / 'none.jsonl')!r}: no such file"
    assert refused(folder) == f"{folder} is a folder. Give a file in it."
    assert "no such file" in refused("a\0b.jsonl")
    assert "too long" in refused("a" * 5000 + ".jsonl").lower()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b" \n\n"], ids=["empty", "newline", "mark", "blank"])
def test_a_file_without_rows_is_refused(folder: Path, kind: str, content: bytes) -> None:
    path = written(folder, f"empty.{kind}", content)
    assert refused(path) == f"{path} has no rows"
    assert refused(path, skip_bad=True) == f"{path} has no rows"


def test_a_table_without_rows_is_refused(folder: Path) -> None:
    path = folder / "empty.parquet"
    pd.DataFrame({"input": [], "output": []}).to_parquet(path)
    assert refused(path) == f"{path} has no rows"
    assert refused(written(folder, "header.csv", b"input,output\n")).endswith("header.csv has no rows")
    assert refused(written(folder, "list.json", b"[]")).endswith("list.json has no rows")
    assert refused(pd.DataFrame({"input": [], "output": []})) == "DataFrame has no rows"
    assert refused([]) == "list has no rows"


@pytest.mark.parametrize("source", [None, 3, b"a.jsonl", {"input": ["a"]}, GOOD_EXAMPLES[0]], ids=repr)
def test_objects_that_are_no_rows_are_refused(source: object) -> None:
    name = type(source).__name__
    assert refused(source) == f"examples cannot be read from {name}. Give a path, a table or an iterable of rows."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "xml"}, "format must be None or one of jsonl, json, csv, tsv, parquet, openai-chat, got 'xml'"),
        ({"format": ["csv"]}, "format must be None or one of"),
        ({"format": "csv"}, "format is only for files, got 'csv' for list"),
        ({"fields": ["input"]}, "fields must map fields to columns, got list"),
        ({"fields": {"question": "input"}}, "fields must have only keys from id, input"),
        ({"fields": {"input": 3}}, "fields must map 'input' to the name of a column, got 3"),
        ({"fields": {"input": "output"}}, "fields must assign a different column to each field"),
        ({"fields": {"id": "who", "subject": "who"}}, "fields must assign a different column to each field"),
    ],
    ids=str,
)
def test_parameters_are_checked(options: Any, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        read_examples(GOOD, **options)
    assert str(caught.value).startswith(words)


def test_a_dataset_is_read_and_of_several_splits_one_is_asked_for() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_list(GOOD)
    assert read_examples(dataset).examples == GOOD_EXAMPLES
    assert "Give one of its splits" in refused(datasets.DatasetDict({"train": dataset}))


def test_a_dictionary_of_splits_is_refused() -> None:
    splits = type("DatasetDict", (dict,), {})(train=Dataset(GOOD))
    assert refused(splits) == "examples cannot be read from DatasetDict. Give one of its splits."


# ---- interruptions and imports ----
WITHOUT_OPTIONAL_PACKAGES = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {"pandas", "pyarrow", "datasets", "torch", "transformers"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import erase_core.llm.prompt
from erase_core.examples.reading import read_examples
print(len(read_examples(sys.argv[1]).examples))
"""


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("the disk of the caller"), MemoryError])
def test_what_a_caller_raises_is_passed_on(interruption: Any) -> None:
    def interrupted() -> Iterator[dict[str, Any]]:
        yield GOOD[0]
        raise interruption

    with pytest.raises(BaseException) as caught:  # noqa: PT011 -- its very own exception
        read_examples(interrupted(), skip_bad=True)
    assert caught.value is interruption or caught.type is interruption


def test_reading_needs_no_package_that_is_optional(folder: Path) -> None:
    path = folder / "light.jsonl"
    WRITERS["jsonl"](path, GOOD)
    done = run(WITHOUT_OPTIONAL_PACKAGES, path)
    assert (done.stdout, done.stderr) == ("2\n", "")
