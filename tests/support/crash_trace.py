"""The calls of a run in their order, and whether what is acknowledged was asked to survive a power cut before.

A process that is killed cannot show that an fsync is missing: its machine still has all that it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

from crash_promises import RECEIPTS, Broken
from crash_server import SYNC, WRITE, Outcome
from crash_workload import STEPS

DATABASE, LOG = "store/examples.sqlite", "store/examples.sqlite-wal"
KEYS, REPLACED = "store/keys", "store/keys.replaced"


class Call(NamedTuple):
    """One call: its kind's bit, its name, the path or paths, and in which step it was made."""

    number: int
    kind: int
    name: str
    path: str
    other: str
    step: int

    @property
    def what(self) -> tuple[str, str, str]:
        """Calls that are alike in all runs."""
        return (STEPS[self.step].name, self.name, self.path)


def calls(outcome: Outcome, base: str) -> list[Call]:
    """The calls of a traced run. Numbers of processes are taken out of paths."""
    result, step = [], 0

    def plain(path: str) -> str:
        return re.sub(r"partial-\d+(-\d+)?", "partial-N", path.removeprefix(base).removeprefix("/"))

    for word, *rest in outcome.said:
        if word == "begin":
            step = rest[0]
        elif word == "call":
            number, kind, name, path, other = rest
            result.append(Call(int(number), int(kind), name, plain(path), plain(other), step))
    return result


class Pending:
    """What was done to files and not yet synchronised."""

    def __init__(self) -> None:
        self.data: set[str] = set()
        self.names: dict[str, str] = {}

    def see(self, call: Call) -> Iterator[Broken]:
        if call.kind == WRITE:
            self.data.add(call.path)
        elif call.kind == SYNC:
            self.data.discard(call.path)
            here = call.path or "."
            self.names = {name: how for name, how in self.names.items() if str(PurePath(name).parent) != here}
        elif call.name in ("create", "mkdir", "unlink"):
            self.names[call.path] = call.name
            self.data.discard(call.path)
        elif call.name in ("rename", "link"):
            if call.path in self.data:
                yield Broken("synced before it is renamed", f"{call.path} to {call.other}")
            self.names |= {call.path: call.name, call.other: call.name}


def unsynced(trace: list[Call]) -> list[Broken]:
    """What was acknowledged before it was asked to survive a power cut."""
    pending = Pending()
    result: list[Broken] = []
    for number, step in enumerate(STEPS):
        for call in trace:
            if call.step == number:
                result.extend(pending.see(call))
        if step.name in ("create", "ingest", "forget", "rekey"):
            result.extend(lost(pending, number))
    return result


def lost(pending: Pending, number: int) -> Iterator[Broken]:
    """What a power cut could undo of an acknowledged step."""
    step = f"{STEPS[number].name} (step {number})"
    for file in sorted(pending.data):
        if file in (DATABASE, LOG, KEYS, REPLACED) or f"/{RECEIPTS}/" in file:
            yield Broken("contents synced", f"{step}: {file}")
    for file, how in pending.names.items():
        ours = file in (DATABASE, KEYS, REPLACED, "store") or (file == LOG and how == "create" and number)
        if ours or f"/{RECEIPTS}" in file:
            yield Broken("names synced", f"{step}: {how} of {file}")


# What a step does to the key file and to the log, in this order: W is a write, S a sync. A new log has a head.
ORDERS = {
    "ingest": ("the keys before the commit that needs them", r"(kW)+kS(lWlS)?(lW)+lS"),
    "forget": ("the keys after the commit that forgets, before the receipt", r"(lWlS)?(lW)+lS(kW)+kSr"),
}


def disordered(trace: list[Call]) -> list[Broken]:
    """Steps that do not write and sync keys, log and receipt in their order."""
    result = []
    for number, step in enumerate(STEPS):
        promise, order = ORDERS.get(step.name, ("", ""))
        done = "".join(sign(call) for call in trace if call.step == number)
        if order and not re.fullmatch(order, done):
            result.append(Broken(promise, f"{step.name} (step {number}): {done}"))
    return result


def sign(call: Call) -> str:
    """A call as ORDERS write it; nothing if it is none of those."""
    file = {KEYS: "k", LOG: "l"}.get(call.path, "")
    if file and call.kind in (WRITE, SYNC):
        return file + ("W" if call.kind == WRITE else "S")
    return "r" if call.name == "link" and f"/{RECEIPTS}/" in call.path else ""
