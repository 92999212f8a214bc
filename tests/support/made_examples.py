"""Examples for tests, as hypothesis draws them, and how they stand in each kind of source."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from erase_core.errors import SourceError
from erase_core.examples.example import FIELDS, AnyExample, Example, NewExample
from erase_core.examples.reading import read_examples
from hypothesis import strategies as st

pyarrow: Any = import_module("pyarrow")  # pyarrow has no type hints
parquet: Any = import_module("pyarrow.parquet")

Rows = list[dict[str, Any]]

GOOD: Rows = [{"input": "Is ice cold?", "output": "yes"}, {"input": "Is fire cold?", "output": "no"}]
GOOD_EXAMPLES = [NewExample(input=row["input"], output=row["output"]) for row in GOOD]

# What separates cells and lines somewhere, and what is easily taken for nothing or for a number.
AWKWARD = [
    "'",
    '"',
    '""',
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\x85",
    "\ufeff",
    "\\",
    "\\n",
    "NA",
    "nan",
    "null",
]
AWKWARD += ["7", "1.0", "-0", "\u00e9", "e\u0301", "\U0001f600", "\x1f", "#", "=1+1", " x "]

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
texts = st.lists(st.one_of(st.sampled_from(AWKWARD), storable), min_size=1, max_size=3).map("".join)
texts = texts.filter(lambda text: bool(text.strip()))


def is_no_float(text: str) -> bool:
    return not re.fullmatch(r"[+-]?[0-9]+(\.0|([.,][0-9]+)?[eE][+-]?[0-9]+)", text)


@st.composite
def example_lists(draw: st.DrawFn, least: int = 1, most: int = 6) -> list[AnyExample]:
    """Examples with ids that agree, or without any."""
    rationales, subjects = st.one_of(st.none(), texts), st.one_of(st.none(), texts.filter(is_no_float))
    size = draw(st.integers(least, most))
    # In CSV a column of integers is read as integers, and "1.0" as customer 1. Texts must not look like them.
    kinds = [st.integers(-(2**63), 2**63 - 1), texts.map("#{}".format)]
    some_ids = st.one_of(*(st.lists(kind, unique=True, min_size=size, max_size=size) for kind in kinds))
    drawn = draw(st.one_of(st.just([None] * size), some_ids))
    fields = [(draw(texts), draw(texts), draw(rationales), draw(subjects)) for _ in drawn]
    new = [NewExample(input=a, output=b, rationale=c, subject=d) for a, b, c, d in fields]
    return [each if id_ is None else each.numbered(id_) for id_, each in zip(drawn, new, strict=True)]


def rows(examples: Sequence[AnyExample]) -> Rows:
    """Examples as rows with all fields."""
    return [{name: getattr(example, name) for name in FIELDS} for example in examples]


def write_jsonl(path: Path, rows: Rows) -> None:
    lines = [json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(rows)]
    path.write_bytes("".join(lines).encode())


def write_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps(rows, indent=2), "utf-8")


def write_csv(path: Path, rows: Rows, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(path: Path, rows: Rows) -> None:
    write_csv(path, rows, "\t")


def write_parquet(path: Path, rows: Rows) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "tsv": write_tsv,
    "parquet": write_parquet,
}


# These texts hold tabs and ends of lines, which CSV and TSV have only within quotes.
OPTIONS: dict[str, dict[str, Any]] = {"csv": {"quotechar": '"'}, "tsv": {"quotechar": '"'}}


class Dataset:
    """As much of a `datasets.Dataset` as is read: it iterates dictionaries and knows its columns."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.column_names = list(rows[0])

    def __iter__(self) -> Any:
        return iter(self._rows)


def _without_id(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id"}


def objects(rows: Rows) -> dict[str, object]:
    """The same rows as each kind of source that is no file."""
    return {
        "frame": pd.DataFrame(rows),
        "frame of objects": pd.DataFrame(rows, dtype=object),
        "dataset": Dataset(rows),
        "list": rows,
        "generator": (row for row in rows),
        "examples": [Example(**row) if row.get("id") is not None else NewExample(**_without_id(row)) for row in rows],
    }


def refused(source: Any, **options: Any) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(SourceError) as caught:
        read_examples(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
