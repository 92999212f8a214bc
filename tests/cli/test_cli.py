"""The command `erase`: what it prints and where, what it asks, and how it ends.

That the commands do the right thing to a store is tested at `Erase`; here stores are made with a stand-in for the
embedding model, which most commands never load.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import erase_core
import pytest
from chat_server import says, serving
from command_line import answered, check_refused, command, erase, json_of, needs_embedder, shell
from erase_core import errors
from erase_core.cli import output
from erase_core.erase import Erase
from erase_core.examples.reading import read_examples
from erase_core.store.constants import CONSTANTS, hash_of
from processes import HANG
from small_models import make_model, needs_packaged
from small_stores import contents, create, parts_of

EXAMPLES = Path(erase_core.__file__).parent / "demo" / "examples.jsonl"
ANSI = "\x1b"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small language model and a store."""
    folder = tmp_path_factory.mktemp("made")
    llm = make_model(folder / "llm", "llama")
    options = ["invoice", "refund"]
    with create(folder / "store", n_shots=4, llm=llm, options=options) as erase:
        erase.ingest(read_examples(EXAMPLES).examples[:60])
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A store of its own for each test; its ids are text."""
    return shutil.copytree(made / "store", tmp_path / "store")


# ---- endings ----
def test_every_error_has_an_exit_code_of_its_kind() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "EraseError" and not name.endswith("Warning")]
    codes = {kind: output.run(raising(kind("words"))) for kind in kinds}
    assert not [kind for kind, code in codes.items() if code in (0, 1, output.BUG, output.FILES)]
    expected = [(errors.ExampleError, 3), (errors.StoreError, 5), (errors.StoreVersionError, 6)]
    expected += [(errors.StoreLockedError, 7), (errors.ServerError, 11), (errors.MissingPackageError, 12)]
    expected += [(errors.ScrubError, 15), (errors.ReceiptError, 16), (errors.UncertainError, 18)]
    assert [(kind, codes[kind]) for kind, _ in expected] == expected


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


def test_the_help_lists_every_exit_code() -> None:
    text = erase("--help").stdout
    for end in output.ENDINGS:
        assert re.search(rf"^ +{end.code}  {end.meaning}$", text, re.MULTILINE)
    assert len({end.code for end in output.ENDINGS}) == len(output.ENDINGS)


def test_an_unexpected_error_is_named_but_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.run(raising(RuntimeError("a text of the user's"))) == output.BUG
    assert re.fullmatch(r"error: unexpected RuntimeError. [^\n]*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed",),
        ("ask",),
        ("status", "--loud"),
        ("init", "--seed", "one"),
        ("init", "--strategy", "best"),
        ("init", "--projection", "8", "--public-texts", EXAMPLES),
        ("init", "--base-url", "http://127.0.0.1:9"),
        ("ingest", EXAMPLES, "--field", "input"),
        ("ingest", EXAMPLES, "--field", "question=input"),
        ("ingest", EXAMPLES, "--format", "xml"),
        ("forget", "--yes"),
        ("forget", "--yes", "--id", "t-0001", "--subject", "customer-01"),
        ("forget", "--yes", "--ids-from", EXAMPLES, "--subject", "customer-01"),
        ("forget", "--yes", "--subject", "customer-01", "--subject-from", EXAMPLES),
        ("forget", "--yes", "--ids-from", "/dev/null"),
        ("forget", "--yes", "--ids-from", "no file"),
        ("forget", "--yes", "--subject-from", "/"),
        ("forget", "--ids-from", "-"),
        ("verify", "--known", "1"),
        ("verify", "--known", "0:" + "1" * 64),
        ("verify", "--absent-from", "no file"),
        ("status", "--public-key", "no file"),
        ("choose", "what?", "one", "one"),
        ("ask", "what?", "--max-tokens", "0"),
        ("prompt", " "),
        ("demo", "--questions", "0"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:3])),
)
def test_wrong_usage(store: Path, arguments: Sequence[object]) -> None:
    before = contents(store)
    path = store.parent / "new" if arguments[:1] == ("init",) else store
    options = () if arguments[:1] in (("embed",), ("demo",)) else ("--store", path)
    check_refused(erase(*arguments, *options), 2)
    assert contents(store) == before
    assert not (store.parent / "new").exists()


def test_bad_input_data(store: Path, tmp_path: Path) -> None:
    before = json_of("status", "--store", store)
    rows = tmp_path / "rows.jsonl"
    for text, words in {
        '{"id": "a", "input": "a secret"}\n': ("'output'",),
        '{"id": "a", "input": "a secret", "output": true}\n': ("line 1", "'output'"),
        '{"id": 5, "input": "a secret", "output": "b"}\n': ("integers",),
        '{"id": "t-0001", "input": "a secret", "output": "b"}\n': ("t-0001",),
        "[]": (),
    }.items():
        rows.write_text(text)
        assert "secret" not in check_refused(erase("ingest", rows, "-s", store), 3, *words)
    check_refused(erase("ingest", tmp_path / "none.jsonl", "-s", store), 3, "none.jsonl")
    check_refused(erase("ingest", tmp_path / "rows", "-s", store), 3)
    assert json_of("status", "--store", store) == before


@pytest.mark.parametrize("arguments", [("--id", "t-0001", "--id", "t-none"), ("--subject", "nobody")])
def test_unknown_ids_and_subjects(store: Path, arguments: Sequence[str]) -> None:
    before = json_of("status", "--store", store)
    for more in ("--yes", "--dry-run"):
        check_refused(erase("forget", "--store", store, *arguments, more), 4, arguments[-1])
    assert json_of("status", "--store", store) == before


def test_no_store_or_a_damaged_one(store: Path, tmp_path: Path) -> None:
    check_refused(erase("status", "--store", tmp_path / "none"), 5, "none", "erase init --store")
    check_refused(erase("verify", "--store", tmp_path), 5)
    file = store / "examples.sqlite"
    file.write_bytes(b"\0" * 200 + file.read_bytes()[200:])
    check_refused(erase("status", "--store", store), 5, "examples.sqlite")


def test_a_store_of_a_newer_version(store: Path) -> None:
    with closing(sqlite3.connect(store / "examples.sqlite")) as db, db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    check_refused(erase("status", "--store", store), 6, "99", "pip install")


def test_a_store_that_another_process_writes_to(store: Path) -> None:
    db = sqlite3.connect(store / "examples.sqlite", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        check_refused(erase("forget", "--store", store, "--id", "t-0001", "--yes"), 7)
        assert json_of("status", "--store", store)["n_examples"] == 60
    finally:
        db.close()


def test_models_that_are_not_there(store: Path, tmp_path: Path) -> None:
    init = erase("init", "--store", tmp_path / "new", "--embedder", tmp_path / "no model")
    check_refused(init, 8, "no model")
    assert not (tmp_path / "new").exists()
    check_refused(erase("ask", "what?", "--store", store, "--llm", tmp_path / "no model"), 9, "no model")


def test_a_query_that_does_not_fit(store: Path) -> None:
    query = "a secret " * 200
    for arguments in (("ask", query), ("choose", query, "yes", "no")):
        assert "secret" not in check_refused(erase(*arguments, "--store", store), 10, "tokens")


def test_a_server_that_is_down(store: Path) -> None:
    serve(store, "http://127.0.0.1:9/v1")
    check_refused(erase("ask", "a secret", "--store", store), 11, "http://127.0.0.1:9/v1")


def serve(store: Path, url: str) -> None:
    """Have a store's language model behind a server."""
    with closing(sqlite3.connect(store / "examples.sqlite")) as db, db:
        facts = {name: value for name, value in db.execute("SELECT name, value FROM constants") if name in CONSTANTS}
        facts["settings"] = json.dumps(json.loads(facts["settings"]) | {"base_url": url, "llm": "m"}, sort_keys=True)
        changed = {"settings": facts["settings"], "hash": hash_of(facts)}
        db.executemany(
            "UPDATE constants SET value = ? WHERE name = ?", [(value, name) for name, value in changed.items()]
        )
    db.close()


