"""What a process does to a store until it is stopped: examples that can be recognised, steps, and a step's failure.

The steps are the same in every run, call for call, so that the n-th call of one run is the n-th of another. It judges
nothing but what only the process itself can see: which errors reach the caller, and what a handle shows after one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from erase_core.erase import Erase
from erase_core.errors import EraseError, KeyFileError, ScrubError
from erase_core.examples.example import Example
from small_stores import QUERIES, CountingLLM, WordEmbedder

SETTINGS = {"n_shots": 3, "strategy": "kmeans"}
# Some examples come back after they were forgotten, which a store with a list of them wants to be told.
AGAIN: dict[str, Any] = {"on_forgotten": "allow"} if "on_forgotten" in signature(Erase.ingest).parameters else {}
# Of an example's fields; a page has 4096 bytes.
SHORT, MIDDLE, LONG = 40, 1100, 8192
LENGTHS = {3: (SHORT, LONG), 6: (MIDDLE, SHORT), 11: (LONG, 300)}


def token(field: str, number: int) -> str:
    """What identifies a field of an example wherever a piece of the field is; no token is part of another."""
    return f"<{field}{number:03d}>"


def canary(number: int) -> Example:
    """An example whose texts are its tokens over and over: some fill pages of their own (overflow), some share them.

    Ids and subjects come in no order and are long, so that their trees grow, shrink and move what they hold.
    """
    lengths = LENGTHS.get(number % 16, (SHORT, SHORT))
    first, second = (token(field, number) * (length // 7) for field, length in zip(("in", "out"), lengths, strict=True))
    pair = number // 2 * 2
    return Example(
        f"{number * 611 % 1000:03d}" + token("id", number) * (20 + number * 37 % 60),
        first,
        second,
        token("why", number) * 3 if number % 3 else None,
        f"{pair * 377 % 1000:03d}" + token("sub", pair) * (20 + pair // 2 * 53 % 60) if number % 6 < 4 else None,
    )


def number_of(example: Example) -> int:
    return int(str(example.id)[6:9])


class Step(NamedTuple):
    """One call. `numbers` are the examples that it is about, `key` is the number of the user's key that it sets."""

    name: str
    numbers: tuple[int, ...] = ()
    by_subject: bool = False
    key: int = 0


# Keys that the user keeps: none, and others.
USER_KEYS = (None, b"1" * 40, b"2" * 40)
STEPS = (
    Step("create"),
    Step("ingest", tuple(range(24))),
    Step("ingest", tuple(range(24, 36))),
    Step("forget", (8,)),
    Step("forget", (30, 31), by_subject=True),
    Step("ingest", (8, 36, 37)),
    Step("forget", (3, 4, 7, 11, 15, 16, 28, 33)),
    Step("close"),
    Step("open"),
    Step("ingest", (3, 4, 38, 39)),
    Step("rekey", key=1),
    Step("open"),
    Step("forget", tuple(sorted({*range(40)} - {7, 11, 12, 15, 16, 28, 30, 31, 33}))),
    Step("ingest", (16, 11)),
    Step("rekey", key=2),
    Step("open"),
    Step("forget", (12, 16)),
    Step("close"),
)
# In none of them.
NEW = 40


def states(steps: Sequence[Step] = STEPS) -> list[frozenset[int] | None]:
    """Numbers of the examples in the store before each step and after the last; None where there is no store."""
    result: list[frozenset[int] | None] = [None]
    for step in steps:
        numbers = result[-1] or frozenset()
        result.append(numbers - {*step.numbers} if step.name == "forget" else numbers | {*step.numbers})
    return result


def keys_of_states(steps: Sequence[Step] = STEPS) -> list[int]:
    """Number of the user's key before each step and after the last."""
    return [max((step.key for step in steps[:state]), default=0) for state in range(len(steps) + 1)]


KEYS_OF_STATES = keys_of_states()


