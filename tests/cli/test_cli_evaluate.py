"""`erase evaluate`: what it lists, refuses and writes. Runs of it on a tiny model are in tests/evaluate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import check_refused, command, erase, json_of, needs_embedder
from erase_core.evaluate.peers import catalogue
from processes import HANG

SMALL = ("--pool", 16, "--test", 8, "--forget-size", 2, "--seeds", 1, "--retrains", 1, "--removals", 1)


def tickets(folder: Path, n: int = 40) -> Path:
    answers = ("refund", "parcel", "other")
    words = ("red", "blue", "green", "large", "small", "old", "new")
    rows = [
        {
            "input": f"{words[i % 7]} {words[i // 7]} {answers[i % 3]} {i}",
            "output": answers[i % 3],
            "subject": f"c{i % 9}",
        }
        for i in range(n)
    ]
    file = folder / "tickets.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def test_the_list_has_every_peer_with_its_source() -> None:
    listed = json_of("evaluate", "--list")["peers"]
    assert [each["peer"] for each in listed] == [entry.name for entry in catalogue.all_peers()]
    assert all(each["source"] for each in listed)
    lines = erase("evaluate", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [each["peer"] for each in listed]


def test_peers_have_names_of_their_own_and_start_from_peers_that_exist() -> None:
    names = [entry.name for entry in catalogue.all_peers()]
    assert len(names) == len(set(names))
    assert {entry.after for entry in catalogue.all_peers()} <= {*names, None}
    # A group of one peer may have its name.
    both = {*names} & {*catalogue.GROUPS}
    assert all([entry.name for entry in catalogue.peers_named([name])] == [name] for name in both)


def test_a_group_names_its_peers_and_what_they_start_from() -> None:
    approximate = catalogue.peers_named(["approximate"])
    assert "fine-tuned" in {entry.name for entry in approximate}
    assert {entry.exactness for entry in approximate if entry.name != "fine-tuned"} == {"approximate"}
    assert [e.name for e in catalogue.peers_named(["vote", "erase", "vote"])] == ["erase", "vote"]


def test_every_module_of_peers_is_in_the_catalogue() -> None:
    files = Path(catalogue.__file__).parent.glob("[!_]*")
    modules = {file.stem for file in files if file.stem not in {"catalogue", "peer", "selections"}}
    assert modules == {*catalogue.MODULES}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--peers", "erase,nobody"), ("no peer 'nobody'", "There are none, random, erase", "the groups all")),
        (("--peers", ","), ("no peer is named",)),
        (("--forget", "all"), ("--forget must be one of random, subject, worst, canaries",)),
        (("--report-only",), ("has no evaluation", "erase evaluate")),
        (("--seeds", 0), ("seeds must be", "0")),
        (("--jobs", 0), ("--jobs must be",)),
    ],
    ids=["unknown peer", "no peer", "forget", "nothing to report", "seeds", "jobs"],
)
def test_wrong_usage_is_refused_before_anything_is_written(
    arguments: tuple[object, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    check_refused(erase("evaluate", "--out", tmp_path / "out", *arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalogue, "NEEDED", ("json", "no_such_package"))
    result = erase("evaluate", "--out", tmp_path / "out")
    check_refused(result, 12, "no_such_package", "pip install 'erase-core[llm,evaluate]'")


@pytest.mark.parametrize("size", [1, 9])
def test_too_few_and_too_many_to_forget_are_refused(size: int, tmp_path: Path) -> None:
    options = ("--pool", 16, "--forget-size", size, "--out", tmp_path / "out")
    check_refused(erase("evaluate", tickets(tmp_path), "--peers", "vote", *options), 2, "from 2 to 8", str(size))


@needs_embedder
def test_a_run_writes_page_figures_and_pictures(folders: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--llm", folders("llama"), "--out", out, "--jobs", 1, "--forget", "subject", *SMALL)
    found = json_of("evaluate", tickets(tmp_path), "--peers", "erase,vote", *options)
    names = ["evaluation.json", "evaluation.md", "evaluation-cost.png", "evaluation-score.png"]
    assert found == {"files": [str(out / name) for name in names]}
    assert all((out / name).stat().st_size > 0 for name in names)
    report = json.loads((out / "evaluation.json").read_text())
    # All peers are listed, with those that were not run.
    assert [peer["peer"] for peer in report["peers"]] == [entry.name for entry in catalogue.all_peers()]
    assert {peer["peer"]: peer["equal"] for peer in report["peers"] if peer["seeds"]} == {"erase": 1, "vote": 1}
    assert report["run"]["data"] == "tickets"
    again = erase("evaluate", tickets(tmp_path), "--peers", "erase,vote", *options)
    assert "all 6 cells are measured already" in again.stderr
    # Those of one subject: the ids are the places in the file.
    assert len({id_ % 9 for id_ in json.loads((out / "setting.json").read_text())["forget set"]}) == 1


@needs_embedder
def test_canaries_are_put_into_the_pool_and_compared_to_those_that_are_not(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--llm", folders("llama"), "--out", out, "--jobs", 1, "--forget", "canaries", *SMALL)
    json_of("evaluate", tickets(tmp_path), "--peers", "vote", *options)
    report = json.loads((out / "evaluation.json").read_text())
    assert (report["run"]["pool"], report["run"]["forgotten"]) == (18, 2)
    # Two members, and two others.
    assert [row["before"]["n"] for row in report["attacks"]] == [4]


@needs_embedder
@pytest.mark.slow
def test_processes_that_are_killed_leave_what_is_finished(folders: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("evaluate", tickets(tmp_path), "--peers", "prompt,classifier,fine-tuned", "--llm", folders("llama"))
    options = (*arguments, "--out", out, "--jobs", 2, *SMALL)
    first = subprocess.Popen(command(*options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + HANG
    while len(list((out / "cells").glob("*.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait(HANG)
    kept = {file: file.read_bytes() for file in (out / "cells").glob("*.json")}
    assert len(kept) >= 3
    done = subprocess.run(command(*options), capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
    assert {file: file.read_bytes() for file in kept} == kept
    report = json.loads((out / "evaluation.json").read_text())
    exact = [peer for peer in report["peers"] if peer["exactness"] == "exact" and peer["seeds"]]
    assert [(peer["peer"], peer["equal"], peer["failed"]) for peer in exact] == [(e["peer"], 1, None) for e in exact]
    assert len(exact) > 10
    assert os.listdir(out / "checkpoints")
