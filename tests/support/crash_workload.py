"""What a process does to a store until it is stopped: examples that can be recognised, steps, and a step's failure.

The steps are the same in every run, call for call, so that the n-th call of one run is the n-th of another. It judges
nothing but what only the process itself can see: which errors reach the caller, and what a handle shows after one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from erase_core.erase import Erase
from erase_core.errors import EraseError, ScrubError
from erase_core.examples.example import Example
from small_stores import QUERIES, CountingLLM, WordEmbedder

SETTINGS = {"n_shots": 3}
# Some examples come back after they were forgotten, which a store with a list of them wants to be told.
AGAIN: dict[str, Any] = {"on_forgotten": "allow"} if "on_forgotten" in signature(Erase.ingest).parameters else {}
# Of an example's fields; a page has 4096 bytes.
SHORT, MIDDLE, LONG = 40, 1100, 8192
LENGTHS = {3: (SHORT, LONG), 6: (MIDDLE, SHORT), 11: (LONG, 300)}


def token(field: str, number: int) -> str:
    """What tells of a field of an example wherever a piece of the field is; no token is part of another."""
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
    """One call. `numbers` are the examples that it is about."""

    name: str
    numbers: tuple[int, ...] = ()
    by_subject: bool = False


# Without a VACUUM the second removal would leave a copy of an id behind.
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
    Step("forget", tuple(sorted({*range(40)} - {7, 11, 15, 16, 28, 30, 31, 33}))),
    Step("ingest", (16, 11)),
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


def carry_out(step: Step, erase: Erase | None, folder: Path) -> Erase:
    """Do a step; return the store."""
    if step.name == "create":
        return Erase.create(folder, embedder=WordEmbedder(), llm=CountingLLM(), **SETTINGS)  # type: ignore[arg-type]
    if step.name == "open":
        return open_store(folder)
    assert erase is not None
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


def open_store(folder: Path) -> Erase:
    return Erase.open(folder, embedder=WordEmbedder(), llm=CountingLLM())


def run(folder: Path, say: Callable[..., None], mend: Callable[[], object], *, die: bool = False) -> None:
    """Carry the steps out, and say before each that it begins and after it that it is done.

    After an error of ours it is looked at what the handle shows, and, when the disk is mended, whether the step can be
    carried out after all; then the run ends. Or it dies with the error.
    """
    erase: Erase | None = None
    for number, step in enumerate(STEPS):
        say("begin", number)
        try:
            erase = carry_out(step, erase, folder)
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
        carry_out(step, None if erase is None else open_store(folder), folder)

    return attempt(say, "stuck", (number, "the same handle"), lambda: carry_out(step, erase, folder)) or attempt(
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
    """Open a store after a crash, read it, and let go of it: what a second crash may interrupt."""
    erase = open_store(folder)
    say("opened")
    erase.prompt(QUERIES[0])
    say("read")
    erase.close()
    say("closed")
