"""What a store must keep whatever happened to the process that wrote to it, and what a trace of calls must show.

Broken promises are returned rather than asserted, so that a test can ask for them: a harness must be able to fail.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from crash_server import Outcome
from crash_workload import NEW, SETTINGS, STEPS, canary, number_of, open_store, states, token
from erase_core.erase import Erase
from erase_core.errors import EraseError
from small_stores import Seen, WordEmbedder, fresh, seen

USUAL = {"examples.sqlite", "examples.sqlite-wal", "examples.sqlite-shm", "model.qkm"}
RECEIPTS = "receipts"
STATES = states()
TOKEN = re.compile(rb"<[a-z]+\d{3}>")


class Broken(NamedTuple):
    """A promise that was not kept, and how that was seen."""

    promise: str
    what: str


# ---- what may be there ----
def allowed(outcome: Outcome) -> range:
    """Which of STATES a store may be in after a run: all that was acknowledged, and what was begun, whole or not.

    Of a process that was killed when it had an error, the error says which: after a ScrubError the step was done, after
    an UncertainError it may have been, since a log whose fsync failed holds the COMMIT all the same; after any other it
    was not, but for `create`, whose store may be there.
    """
    done, begun = len(outcome.of("done")), len(outcome.of("begin"))
    kinds = [kind for number, kind, _ in outcome.of("error") if number and outcome.killed]
    if "ScrubError" in kinds:
        return range(done + 1, begun + 1)
    return range(done, begun + (not kinds or "UncertainError" in kinds))


@functools.cache
def anew(numbers: frozenset[int]) -> Seen:
    """What a new store of these examples shows."""
    return fresh([canary(number) for number in sorted(numbers)], **SETTINGS)


@functools.cache
def needles(number: int) -> dict[str, bytes]:
    """Everything that tells of an example, as it stands in a file: pieces of its vector too."""
    example = canary(number)
    vector = WordEmbedder().embed([example.input])[0].tobytes()
    result = {field: token(field, number).encode() for field in ("id", "in", "out")}
    result |= {"why": token("why", number).encode()} if example.rationale else {}
    result |= {"sub": token("sub", number // 2 * 2).encode()} if example.subject else {}
    return result | {"vector, first half": vector[:16], "vector, second half": vector[16:]}


# ---- files ----
def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def residue(files: dict[str, bytes], present: frozenset[int], once: Iterable[int]) -> list[str]:
    """What files tell of examples that were there once and are not."""
    there = {needle for number in present for needle in needles(number).values()}
    return [
        f"{name} of {number} in {file}"
        for number in sorted({*once} - present)
        for name, needle in needles(number).items()
        if needle not in there
        for file, content in files.items()
        if needle in told(content)
    ]


@functools.lru_cache(maxsize=100)
def told(content: bytes) -> frozenset[bytes]:
    """All needles that are found; many times faster than to look for one after the other."""
    vectors = {needle for n in range(NEW + 1) for name, needle in needles(n).items() if name.startswith("vector")}
    return frozenset(TOKEN.findall(content)) | {vector for vector in vectors if vector in content}


def unusual(files: Iterable[str]) -> list[str]:
    return [file for file in files if file not in USUAL and not file.startswith(RECEIPTS + "/")]


# ---- promises ----
def broken(folder: Path, may_be: range) -> list[Broken]:
    """The promises that a store does not keep, after a process that had it open is gone."""
    twin = folder.with_name("twin")
    if folder.exists():
        shutil.copytree(folder, twin)
    try:
        erase = open_store(folder)
    except EraseError as error:
        return broken_by_none(folder) if 0 in may_be else [Broken("opens", str(error))]
    except Exception as error:
        return [Broken("errors are ours", repr(error))]
    with erase:
        opened = files_of(folder)
        try:
            numbers = frozenset(map(number_of, erase.examples()))
            result = [*shows(erase, numbers, may_be)]
            read = files_of(folder)
            erase.close()
        except EraseError as error:
            return [Broken("can be read", repr(error))]
        except Exception as error:
            return [Broken("errors are ours", repr(error))]
    for when, files in {"opened": opened, "read": read, "closed": files_of(folder)}.items():
        result.extend(clean(when, files, numbers, may_be))
    return result + written_first(twin, numbers)


def written_first(folder: Path, numbers: frozenset[int]) -> list[Broken]:
    """A write may be the first thing that is done to the store."""
    try:
        with open_store(folder) as erase:
            erase.ingest([canary(NEW)])
            return [] if seen(erase) == anew(numbers | {NEW}) else [Broken("can be written first", "differs")]
    except Exception as error:
        return [Broken("can be written first", repr(error))]


def shows(erase: Erase, numbers: frozenset[int], may_be: range) -> Iterable[Broken]:
    """What counts is there, whole, and looks as if nothing else had ever been."""
    if numbers not in [STATES[i] or frozenset() for i in may_be]:
        yield Broken("whole or absent", f"{sorted(numbers)} is none of {[sorted(STATES[i] or ()) for i in may_be]}")
    try:
        if seen(erase) != anew(numbers):
            yield Broken("like a fresh store", "something differs")
    except AssertionError as error:
        yield Broken("verifies", " ".join(str(error).split()))


def clean(when: str, files: dict[str, bytes], numbers: frozenset[int], may_be: range) -> Iterable[Broken]:
    """Residue of what was forgotten; of what never counted, or not again; files that do not belong there."""
    begun = may_be[0]
    step = STEPS[begun] if begun < len(STEPS) else STEPS[-1]
    uncounted = {*step.numbers} - numbers if step.name == "ingest" else set()
    once = {number for i in range(begun + 1) for number in STATES[i] or ()} - uncounted
    for what in residue(files, numbers, once):
        # Of the memory of the process that opens the store: SQLite copies some of it there when it finds a torn log.
        name = "no memory in -shm" if what.endswith("-shm") else f"no residue when {when}"
        yield Broken(name, what)
    for what in residue(files, numbers, uncounted):
        yield Broken(f"nothing uncounted when {when}", what)
    for file in unusual(files):
        yield Broken(f"no other file when {when}", file)


def broken_by_none(folder: Path) -> list[Broken]:
    """Where no store is, one can be made."""
    try:
        Erase.create(folder, embedder=WordEmbedder()).close()
    except Exception as error:
        return [Broken("absent", f"{error!r}: {sorted(files_of(folder))}")]
    return [Broken("absent", file) for file in unusual(files_of(folder))]


def failed_badly(outcome: Outcome) -> list[Broken]:
    """What a process saw itself, of which calls failed, and which must not be seen."""
    result = [Broken("errors are ours", str(words)) for words in outcome.of("foreign")]
    if outcome.status:
        result.append(Broken("survives", str(outcome)))
    for number, kind, text in outcome.of("error"):
        expected = sorted(STATES[number + (kind == "ScrubError")] or ())
        result.extend(
            Broken("an error changes nothing", f"{kind} ({text}), and {when} the handle shows {shown}")
            for when, shown in outcome.of("sees")
            if shown != expected
        )
    for number, handle, *error in outcome.of("stuck"):
        # A store that was made, and could then not be opened, is there: whether it is sound is looked at elsewhere.
        whole = not number and "it holds a store already" in str(error)
        if handle == "another handle" and not whole:
            result.append(Broken("can be retried" if number else "absent", str(error)))
    return result
