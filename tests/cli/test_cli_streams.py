"""The command `erase` where standard streams are closed, full, or not read: how it ends, and what it has done."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import command, json_of
from erase_core.cli import output
from erase_core.erase import Erase
from processes import HANG
from small_stores import ONE_PROMPT, WordEmbedder, create, example

DONE_UNPRINTED = 19
CLOSED = [each for n in (1, 2, 3) for each in itertools.combinations((0, 1, 2), n)]
# What each command ends with if its streams are open, in a store of one's own, with nobody at a terminal.
COMMANDS: dict[str, tuple[Sequence[str], int]] = {
    "help": (["--help"], 0),
    "no such command": (["embed"], 2),
    "ingest": (["ingest", "rows.jsonl"], 8),  # the stand-in for the embedding model cannot be loaded
    "forget": (["forget", "--id", "1", "--yes"], 0),
    "forget, as JSON": (["forget", "--id", "1", "--yes", "--json"], 0),
    "forget, by a trial": (["forget", "--id", "1", "--dry-run"], 0),
    "forget, if asked": (["forget", "--id", "1"], 2),
    "forget nobody": (["forget", "--subject", "nobody", "--yes"], 4),
    "ask": (["ask", "what?", "--llm", "no model"], 9),
    "choose": (["choose", "what?", "--llm", "no model", "a", "b"], 9),
    "prompt": (["prompt", "what?"], 0),
    "status": (["status"], 0),
    "verify": (["verify"], 0),
    "export": (["export", "out.jsonl"], 0),
    "mcp": (["mcp"], 2),  # it has no client
    "receipts list": (["receipts", "list"], 0),
    "receipts show": (["receipts", "show", "7"], 16),
    "receipts verify": (["receipts", "verify"], 0),
}
LINES = ["--ids-from", "--subject-from", "--absent-from"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with create(tmp_path / "store", llm=None) as made:
        made.ingest([example(i, subject=f"s{i % 3}") for i in range(9)])
    (tmp_path / "rows.jsonl").write_text('{"id": 99, "input": "a", "output": "b"}\n')
    return tmp_path / "store"


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def run(arguments: Sequence[str], store: Path, closed: Sequence[int] = (), **streams: object) -> tuple[int, str]:
    """Run a command in the store's neighbourhood without some of its streams; return its exit code and stderr."""

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    result = subprocess.run(
        command(*arguments),
        cwd=store.parent,
        env={**os.environ, "ERASE_STORE": str(store)},
        check=False,
        timeout=HANG,
        **{
            "preexec_fn": close,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **streams,
        },  # type: ignore[call-overload]
    )
    return result.returncode, (result.stderr or b"").decode()


@pytest.mark.parametrize("closed", CLOSED, ids=lambda closed: "".join(map(str, closed)))
def test_a_removal_ends_as_with_open_streams(store: Path, closed: Sequence[int]) -> None:
    assert run(COMMANDS["forget"][0], store, closed) == (0, "")
    assert json_of("status", "--store", store)["n_examples"] == 8
    assert json_of("verify", "--store", store)["ok"]


@pytest.mark.parametrize("name", ["forget, if asked", "forget nobody"])
@pytest.mark.parametrize("closed", [(0,), (1,)])
def test_an_error_is_said_where_it_can_be(store: Path, name: str, closed: Sequence[int]) -> None:
    arguments, code = COMMANDS[name]
    ended, said = run(arguments, store, closed)
    assert ended == code
    assert re.fullmatch(r"error: [^\n]+\n", said)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_needs_a_stream(store: Path, name: str) -> None:
    arguments, code = COMMANDS[name]
    assert run(arguments, store, (0, 1, 2)) == (code, "")


