"""The bytes of a source: gzip, open files, and what is named as what it is when it is no text."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from erase_core.errors import ExampleError
from erase_core.examples.reading import read_examples
from made_examples import GOOD, GOOD_EXAMPLES, WRITERS, refused, written

TEXT_FORMATS = ["jsonl", "json", "csv", "tsv"]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("content")


def content(folder: Path, kind: str) -> bytes:
    path = folder / f"whole.{kind}"
    WRITERS[kind](path, GOOD)
    return path.read_bytes()


# ---- gzip ----
@pytest.mark.parametrize("kind", WRITERS)
def test_gzip_is_read_in_any_format(folder: Path, kind: str) -> None:
    packed = gzip.compress(content(folder, kind))
    for name in (f"rows.{kind}.gz", f"ROWS.{kind.upper()}.GZ"):
        assert read_examples(written(folder, name, packed)).examples == GOOD_EXAMPLES
    assert read_examples(written(folder, "rows.gz", packed), format=kind).examples == GOOD_EXAMPLES
    assert "the name does not show the format" in refused(folder / "rows.gz")


def test_gzip_of_several_parts_is_read_whole(folder: Path) -> None:
    first, second = (gzip.compress((json.dumps(row) + "\n").encode()) for row in GOOD)
    assert read_examples(written(folder, "parts.jsonl.gz", first + second)).examples == GOOD_EXAMPLES


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_gzip_is_one_clear_line(folder: Path, kind: str) -> None:
    packed = gzip.compress(content(folder, kind) * (1 if kind == "parquet" else 3), mtime=0)
    for length in range(0, len(packed), 7):
        assert str(folder) in refused(written(folder, f"cut.{kind}.gz", packed[:length]), skip_bad=True)
    broken = packed[:-8] + bytes(8)
    assert "gzip" in refused(written(folder, f"broken.{kind}.gz", broken), skip_bad=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_name_that_wrongly_says_gzip_is_refused(folder: Path, kind: str) -> None:
    assert "is not compressed with gzip" in refused(written(folder, f"plain.{kind}.gz", content(folder, kind)))
    assert "is empty" in refused(written(folder, f"empty.{kind}.gz", b""))


# ---- what is no text ----
def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("rows.csv", text)
    return buffer.getvalue()


def database(_: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection, connection:
        connection.execute("CREATE TABLE rows (input, output)")
        return bytes(connection.serialize())


NO_TEXT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "UTF-16"),
    "UTF-16, big end first": (lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"), "UTF-16"),
    "UTF-16 without a mark": (lambda text: text.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-16 without a mark, big end first": (lambda text: text.decode().encode("utf-16-be"), "UTF-16"),
    "UTF-32": (lambda text: text.decode().encode("utf-32"), "UTF-32"),
    "gzip": (gzip.compress, "gzip"),
    "bzip2": (bz2.compress, "bzip2"),
    "xz": (lzma.compress, "xz"),
    "zstd": (lambda _: b"\x28\xb5\x2f\xfd\x04\x58", "zstd"),
    "zip": (zipped, "ZIP"),
    "Parquet": (lambda _: b"PAR1....PAR1", "Parquet"),
    "PDF": (lambda _: b"%PDF-1.7\n", "PDF"),
    "SQLite": (database, "SQLite"),
}


@pytest.mark.parametrize("kind", TEXT_FORMATS)
@pytest.mark.parametrize(("make", "word"), NO_TEXT.values(), ids=NO_TEXT)
def test_what_is_no_text_is_named_as_what_it_is(
    folder: Path, make: Callable[[bytes], bytes], word: str, kind: str
) -> None:
    path = written(folder, f"other.{kind}", make(content(folder, kind)))
    for skip_bad in (False, True):
        message = refused(path, skip_bad=skip_bad)
        assert message.startswith(f"{path} is ")
        assert word in message
    inner = make(content(folder, kind))
    assert word in refused(written(folder, f"inner.{kind}.gz", gzip.compress(inner)))


def test_text_in_utf8_is_text_whatever_it_begins_with(folder: Path) -> None:
    for start in ("\ufeff", "", "\n\n", " "):
        assert read_examples(written(folder, "text.jsonl", (start + LINES).encode())).examples == GOOD_EXAMPLES


# ---- open files ----
@pytest.mark.parametrize("kind", WRITERS)
def test_an_open_file_is_read_like_the_file(folder: Path, kind: str) -> None:
    raw = content(folder, kind)
    path = folder / f"whole.{kind}"
    with path.open("rb") as file:
        assert read_examples(file).examples == GOOD_EXAMPLES
    assert read_examples(io.BytesIO(raw), format=kind).examples == GOOD_EXAMPLES
    assert read_examples(io.BytesIO(gzip.compress(raw)), format=kind).examples == GOOD_EXAMPLES
    if kind != "parquet":
        with path.open(encoding="utf-8", newline="") as text:
            assert read_examples(text).examples == GOOD_EXAMPLES
        assert read_examples(io.StringIO(raw.decode()), format=kind).examples == GOOD_EXAMPLES


def test_an_open_file_that_cannot_be_read_is_one_clear_line(folder: Path) -> None:
    path = written(folder, "latin.csv", b"input,output\n\xff,b\n")
    with path.open("rb") as file:
        pass
    assert "cannot be read" in refused(file)
    with path.open(encoding="utf-8") as text:
        assert "UTF-8" in refused(text)
    with path.open("rb") as file, pytest.raises(ExampleError, match="is not UTF-8"):
        read_examples(file)
    assert "format" in refused(io.BytesIO(LINES.encode()))
    odd: Any = type("Odd", (), {"read": lambda self: 5})()
    assert "returns int, not bytes" in refused(odd, format="csv")