def carry_out(step: Step, erase: Erase | None, folder: Path, keys: Sequence[int]) -> Erase:
    """Do a step; return the store. One of these keys of the user's opens it."""
    if step.name == "create":
        return Erase.create(folder, embedder=WordEmbedder(), llm=CountingLLM(), **SETTINGS)  # type: ignore[arg-type]
    if step.name == "open":
        return open_store(folder, keys)
    assert erase is not None
    if step.name == "rekey":
        erase.rekey(USER_KEYS[step.key])
        return erase
    examples = [canary(number) for number in step.numbers]
    if step.name == "ingest":
        erase.ingest(examples, **AGAIN)
    elif step.name == "close":
        erase.close()
    elif step.by_subject:
        erase.forget(subject=examples[0].subject)
    else:
        erase.forget([example.id for example in examples if example.id is not None])
    return erase


def open_store(folder: Path, keys: Sequence[int]) -> Erase:
    """Open a store with one of these keys of the user's, given by their numbers."""
    *others, last = keys
    for number in others:
        with suppress(KeyFileError):
            return open_with(folder, number)
    return open_with(folder, last)


def open_with(folder: Path, number: int) -> Erase:
    return Erase.open(folder, embedder=WordEmbedder(), llm=CountingLLM(), key=USER_KEYS[number])


def run(folder: Path, say: Callable[..., None], mend: Callable[[], object], *, die: bool = False) -> None:
    """Carry the steps out, and say before each that it begins and after it that it is done.

    After an error of ours it is looked at what the handle shows, and, when the disk is mended, whether the step can be
    carried out after all; then the run ends. Or it dies with the error.
    """
    erase: Erase | None = None
    for number, step in enumerate(STEPS):
        say("begin", number)
        try:
            erase = carry_out(step, erase, folder, [KEYS_OF_STATES[number]])
        except EraseError as error:
            say("error", number, type(error).__name__, str(error))
            if die:
                os.kill(os.getpid(), signal.SIGKILL)
            after_an_error(number, isinstance(error, ScrubError), erase, folder, say, mend)
            return
        except Exception as error:
            say("foreign", number, step.name, repr(error))
            return
        say("done", number)


def after_an_error(
    number: int, counts: bool, erase: Erase | None, folder: Path, say: Callable[..., None], mend: Callable[[], object]
) -> None:
    step = STEPS[number]
    if erase is not None and step.name not in ("close", "open"):
        look(erase, "broken", say)
        mend()
        look(erase, "mended", say)
    mend()
    if counts or again(number, step, erase, folder, say):
        say("done", number)


def again(number: int, step: Step, erase: Erase | None, folder: Path, say: Callable[..., None]) -> bool:
    """Carry a step out after all: with the same handle if it will, else with another."""

    def with_another() -> None:
        if erase is not None:
            erase.close()
        carry_out(step, None if erase is None else open_store(folder, keys), folder, keys)

    keys = sorted({*KEYS_OF_STATES[number : number + 2]})
    return attempt(say, "stuck", (number, "the same handle"), lambda: carry_out(step, erase, folder, keys)) or attempt(
        say, "stuck", (number, "another handle"), with_another
    )


def look(erase: Erase, when: str, say: Callable[..., None]) -> None:
    """Read all that can be read: an error is ours, or there is none."""

    def examples() -> None:
        say("sees", when, sorted(map(number_of, erase.examples())))

    attempt(say, "refused", (when, "examples"), examples)
    attempt(say, "refused", (when, "prompt"), lambda: erase.prompt(QUERIES[0]))
    attempt(say, "refused", (when, "status"), erase.status)
    attempt(say, "refused", (when, "verify"), erase.verify)
    attempt(say, "refused", (when, "examples"), examples)


def attempt(say: Callable[..., None], word: str, about: tuple[object, ...], call: Callable[[], object]) -> bool:
    """Call; say so if it is refused, or fails with an error that is not ours."""
    try:
        call()
    except EraseError as error:
        say(word, *about, type(error).__name__, str(error))
        return False
    except Exception as error:
        say("foreign", *about, repr(error))
        return False
    return True


def recover(folder: Path, say: Callable[..., None]) -> None:
    """Open a store after a crash, read it, and close it: what a second crash may interrupt."""
    erase = open_store(folder, range(len(USER_KEYS)))
    say("opened")
    erase.prompt(QUERIES[0])
    say("read")
    erase.close()
    say("closed")
