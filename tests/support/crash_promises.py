"""What a store must keep whatever happened to the process that wrote to it, and what a trace of calls must show.

Broken promises are returned rather than asserted, so that a test can ask for them: a harness must be able to fail.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from crash_film import Film
from crash_server import Outcome
from crash_workload import (
    KEYS_OF_STATES,
    NEW,
    SETTINGS,
    STEPS,
    USER_KEYS,
    canary,
    number_of,
    open_store,
    open_with,
    states,
)
from erase_core.erase import Erase
from erase_core.errors import EraseError, KeyFileError
from erase_core.verify import reference
from sealed_by_hand import DATABASE, KEYS, TOKENS, Slot, fits, rows_in, slots_in
from small_stores import Seen, WordEmbedder, fresh, seen

USUAL = {"examples.sqlite", "examples.sqlite-wal", "examples.sqlite-shm", KEYS}
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


def looked_at(erase: Erase) -> Seen:
    """What a store shows. `verify` fits each set of rows by the second implementation once in all runs: it is slow."""
    with mock.patch.object(reference, "fit", fitted_once):
        return seen(erase)


def fitted_once(vectors: Any, ids: Sequence[Any], params: reference.Params) -> reference.Fitted:
    key = (vectors.tobytes(), vectors.shape, *ids, repr(params))
    if key not in FITS:
        FITS[key] = FIT(vectors, ids, params)
    return FITS[key]


FITS: dict[tuple[object, ...], reference.Fitted] = {}
FIT = reference.fit


@functools.cache
def halves(number: int) -> tuple[bytes, bytes]:
    """Pieces of an example's vector, as a file would hold it."""
    vector = WordEmbedder().embed([canary(number).input])[0].tobytes()
    return vector[:16], vector[16:]


# ---- files ----
def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@functools.lru_cache(maxsize=100)
def plain(content: bytes) -> frozenset[str]:
    """Whatever of an example can be read: no file may ever hold any of it, of one that is there neither."""
    vectors = {needle for number in range(NEW + 1) for needle in halves(number) if needle in content}
    return frozenset([*map(bytes.decode, TOKEN.findall(content)), *(f"a vector's {needle!r}" for needle in vectors)])


def unusual(files: Iterable[str]) -> list[str]:
    return [file for file in files if file not in USUAL and not file.startswith(RECEIPTS + "/")]


# ---- promises ----
class Past(NamedTuple):
    """What is known of a store that was stopped.

    Which of STATES it may be in; up to which all was acknowledged without an error; and copies from before.
    """

    may_be: range
    acknowledged: int
    film: Film

    @property
    def user_keys(self) -> list[int]:
        """Numbers of the user's keys that may open it."""
        return sorted({KEYS_OF_STATES[state] for state in self.may_be})


def past(outcome: Outcome, film: Film) -> Past:
    """What is known of a store by what its process has said. See `allowed`."""
    broken_off = [number for number, kind, _ in outcome.of("error") if kind == "ScrubError"]
    return Past(allowed(outcome), min([len(outcome.of("done")), *broken_off]), film)


def broken(folder: Path, past: Past) -> list[Broken]:
    """The promises that a store does not keep, after a process that had it open is gone."""
    twin = folder.with_name("twin")
    if folder.exists():
        shutil.copytree(folder, twin)
    left = files_of(folder)
    result = [*unreadable("left", left), *destroyed_at_once(left, past)]
    try:
        erase = open_store(folder, past.user_keys)
    except EraseError as error:
        return result + (broken_by_none(folder) if 0 in past.may_be else [Broken("opens", str(error))])
    except Exception as error:
        return [*result, Broken("errors are ours", repr(error))]
    with erase:
        opened = files_of(folder)
        try:
            numbers = frozenset(map(number_of, erase.examples()))
            result += shows(erase, numbers, past.may_be)
            read = files_of(folder)
            erase.close()
        except EraseError as error:
            return [*result, Broken("can be read", repr(error))]
        except Exception as error:
            return [*result, Broken("errors are ours", repr(error))]
    closed = files_of(folder)
    rows = {row.slot for row in rows_in(folder / DATABASE)}
    for when, files in {"opened": opened, "read": read, "closed": closed}.items():
        result.extend(unreadable(when, files))
        result.extend(clean(when, files, rows, past))
    return result + refused(folder, past) + written_first(twin, numbers, past)


