"""Runs that are stopped, each in a folder of its own and judged when it is over; and a tally of them."""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import crash_power
from crash_film import Film
from crash_promises import Broken, Past, broken, failed_badly, past
from crash_server import ALL, MAKE, NAME, OPEN, SYNC, WRITE, Outcome, Server
from crash_trace import Call, calls
from crash_workload import STEPS
from small_stores import FAST_FOLDER

# What fails, and which calls it makes fail.
FAILURES: dict[str, dict[str, Any]] = {
    "EIO once": {"mode": "fail", "error": errno.EIO, "kinds": ALL},
    "ENOSPC once": {"mode": "fail", "error": errno.ENOSPC, "kinds": WRITE | MAKE},
    "short write": {"mode": "short", "kinds": WRITE},
    "EIO from then on": {"mode": "failall", "error": errno.EIO, "kinds": ALL},
    "disk full from then on": {"mode": "failall", "error": errno.ENOSPC, "kinds": WRITE | MAKE},
    "fsync fails from then on": {"mode": "failall", "error": errno.EIO, "kinds": SYNC},
    "read-only from then on": {"mode": "failall", "error": errno.EROFS, "kinds": ALL},
    "folder read-only from then on": {"mode": "failall", "error": errno.EACCES, "kinds": MAKE | NAME | OPEN},
}
KILLS = ("kill", "after", "torn")


class Runs:
    """A server, the calls of a run that nobody stops, and a tally."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.points: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[tuple[str, str]] = Counter()
        # By the mutants that they are of.
        self.films: dict[str, Film] = {}
        self.trace = self.traced()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=FAST_FOLDER) as folder:
            yield Path(folder).resolve()

    def traced(self, mutant: str = "") -> list[Call]:
        """The calls of a run that is not stopped."""
        with self.folder() as base, self.folder() as film:
            outcome = self.server(base, trace=True, mutant=mutant, film=str(film))
            assert not outcome.status, outcome
            assert mutant or len(outcome.of("done")) == len(STEPS), outcome.of("error") + outcome.of("foreign")
            self.films[mutant] = Film(film)
            return calls(outcome, str(base))

    def firsts(self) -> list[Call]:
        """Of calls that are alike the first."""
        return list({call.what: call for call in reversed(self.trace)}.values())[::-1]

    def killed(self, mode: str, call: Call, mutant: str = "") -> list[Broken]:
        """Kill a process at a call."""
        with self.folder() as base:
            outcome = self.server(base, mode=mode, at=call.number, mutant=mutant)
            assert outcome.killed, outcome
            self._count(mode if not mutant else f"{mode} of a store {mutant}", outcome, call.step)
            return broken(base / "store", past(outcome, self.films[mutant]))

    def seconds(self) -> float:
        """How long the whole script takes if nothing stops it."""
        with self.folder() as base:
            start = time.perf_counter()
            outcome = self.server(base)
            assert not outcome.killed, outcome
            return time.perf_counter() - start

    def killed_after(self, delay: float) -> list[Broken]:
        """Kill a process at any moment."""
        with self.folder() as base:
            outcome = self.server(base, delay=delay)
            begun = outcome.of("begin")
            self._count("kill at a random moment", outcome, begun[-1][0] if begun else 0)
            return broken(base / "store", past(outcome, self.films[""]))

    def failed(self, failure: str, call: Call, *, die: bool = False) -> list[Broken]:
        """Let a call fail, or all from it on; then the process goes on, or is killed when it has the error."""
        with self.folder() as base:
            outcome = self.server(base, at=call.number, die=die, **FAILURES[failure])
            self._count(failure + (", then a kill" if die else ""), outcome, call.step)
            found = broken(base / "store", past(outcome, self.films[""]))
            return found if outcome.killed else found + failed_badly(outcome)

    def cut(self, variant: str, call: Call, mutant: str = "") -> list[Broken]:
        """Cut the power at a call."""
        with self.folder() as room:
            base, mirror, image = room / "base", room / "mirror", room / "image"
            for folder in (base, mirror, image):
                folder.mkdir()
            outcome = self.server(base, mode="kill", at=call.number, mirror=str(mirror), mutant=mutant)
            assert outcome.killed, outcome
            crash_power.cut(base / "store", mirror, variant, image / "store")
            self._count(
                f"power cut, kept: {variant}" + (f", of a store {mutant}" if mutant else ""), outcome, call.step
            )
            return broken(image / "store", past(outcome, self.films[mutant]))

    def deleted(self, mutant: str = "", **stop: Any) -> list[Broken]:
        """Look into deleted files, as they were when they were last synced: a disk keeps them."""
        with self.folder() as base, self.folder() as mirror:
            outcome = self.server(base, mirror=str(mirror), mutant=mutant, **stop)
            self._count("deleted files" + (f" of a store with {mutant}" if mutant else ""), outcome, 0)
            there = {str(file.stat().st_ino) for file in base.rglob("*")}
            files = {file.name: file.read_bytes() for file in mirror.glob("[0-9]*") if file.suffix != ".names"}
            gone = {f"deleted file {name}": content for name, content in files.items() if name not in there}
            found = [*self.films[mutant].keys_in(gone, past(outcome, self.films[mutant]).acknowledged)]
            return [Broken("no key in a deleted file", str(each)) for each in found]

    def twice(self, call: Call, *, every: int = 1, seen: set[tuple[Any, ...]] | None = None) -> list[Broken]:
        """Kill a process, and then the one that opens the store: at every call, or at two if the like was seen."""
        with self.folder() as room:
            base = room / "base"
            base.mkdir()
            first = self.server(base, mode="kill", at=call.number)
            assert first.killed, first
            shutil.copytree(base, room / "traced")
            recovery = calls(self.server(room / "traced", work="recover", trace=True), str(room / "traced"))
            chosen = recovery[::every]
            if seen is not None:
                key = (call.step, *((each.name, each.path) for each in recovery))
                chosen = random.sample(recovery, min(2, len(recovery))) if key in seen else recovery
                seen.add(key)
            before = past(first, self.films[""])
            return [one for each in chosen for one in self._again(base, room / "again", each, before, call.step)]

    def _again(self, base: Path, again: Path, at: Call, before: Past, step: int) -> list[Broken]:
        result: list[Broken] = []
        for mode in ("kill", "torn"):
            shutil.copytree(base, again)
            second = self.server(again, work="recover", mode=mode, at=at.number)
            assert second.killed, second
            self._count(f"{mode} while it is opened after a kill", second, step)
            result += broken(again / "store", before)
            shutil.rmtree(again)
        return result

    def _count(self, kind: str, outcome: Outcome, step: int) -> None:
        self.points[kind, STEPS[step].name] += 1
        errors = [error[1] for error in outcome.of("error")]
        self.ends[kind, "killed" if outcome.killed else errors[0] if errors else "no error"] += 1
        for words in outcome.of("stuck"):
            self.ends[kind, f"refused again by {words[1]}"] += 1

    def report(self) -> Iterable[str]:
        """Counts by what was done and in which step, and how the processes ended."""
        yield f"{len(self.trace)} calls change files in {len(STEPS)} steps; {self.points.total()} runs were judged"
        files = Counter(f"{call.name} {call.path}" for call in self.trace)
        yield f"calls: {in_words(dict(files.most_common()))}"
        for kind in dict.fromkeys(kind for kind, _ in self.points):
            steps = {step: count for (of, step), count in self.points.items() if of == kind}
            ends = {end: count for (of, end), count in self.ends.items() if of == kind}
            yield f"{kind}: {sum(steps.values())} ({in_words(steps)}); {in_words(ends)}"


def in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