@pytest.mark.parametrize("option", LINES)
def test_a_closed_standard_input_is_not_an_empty_one(store: Path, option: str) -> None:
    arguments = ["verify", option, "-"] if option == "--absent-from" else ["forget", option, "-", "--yes"]
    code, said = run(arguments, store, (0,))
    assert code == 2
    assert re.fullmatch(rf"error: {option}: standard input cannot be read: [^\n]+\n", said)


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1)], ids=lambda closed: "".join(map(str, closed)))
@pytest.mark.parametrize(
    ("arguments", "descriptor", "name"),
    [(["export", "-"], 1, "standard output"), (["ingest", "-", "--format", "jsonl"], 0, "standard input")],
    ids=["export", "ingest"],
)
def test_a_stream_that_is_named_and_closed_is_an_error(
    store: Path, arguments: Sequence[str], descriptor: int, name: str, closed: Sequence[int]
) -> None:
    """The examples would go nowhere, with the exit code of success."""
    code, said = run(arguments, store, closed)
    if descriptor in closed:
        assert (code, said) == (2, f"error: FILE: - means {name}, which is closed. Give a file.\n")
    else:
        assert code == (0 if descriptor else 3)  # an empty source


def test_nothing_is_written_into_a_file_that_took_the_place_of_a_stream(store: Path) -> None:
    """The next file that is opened gets the lowest number: what is printed may not go there."""
    assert run(["export", "out.jsonl"], store, (0, 1, 2)) == (0, "")
    rows = (store.parent / "out.jsonl").read_text().splitlines()
    assert (len(rows), {row[0] + row[-1] for row in rows}) == (9, {"{}"})


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["forget", "--id", "1", "--yes"], True),
        (["forget", "--id", "1", "--yes", "--json"], True),
        (["export", "out.jsonl"], True),
        (["forget", "--id", "1", "--dry-run"], False),
        (["status"], False),
        (["verify"], False),
        (["--help"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_output_that_cannot_be_written_does_not_hide_what_was_done(
    store: Path, arguments: Sequence[str], changed: bool
) -> None:
    with open("/dev/full", "w") as full:
        code, said = run(arguments, store, stdout=full)
    assert code == (DONE_UNPRINTED if changed else 13)
    assert re.fullmatch(r"error: [^\n]*No space left on device\n", said)
    assert ("is done, but cannot print" in said, "standard output: No space" in said) == (
        changed,
        not changed and "--help" not in arguments,
    )


def test_output_that_nobody_reads_does_not_hide_what_was_done(store: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, said = run(["forget", "--id", "1", "--yes"], store, stdout=writer)
    os.close(writer)
    assert code == DONE_UNPRINTED
    assert re.fullmatch(r"error: [^\n]*is done, but cannot print[^\n]*\n", said)
    assert json_of("status", "--store", store)["n_examples"] == 8


def test_what_is_not_finished_is_said_though_nothing_can_be_printed(store: Path) -> None:
    def put_in_the_way() -> None:
        """Make a folder in the place of the file that this process writes the receipt to."""
        (store / "receipts" / f"00000001.json.partial-{os.getpid()}").mkdir(parents=True)

    with open("/dev/full", "w") as full:
        assert run(["forget", "--id", "1", "--yes"], store, stdout=full, preexec_fn=put_in_the_way)[0] == 15


def test_a_note_that_cannot_be_written_holds_nothing_up(store: Path, tmp_path: Path) -> None:
    with Erase.create(tmp_path / "kept", **ONE_PROMPT, embedder=WordEmbedder(), receipts=tmp_path / "receipts") as made:
        made.ingest([example(i) for i in range(5)])
        shutil.copytree(tmp_path / "kept", tmp_path / "old")
        made.forget(3)
    with open("/dev/full", "w") as full:
        assert run(["status"], tmp_path / "old", stderr=full)[0] == 0
    assert json_of("status", "--store", tmp_path / "old")["n_examples"] == 4


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_of_the_wrong_direction(store: Path, stream: str) -> None:
    with open("/dev/null") as unwritable:
        streams: dict[str, Any] = {stream: unwritable}
        code, _ = run(["forget", "--id", "1", "--yes"], store, **streams)
    assert code == (DONE_UNPRINTED if stream == "stdout" else 0)


def test_a_process_that_closed_its_streams_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a windowed program or a service does."""
    monkeypatch.setattr("erase_core.cli.streams.closed", set())
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    commands: dict[int, Callable[[], object]] = {0: lambda: print("result"), 14: lambda: 1 / 0}
    for code, each in commands.items():
        assert output.run(each) == code
