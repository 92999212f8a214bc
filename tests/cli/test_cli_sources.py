"""`erase ingest` and `erase export`: dialects, standard input and output, what is noted of a source."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_line import check_refused, command, erase, json_of
from erase_core import Erase
from erase_core.examples.example import Example
from small_stores import WordEmbedder, create, some

ROWS = [{"id": 100, "input": "where is my parcel", "output": "delivery", "subject": "ann"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
HEADER = "id;input;output;subject\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of four examples; the commands use the same stand-in for the embedding model."""
    create(tmp_path / "store", some(4)).close()
    real = Erase.open
    monkeypatch.setattr(Erase, "open", lambda path, **options: real(path, embedder=WordEmbedder(), **options))
    return tmp_path / "store"


def ids(store: Path) -> list[Any]:
    with Erase.open(store) as opened:
        return [example.id for example in opened.examples()]


# ---- standard input ----
@pytest.mark.parametrize(
    ("text", "options"),
    [
        (LINES.encode(), ["--format", "jsonl"]),
        (gzip.compress(LINES.encode(), mtime=0), ["--format", "jsonl"]),
        (f"{HEADER}100;a;b;c\n".encode(), ["--format", "csv", "--delimiter", ";"]),
        (HEADER.replace(";", "\t").encode() + b'100\t"a\tb\tc\n', ["--format", "tsv"]),
        (HEADER.replace(";", "\t").encode() + b"100\ta\tb\tc\n", ["--format", "csv", "--delimiter", r"\t"]),
        (f"{HEADER}100;'a;b';c;d\n".encode(), ["--format", "csv", "--delimiter", ";", "--quotechar", "'"]),
        (f'{HEADER}100;"a;b;c\n'.encode(), ["--format", "csv", "--delimiter", ";", "--quotechar", ""]),
    ],
)
def test_a_dash_is_standard_input(store: Path, text: bytes, options: list[str]) -> None:
    result = erase("ingest", "-", "-s", store, *options, input=text)
    assert (result.exit_code, result.stderr) == (0, "")
    assert ids(store) == [0, 1, 2, 3, 100]


def test_standard_input_needs_a_format_and_is_named_in_errors(store: Path) -> None:
    check_refused(erase("ingest", "-", "-s", store, input=LINES), 3, "format")
    check_refused(erase("ingest", "-", "-s", store, "--format", "csv", input="id,input\n1,a\n"), 3, "'output'")
    check_refused(erase("ingest", "-", "-s", store, "--format", "jsonl", input=""), 3, "has no rows")
    assert ids(store) == [0, 1, 2, 3]


def test_standard_input_that_is_closed_is_one_clear_line(tmp_path: Path) -> None:
    create(tmp_path / "store", some(4)).close()
    line = " ".join(command("ingest", "-", "--format", "jsonl", "-s", tmp_path / "store"))
    done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, text=True, check=False)
    check_refused(done, 2, "standard input", "closed")


def test_a_file_with_the_name_of_a_dash_is_named_by_its_folder(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("./-").write_text(LINES)
    assert erase("ingest", "./-", "-s", store, "--format", "jsonl").exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 100]


# ---- standard output ----
def test_a_dash_is_standard_output_and_what_it_gives_is_read_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = erase("export", "-", "-s", store)
    assert result.exit_code == 0
    assert not Path("-").exists()
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Example(**row) for row in rows] == some(4)
    assert "4 examples" in result.stderr
    erase("export", tmp_path / "file.jsonl", "-s", store)
    assert (tmp_path / "file.jsonl").read_bytes() == result.stdout_bytes
    check_refused(erase("export", "-", "-s", store, "--json"), 2, "--json")


def test_an_export_in_a_pipe_that_is_not_read_ends_quietly(tmp_path: Path) -> None:
    create(tmp_path / "store", [Example(i, "word " * 200, "b") for i in range(400)]).close()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("export", "-", "-s", tmp_path / "store"), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


# ---- dialects and notes ----
def test_a_hint_names_an_option_that_works(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}100;a;b;c\n")
    check_refused(erase("ingest", path, "-s", store), 3, "--delimiter ';'")
    assert erase("ingest", path, "-s", store, "--delimiter", ";").exit_code == 0
    path.write_text('id,input,output,subject\n101,"a,b,c\n102,d",e,f\n')
    check_refused(erase("ingest", path, "-s", store), 3, "--quotechar")
    assert erase("ingest", path, "-s", store, "--quotechar", "").exit_code == 0
    assert ids(store) == [0, 1, 2, 3, 100, 101, 102]
    check_refused(erase("ingest", path, "-s", store, "--delimiter", "::"), 2, "delimiter")


def test_a_column_that_looks_like_the_subject_is_shown(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,input,output,customer_id\n100,a,b,42\n101,c,d,43\n")
    shown = json_of("ingest", path, "-s", store)
    assert len(shown["notes"]) == 1
    assert "--field subject=customer_id" in shown["notes"][0]
    path.write_text("id,input,output,customer_id\n102,a,b,42\n")
    assert "--field subject=customer_id" in erase("ingest", path, "-s", store).stdout
    path.write_text("id,input,output,customer_id\n103,a,b,42\n")
    assert "note" not in erase("ingest", path, "-s", store, "--field", "subject=customer_id").stdout
    with Erase.open(store) as opened:
        assert opened.forget(subject="42").ids == [103]


def test_a_report_shows_the_notes(tmp_path: Path) -> None:
    with create(tmp_path / "store") as opened:
        report = opened.ingest([{"input": "a", "output": "b", "Subject": "ann"}])
        assert "fields={'subject': 'Subject'}" in report.notes[0]
        assert report.notes[0] in str(report)
        assert opened.ingest([{"input": "c", "output": "d", "subject": "ann"}]).notes == ()


def test_chats_are_ingested(store: Path, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "where is it"}, {"role": "assistant", "content": "delivery"}]
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"id": 100, "messages": chat}) + "\n")
    check_refused(erase("ingest", path, "-s", store), 3, "openai-chat")
    assert erase("ingest", path, "-s", store, "--format", "openai-chat").exit_code == 0
    with Erase.open(store) as opened:
        assert opened.examples()[-1] == Example(100, "where is it", "delivery")