def test_a_package_that_is_not_installed(store: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "pyarrow"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError('not here')")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    path = os.pathsep.join([str(shadow.parent), os.environ.get("PYTHONPATH", "")])
    result = shell("ingest", tmp_path / "rows.parquet", "-s", store, env={**os.environ, "PYTHONPATH": path})
    check_refused(result, 12, "pip install")


def test_files_that_cannot_be_written(store: Path, tmp_path: Path) -> None:
    before = json_of("status", "--store", store)
    (tmp_path / "there").touch()
    check_refused(erase("export", tmp_path / "there", "-s", store), 13, "there")
    check_refused(erase("export", tmp_path / "none" / "out", "-s", store), 13, "out")
    full = resource.RLIMIT_FSIZE, (1024, 1024)
    forgetting = ("forget", "--id", "t-0001", "--yes", "-s", store)
    check_refused(shell(*forgetting, preexec_fn=lambda: resource.setrlimit(*full)), 13)
    assert json_of("status", "--store", store) == before


def test_output_that_cannot_be_written(store: Path) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(command("status", "-s", store), stdout=full, stderr=-1, text=True, check=False)
    assert (result.returncode, result.stderr) == (13, "error: standard output: No space left on device\n")


def test_output_that_nobody_reads(store: Path) -> None:
    process = subprocess.Popen(command("status", "-s", store), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(HANG) == 141


def test_ctrl_c(store: Path, tmp_path: Path) -> None:
    before = contents(store)
    rows = tmp_path / "rows.jsonl"
    os.mkfifo(rows)
    process = subprocess.Popen(command("ingest", rows, "-s", store), stderr=subprocess.PIPE, text=True)
    with open(reader_of(rows, process), "w"):
        process.send_signal(signal.SIGINT)
    # The pipe is closed by now: a signal that comes just before Python's read is seen when the read ends.
    _, said = process.communicate(timeout=HANG)
    assert (process.returncode, said) == (130, "interrupted; unfinished work was not saved\n")
    assert contents(store) == before


def reader_of(pipe: Path, process: subprocess.Popen[str]) -> int:
    """Wait until a process reads from a named pipe, and return its other end."""
    while process.poll() is None:
        with suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.05)
    raise AssertionError(process.stderr and process.stderr.read())


# ---- what is printed ----
def test_results_as_json(store: Path, tmp_path: Path) -> None:
    status = json_of("status", "--store", store)
    assert (status["n_examples"], list(map(len, status["prompts"]))) == (60, [4])
    assert json_of("verify", "--store", store)["ok"] is True
    shown = json_of("prompt", "what?", "--store", store)
    assert [shown["demonstrations"]] == status["prompts"]
    assert len(shown["messages"]) == 9
    assert shown["text"].endswith("Q: what?\nA:")
    assert json_of("choose", "what?", "yes", "no", "--store", store)["option"] in ("yes", "no")
    assert json_of("choose", "what?", "--store", store)["scores"].keys() == {"invoice", "refund"}
    assert json_of("ask", "what?", "--store", store, "--max-tokens", 3)["n_tokens"] <= 3
    assert json_of("export", tmp_path / "out.jsonl", "--store", store)["n_examples"] == 60
    assert read_examples(tmp_path / "out.jsonl").examples == read_examples(EXAMPLES).examples[:60]
    report = json_of("forget", "--id", "t-0001", "--store", store, "--yes")
    assert (report["ids"], report["n_examples"], report["dry_run"]) == (["t-0001"], 59, False)


def test_results_as_text(store: Path, tmp_path: Path) -> None:
    status = json_of("status", "--store", store)
    lines = erase("status", "--store", store).stdout.splitlines()
    assert f"digest           {status['digest']}" in lines
    assert f"demonstrations   {', '.join(status['prompts'][0])}" in lines
    shown = json_of("prompt", "what?", "--store", store)
    assert erase("prompt", "what?", "--store", store).stdout == shown["text"] + "\n"
    assert json.loads(erase("prompt", "what?", "--messages", "--store", store).stdout) == shown["messages"]
    assert erase("choose", "what?", "only", "--store", store).stdout == "only\n"
    assert erase("verify", "--store", store).stdout.startswith("verified: ")
    assert erase("export", tmp_path / "out.jsonl", "--store", store).stdout.startswith("60 examples")


def test_the_store_may_be_named_by_the_environment(store: Path) -> None:
    result = erase("status", "--json", env={"ERASE_STORE": str(store)})
    assert json.loads(result.stdout) == json_of("status", "--store", store)


def test_an_answer_of_a_server(store: Path) -> None:
    with serving(says("refund")) as server:
        serve(store, server.url)
        assert erase("ask", "what?", "--store", store).stdout == "refund\n"
        assert erase("ask", "what?", "--store", store, "--llm", "another").exit_code == 0
        assert [request["model"] for request in server.requests] == ["m", "another"]


def test_a_store_that_counts_other_examples_fails_verification(store: Path) -> None:
    with closing(sqlite3.connect(store / "examples.sqlite")) as db, db:
        db.execute("UPDATE state SET n_subjects = n_subjects + 1")
    assert json_of("verify", "--store", store, code=1)["ok"] is False
    assert erase("verify", "--store", store).stdout.startswith("NOT verified")


def test_a_pipe_gets_plain_lines(store: Path) -> None:
    result = shell("forget", "--store", store, "--id", "t-0001", "--dry-run")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1 example would be forgotten" in result.stdout
    assert result.stdout.isascii()
    assert ANSI not in result.stdout


def test_the_commands_load_no_model_before_they_need_one() -> None:
    heavy = ["torch", "transformers", "sentence_transformers", "openai", "rich"]
    program = f"import erase_core.cli.app, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=HANG) == "[]\n"


# ---- forgetting ----
def test_a_dry_run_changes_nothing_and_tells_what_would_change(store: Path) -> None:
    before = contents(store)
    subject = read_examples(EXAMPLES).examples[0].subject
    plan = json_of("forget", "--subject", subject, "--dry-run", "--store", store)
    assert contents(store) == before
    report = json_of("forget", "--subject", subject, "--yes", "--store", store)
    times = dict.fromkeys(("seconds", "model_seconds"))
    number, hash_ = (report["receipt"][name] for name in ("number", "hash"))
    assert report | times == plan | times | {"dry_run": False, "receipt": {"number": 1, "hash": hash_}}
    assert json_of("receipts", "show", number, "--store", store)["hash"] == hash_
    assert report["prompts"]["after"] == json_of("status", "--store", store)["prompts"]


def test_no_text_of_an_example_is_printed(store: Path) -> None:
    [shown] = json_of("status", "--store", store)["prompts"]
    texts = {e.id: e.input for e in read_examples(EXAMPLES).examples}
    result = erase("forget", "--id", shown[0], "--store", store, "--yes")
    assert shown[0] in result.stdout
    report = erase("forget", "--id", shown[1], "--store", store, "--yes", "--json").stdout
    assert not [text for text in texts.values() if text in result.stdout + report]


def test_forget_does_not_act_unasked(store: Path) -> None:
    before = contents(store)
    check_refused(erase("forget", "--id", "t-0001", "--store", store, input="y\n"), 2, "--yes")
    assert contents(store) == before


@pytest.mark.parametrize(("answer", "n_examples"), [("y\n", 59), ("n\n", 60), ("\n", 60)])
def test_forget_asks_before_it_acts(store: Path, answer: str, n_examples: int) -> None:
    code, said, printed = answered(answer, "forget", "--id", "t-0001", "--store", store, "--json")
    assert "1 example would be forgotten" in said
    assert code == 0
    assert printed[0] == "{"
    report = json.loads(printed)
    assert report["dry_run"] is (n_examples == 60)
    assert json_of("status", "--store", store)["n_examples"] == n_examples


def test_ctrl_c_is_an_answer(store: Path) -> None:
    before = contents(store)
    code, said, printed = answered("\x03", "forget", "--id", "t-0001", "--store", store)
    assert (code, printed) == (130, "")
    assert "interrupted; unfinished work was not saved" in said
    assert contents(store) == before


# ---- with the real models ----
@needs_embedder
def test_a_store_from_nothing(tmp_path: Path) -> None:
    texts, rows = tmp_path / "public.txt", tmp_path / "rows.csv"
    texts.write_text("\n".join(e.input for e in read_examples(EXAMPLES).examples[100:140]))
    rows.write_text("id,question,output\n1,where is it?,delivery\n2,,refund\n3,give it back!,refund\n")
    settings = ("--shots", 2, "--seed", 5, "--public-texts", texts, "--axes", 8, "--option", "a", "--option", "b")
    made = json_of("init", "--store", tmp_path / "store", *settings)
    assert (made["n_shots"], made["n_examples"], made["digest"]) == (2, 0, "")
    report = json_of("ingest", rows, "--field", "input=question", "--skip-bad", "--store", tmp_path / "store")
    assert (report["n_added"], report["n_skipped"], report["skipped"][0]["line"]) == (2, 1, 3)
    assert json_of("verify", "--store", tmp_path / "store")["ok"] is True
    with Erase.open(tmp_path / "store") as opened:
        assert (opened.settings.seed, opened.settings.options) == (5, ("a", "b"))
        axes = parts_of(opened).store.constants.axes
        assert axes is not None
        assert axes.shape == (8, 384)
    assert json_of("forget", "--id", "3", "--yes", "--store", tmp_path / "store")["ids"] == [3]


@needs_embedder
@needs_packaged
def test_the_demo_in_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    result = erase("demo", "--questions", 2, "--shots", 3, "--store", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert ANSI not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "prompts equal" in result.stdout
    assert json_of("verify", "--store", folder)["ok"] is True


@pytest.mark.parametrize("group", [[], ["receipts"]], ids=["erase", "receipts"])
def test_without_a_command_the_help_is_printed(group: list[str]) -> None:
    bare = erase(*group)
    assert (bare.exit_code, bare.stdout) == (2, "")
    assert bare.stderr == erase(*group, "--help").stdout
