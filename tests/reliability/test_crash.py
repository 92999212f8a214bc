"""Crashes: a store keeps its promises when a process is killed at any call, a disk fails, or the power is cut.

Not seen: what a process writes through mmap (SQLite's -shm, rebuilt from the log); what disks do beyond losing what
they were not asked to keep. See crash_shim.c and crash_power.py.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

import crash_power
import pytest
from crash_promises import Broken
from crash_runs import FAILURES, KILLS, Runs
from crash_server import SYNC, WRITE, Server, why_not
from crash_trace import KEYS, LOG, disordered, unsynced
from crash_workload import STEPS

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

# What the store does not keep yet; to be emptied when it does.
# SQLite 3.40 fills -shm from a buffer that it did not clear, if the log ends within its first frame.
NOT_YET = {"no memory in -shm"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Runs]:
    with Server(tmp_path_factory.mktemp("crash")) as server:
        runs = Runs(server)
        yield runs
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print("", *runs.report(), sep="\n")


def summary(found: Iterable[Broken], without: Iterable[str] = NOT_YET) -> dict[str, tuple[int, str]]:
    """How often each promise was broken, and once how."""
    kept = [one for one in found if one.promise not in {*without}]
    examples = {one.promise: one.what for one in reversed(kept)}
    return {promise: (count, examples[promise]) for promise, count in Counter(one.promise for one in kept).items()}


# ---- a sample ----
def test_every_run_makes_the_same_calls(runs: Runs) -> None:
    assert runs.traced() == runs.trace
    assert {call.step for call in runs.trace} == set(range(len(STEPS)))


def test_a_store_keeps_its_promises_when_its_process_is_killed(runs: Runs) -> None:
    found = []
    for number, call in enumerate(runs.firsts()):
        found += runs.killed(KILLS[number % len(KILLS)], call)
    assert summary(found) == {}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_store_keeps_its_promises_when_its_disk_fails(runs: Runs, failure: str) -> None:
    points = [call for call in runs.firsts() if call.kind & FAILURES[failure]["kinds"]]
    found = [one for call in points[:: len(points) // 5] for one in runs.failed(failure, call)]
    assert summary(found) == {}


def test_a_store_keeps_its_promises_when_the_power_is_cut(runs: Runs) -> None:
    syncs = [call for call in runs.trace if call.kind == SYNC and call.step]
    found = [one for call in syncs[::10] for one in runs.cut("nothing else", call)]
    assert summary(found, NOT_YET) == {}


def test_what_is_acknowledged_is_synced_first(runs: Runs) -> None:
    assert summary(unsynced(runs.trace)) == {}


def test_keys_log_and_receipts_are_written_and_synced_in_their_order(runs: Runs) -> None:
    assert summary(disordered(runs.trace)) == {}


def test_no_deleted_file_holds_a_key(runs: Runs) -> None:
    assert summary(runs.deleted()) == {}
    linked = [call for call in runs.trace if STEPS[call.step].name == "rekey" and call.name in ("link", "rename")]
    found = [one for call in linked for one in runs.deleted(at=call.number, die=True, **FAILURES["EIO once"])]
    assert summary(found) == {}


def test_a_crash_while_the_store_is_opened_after_a_crash(runs: Runs) -> None:
    # When a removal counts, and its key is about to be destroyed; and when another key of the user's has been set.
    forget, rekey = (next(n for n, step in enumerate(STEPS) if step.name == name) for name in ("forget", "rekey"))
    first = next(call for call in runs.trace if call.step == forget and call.path == KEYS)
    renamed = next(call for call in runs.trace if call.step == rekey and call.name == "rename")
    found = [one for call in (first, renamed) for one in runs.twice(call, every=12)]
    assert summary(found) == {}


# ---- every point ----
@pytest.mark.slow
@pytest.mark.parametrize("mode", KILLS)
def test_a_process_killed_at_every_call(runs: Runs, mode: str) -> None:
    points = [call for call in runs.trace if mode != "torn" or call.kind == WRITE]
    assert summary(one for call in points for one in runs.killed(mode, call)) == {}


@pytest.mark.slow
def test_a_process_killed_at_random_moments(runs: Runs) -> None:
    found = []
    for _ in range(20):
        # On a busy machine a run takes longer, and most moments of a fixed time would be in its first step.
        whole = runs.seconds()
        found += [one for _ in range(50) for one in runs.killed_after(random.uniform(0, whole))]
    assert summary(found) == {}


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_every_call_that_fails(runs: Runs, failure: str) -> None:
    points = [call for call in runs.trace if call.kind & FAILURES[failure]["kinds"]]
    assert summary(one for call in points for one in runs.failed(failure, call)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["EIO once", "fsync fails from then on"])
def test_every_call_that_fails_and_then_a_kill(runs: Runs, failure: str) -> None:
    points = [call for call in runs.trace if call.kind & FAILURES[failure]["kinds"]]
    assert summary(one for call in points for one in runs.failed(failure, call, die=True)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("variant", crash_power.VARIANTS)
def test_the_power_cut_at_every_call(runs: Runs, variant: str) -> None:
    points = [call for call in runs.trace if call.step]
    assert summary((one for call in points for one in runs.cut(variant, call)), NOT_YET) == {}


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, len(STEPS)))
def test_a_second_crash_at_every_call_of_the_recovery(runs: Runs, step: int) -> None:
    seen: set[tuple[object, ...]] = set()
    points = [call for call in runs.trace if call.step == step]
    assert summary(one for call in points for one in runs.twice(call, seen=seen)) == {}


# ---- that the harness can fail ----
def promises(found: Iterable[Broken]) -> set[str]:
    return {one.promise for one in found}


def test_a_write_in_two_transactions_is_found_out(runs: Runs) -> None:
    mutant = "in two transactions"
    syncs = [call for call in runs.traced(mutant) if call.kind == SYNC and call.step in (1, 2, 3)]
    found = promises(one for call in syncs for one in runs.killed("after", call, mutant=mutant))
    assert found & {"can be read", "verifies", "whole or absent"}


def test_writes_that_are_not_synced_are_found_out(runs: Runs) -> None:
    mutant = "without fsync"
    trace = runs.traced(mutant)
    assert "contents synced" in promises(unsynced(trace))
    after = next(call for call in trace if call.step == 3)
    assert runs.killed("kill", after, mutant=mutant) == [], "a kill shows it too"
    assert promises(runs.cut("nothing else", after, mutant=mutant)) & {"opens", "can be read", "whole or absent"}


@pytest.mark.parametrize(
    ("mutant", "step", "promise"),
    [("keys not synced", 2, "opens"), ("destroyed keys not synced", 3, "keys gone when acknowledged")],
)
def test_keys_that_are_not_synced_are_found_out(runs: Runs, mutant: str, step: int, promise: str) -> None:
    trace = runs.traced(mutant)
    assert "contents synced" in promises(unsynced(trace))
    acknowledged = next(call for call in trace if call.step == step + 1)
    assert runs.killed("kill", acknowledged, mutant=mutant) == [], "a kill shows it too"
    assert promise in promises(runs.cut("nothing else", acknowledged, mutant=mutant))


# What shows each store that was broken on purpose, once a removal is acknowledged and its process is killed.
FOUND_BY = {
    "keys not overwritten": "keys gone when acknowledged",
    "keys overwritten in memory": "keys gone when acknowledged",
    "keys half overwritten": "keys gone when acknowledged",
    "other keys overwritten": "keys gone when acknowledged",
    "keys in sqlite too": "no key when closed",
    "keys used again": "no old copy opens when closed",
    "key file copied": "no key when closed",
    "plain vectors in a cache": "nothing readable when closed",
    "plain texts in a file": "nothing readable when closed",
}


@pytest.mark.parametrize("mutant", FOUND_BY)
def test_a_store_that_is_broken_is_found_out(runs: Runs, mutant: str) -> None:
    acknowledged = next(call for call in runs.traced(mutant) if call.step == 4)
    assert FOUND_BY[mutant] in promises(runs.killed("kill", acknowledged, mutant=mutant))


@pytest.mark.parametrize(
    "mutant",
    ["keys synced after the commit", "keys destroyed before the commit", "keys destroyed after the receipt"],
)
def test_another_order_is_found_out(runs: Runs, mutant: str) -> None:
    assert promises(disordered(runs.traced(mutant)))


def test_keys_that_are_destroyed_before_the_commit_are_found_out(runs: Runs) -> None:
    mutant = "keys destroyed before the commit"
    commit = next(call for call in runs.traced(mutant) if call.step == 3 and call.path == LOG)
    assert "can be read" in promises(runs.killed("kill", commit, mutant=mutant))


def test_plain_texts_in_a_file_for_a_while_are_found_out(runs: Runs) -> None:
    mutant = "plain texts in a file for a while"
    meanwhile = next(call for call in runs.traced(mutant) if call.step == 1 and call.path == KEYS)
    assert "nothing readable when left" in promises(runs.killed("kill", meanwhile, mutant=mutant))


def test_deleted_files_that_hold_keys_are_found_out(runs: Runs) -> None:
    mutant = "replaced keys deleted alone"
    runs.traced(mutant)
    assert "no key in a deleted file" in promises(runs.deleted(mutant))