def refused(folder: Path, past: Past) -> list[Broken]:
    """No key of the user's opens a store but the one that was set last."""
    result = []
    for number in {*range(len(USER_KEYS))} - {*past.user_keys}:
        try:
            open_with(folder, number).close()
            result.append(Broken("other keys are refused", f"key {number} opens it"))
        except KeyFileError:
            continue
    return result


def written_first(folder: Path, numbers: frozenset[int], past: Past) -> list[Broken]:
    """A write may be the first thing that is done to the store."""
    try:
        with open_store(folder, past.user_keys) as erase:
            erase.ingest([canary(NEW)])
            return [] if looked_at(erase) == anew(numbers | {NEW}) else [Broken("can be written first", "differs")]
    except Exception as error:
        return [Broken("can be written first", repr(error))]


def shows(erase: Erase, numbers: frozenset[int], may_be: range) -> Iterable[Broken]:
    """What counts is there, whole, and looks as if nothing else had ever been."""
    if numbers not in [STATES[i] or frozenset() for i in may_be]:
        yield Broken("whole or absent", f"{sorted(numbers)} is none of {[sorted(STATES[i] or ()) for i in may_be]}")
    try:
        if looked_at(erase) != anew(numbers):
            yield Broken("like a fresh store", "something differs")
    except AssertionError as error:
        yield Broken("verifies", " ".join(str(error).split()))


# ---- what files tell ----
def unreadable(when: str, files: dict[str, bytes]) -> Iterable[Broken]:
    """Nothing of an example can be read in any file, whether it is there, was forgotten, or never counted."""
    for file, content in files.items():
        for what in plain(content):
            yield Broken(of_memory(file) or f"nothing readable when {when}", f"{what} in {file}")


def of_memory(file: str) -> str:
    """The promise that there is none of a process's memory in -shm: SQLite copies some there if the log is torn."""
    return "no memory in -shm" if file.endswith("-shm") else ""


def destroyed_at_once(files: dict[str, bytes], past: Past) -> Iterable[Broken]:
    """Keys of what was forgotten are gone when that is acknowledged: the next process need not finish it.

    The others are in the key file, as they were kept when the last step was begun, or are kept after it; while a step
    sets another key of the user's, in files beside it too.
    """
    may_be = [past.film.moments[state] for state in {past.acknowledged, *past.may_be}]
    kept = {(slot, moment.keys[slot].kept) for moment in may_be for slot in moment.slots if slot in moment.keys}
    begun = STEPS[past.acknowledged].name if past.acknowledged < len(STEPS) else ""
    for found in past.film.keys_in(files, past.acknowledged):
        in_place = found.file == KEYS or (begun == "rekey" and found.file.startswith(f"{KEYS}."))
        if not (in_place and found.form == "bytes" and (found.slot, found.value) in kept):
            yield Broken(of_memory(found.file) or "keys gone when acknowledged", str(found))


def clean(when: str, files: dict[str, bytes], rows: set[int], past: Past) -> Iterable[Broken]:
    """Each row has its key, and no other key is anywhere; no other file is there."""
    keys = keys_of(files, past)
    slots = {*keys} - {TOKENS}
    if rows - slots:
        yield Broken(f"a key for each row when {when}", f"slots {sorted(rows - slots)}")
    if slots - rows:
        yield Broken(f"a row for each key when {when}", f"slots {sorted(slots - rows)}")
    for found in past.film.keys_in(files, past.may_be[0]):
        there = found.file == KEYS and found.form == "bytes" and found.slot in {*rows, TOKENS}
        if not (there and keys[found.slot].kept == found.value):
            yield Broken(of_memory(found.file) or f"no key when {when}", str(found))
    for what in past.film.opens(keys, rows, past.may_be[0]):
        yield Broken(f"no old copy opens when {when}", what)
    for file in unusual(files):
        yield Broken(f"no other file when {when}", file)


def keys_of(files: dict[str, bytes], past: Past) -> dict[int, Slot]:
    """The keys of a store that has been opened."""
    content = files[KEYS]
    (user_key,) = (USER_KEYS[number] for number in past.user_keys if fits(content, USER_KEYS[number]))
    return slots_in(content, user_key)


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
