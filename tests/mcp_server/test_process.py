"""The process `erase mcp`: its streams, how it starts and ends, and what others do to its store meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT
from command_line import check_refused, json_of, needs_embedder, shell
from erase_core.fs.locks import FOLDER, describe_holder
from mcp import Client
from mcp_client import Raw, process, run_with, said, values, with_client
from processes import HANG, run
from small_stores import create, example, fresh, parts_of, reopened, seen_anew, some

QUERY = {"query": "where is my parcel"}
CANARY = "canary in a coal mine"


@pytest.fixture
def store(path: Path) -> Path:
    """A store whose prompt needs no embedding model."""
    create(path, [*some(12), example(50, CANARY)], llm=None, n_shots=13).close()
    return path


# ---- with the client of the package ----
@pytest.mark.parametrize("options", [[], ["--allow-forget"]], ids=["as it is", "allowed to forget"])
def test_a_client_starts_it_and_forgets_only_if_the_command_allows_it(store: Path, options: list[str]) -> None:
    async def work(client: Client) -> tuple[list[bool], list[str]]:
        shown = said(await client.call_tool("demonstrations", QUERY))
        removal = await client.call_tool("forget", {"ids": [50]})
        after = said(await client.call_tool("demonstrations", QUERY))
        flags = [removal.is_error, CANARY in shown, CANARY in after]
        return flags, [tool.name for tool in (await client.list_tools()).tools]

    flags, names = with_client(process("--store", store, *options), work)
    allowed = bool(options)
    assert flags == [not allowed, True, not allowed]
    assert ("forget" in names) == allowed
    assert seen_anew(store).examples == fresh(some(12) if allowed else [*some(12), example(50, CANARY)]).examples


@pytest.mark.slow
@needs_embedder
def test_with_the_packaged_model_what_was_removed_is_found_in_no_file(path: Path, tmp_path: Path) -> None:
    rows = [{"id": f"t{i}", "input": f"my parcel number {i} is late", "output": "delivery"} for i in range(8)]
    rows.append({"id": "gone", "input": "Ann Smith of Oslo was charged twice", "output": "refund", "subject": "ann"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    json_of("init", "--store", path, "--shots", "2", "--option", "delivery", "--option", "refund")
    json_of("ingest", tmp_path / "rows.jsonl", "--store", path)
    absent = {"absent": [rows[-1]["input"]]}
    near = {"query": "Ann Smith was charged twice"}
    calls = (("demonstrations", near), ("forget", {"subjects": ["ann"]}), ("verify", absent), ("demonstrations", near))
    shown, report, sound, after = values(process("--store", path, "--allow-forget"), *calls)
    assert shown["demonstrations"][-1]["id"] == "gone"
    assert report["ids"] == ["gone"]
    assert (sound["ok"], sound["n_absent"]) == (True, 1)
    assert len(after["demonstrations"]) == 2
    assert "gone" not in [each["id"] for each in after["demonstrations"]]


# ---- streams ----
def test_only_the_protocol_is_on_standard_output_and_nothing_on_standard_error(store: Path) -> None:
    with Raw("--store", store) as raw:
        raw.call("prompt", query=CANARY)
        raw.write(f"no JSON {CANARY}")
        raw.write(json.dumps({"a": CANARY}))
        for arguments in ({"query": [CANARY]}, {CANARY: 1}, {"query": CANARY}):
            raw.send("tools/call", name="demonstrations", arguments=arguments)
        raw.send("tools/call", name=CANARY, arguments={})
        raw.send("tools/call", name="forget_dry_run", arguments={"subjects": [CANARY]})
        raw.send("tools/call", name=5, arguments=CANARY)
        raw.send(CANARY)
        raw.send("ping")
        assert raw.process.stdout is not None
        answers = [json.loads(raw.process.stdout.readline()) for _ in range(8)]
        code, rest, errors = raw.ended()
    assert all(answer["jsonrpc"] == "2.0" for answer in answers)
    assert len({answer["id"] for answer in answers}) == 8
    assert (code, rest, errors) == (0, [], "")


def test_the_end_of_a_client_is_no_error_to_report(store: Path) -> None:
    with Raw("--store", store) as raw:
        assert raw.process.stdout is not None
        assert raw.process.stderr is not None
        raw.process.stdout.close()
        for _ in range(100):  # with a single one, the input could end before an answer is written
            raw.send("ping")
        raw.close()
        assert raw.process.wait(HANG) == 141
        assert raw.process.stderr.read() == ""


# ---- starting ----
def test_a_store_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    check_refused(shell("mcp", "--store", tmp_path / "store", stdin=-3), 5, "store")


def test_a_missing_package_is_one_line_that_names_the_extra(store: Path) -> None:
    check_refused(run_with("import sys\nsys.modules['mcp.server.mcpserver'] = None", store), 12, "erase-core[mcp]")


def test_other_commands_do_not_import_the_package(store: Path) -> None:
    show = "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules)))"
    program = f"{show}\nsys.argv[0] = 'erase'\nfrom erase_core.cli.app import main\nmain()"
    for arguments in (["mcp", "--help"], ["status", "--store", store]):
        done = run(program, *arguments)
        assert done.returncode == 0, done.stderr
        assert not {"mcp", "mcp_types", "starlette"} & set(done.stdout.splitlines()[-1].split())


# ---- other processes, and the end ----
def test_what_another_process_has_forgotten_is_not_shown(store: Path) -> None:
    async def work(client: Client) -> list[bool]:
        first = said(await client.call_tool("demonstrations", QUERY))
        done = shell("forget", "--id", 50, "--yes", "--store", store)
        assert done.returncode == 0, done.stderr
        second = said(await client.call_tool("demonstrations", QUERY))
        return [CANARY in first, CANARY in second]

    assert with_client(process("--store", store), work) == [True, False]


@pytest.mark.parametrize("end", ["end of input", "SIGTERM", "SIGINT"])
def test_a_removal_that_runs_is_finished_before_the_end(store: Path, end: str) -> None:
    with Raw("--store", store, "--allow-forget") as raw, reopened(store) as other:
        with parts_of(other).store.writing():
            raw.send("tools/call", name="forget", arguments={"ids": [50]})
            while str(raw.process.pid) not in describe_holder(store, FOLDER):
                time.sleep(0.01)
            if end == "end of input":
                raw.close()
            else:
                os.kill(raw.process.pid, getattr(signal, end))
            time.sleep(0.2)
            assert raw.process.poll() is None
        code, _, errors = raw.ended()
    assert (code, errors) == ({"end of input": 0, "SIGTERM": 143, "SIGINT": 130}[end], "")
    assert seen_anew(store).examples == fresh(some(12)).examples


# ---- the page ----
def test_the_programs_of_the_page_work(store: Path) -> None:
    page = (ROOT / "docs/mcp.md").read_text()
    [program] = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    [entry] = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    server = json.loads(entry)["mcpServers"]["erase"]
    assert server["command"] == "erase"
    check_refused(shell(*server["args"]), 5, "/srv/store")

    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    # The package's client hands on no variables but a few.
    program = program.replace("StdioServerParameters(", "StdioServerParameters(env=dict(__import__('os').environ), ")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=store.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{CANARY} -> answer 50" in done.stdout.splitlines()
