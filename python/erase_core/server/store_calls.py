"""What the server asks of its store beside the calls of `Erase`; and the thread in which it asks.

Calls run one at a time, as the store requires, so what one call does is of one state as far as this process goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from erase_core.calls.ingesting import admitted_now, without_refused_tokens
from erase_core.calls.prompting import fitted
from erase_core.calls.queries import Queries
from erase_core.calls.stored_windows import with_windows
from erase_core.erase import Erase
from erase_core.erasure.admission import Admission, OnDuplicate, OnForgotten
from erase_core.examples.example import integer_in
from erase_core.examples.reading import read_examples
from erase_core.llm import Answer
from erase_core.llm.prompt import Prompt
from erase_core.store.reads import Reads

__all__ = ["Answered", "Caller", "answered", "id_of", "prompted", "would_add"]

T = TypeVar("T")


class Caller:
    """Makes calls of a store in a thread of its own, one at a time and in their order.

    A call that waits for its turn is not made if the caller is cancelled. One that runs goes on to its end.

    Parameters
    ----------
    erase : Erase
    """

    def __init__(self, erase: Erase) -> None:
        self._erase = erase
        self._thread = ThreadPoolExecutor(1, "erase-serve")

    async def __call__(self, call: Callable[[Erase], T]) -> T:
        """Return the result of a function of the store."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, self._erase)

    def end(self) -> None:
        """Make no further calls, and wait for the one that runs."""
        self._thread.shutdown(cancel_futures=True)


class Answered(NamedTuple):
    """The prompt that a model has read, its answer, and the digest of the model that chose the demonstrations."""

    prompt: Prompt
    answer: Answer
    digest: str


def prompted(erase: Erase, query: str) -> tuple[Prompt, str]:
    """Return the prompt of a query with all its demonstrations, and the digest of the state that it comes from."""
    opened = erase._opened
    with opened.lock:
        while True:
            before = _digest(erase)
            prompt = erase.prompt(query)
            if _digest(erase) == before:  # otherwise another process has written meanwhile
                return prompt, before


def answered(erase: Erase, query: str, max_tokens: int) -> Answered:
    """Return the answer of the model in this process: what `Erase.ask` does, and what it has shown."""
    opened = erase._opened
    with opened.lock:
        prompt, digest = prompted(erase, query)
        (fitting,) = fitted(opened, [prompt], Queries.one(query), max_tokens)
        answer = opened.backends.llm.generate(with_windows(opened, fitting), max_tokens=max_tokens)
        return Answered(fitting, answer, digest)


def would_add(
    erase: Erase, rows: Sequence[dict[str, Any]], on_forgotten: OnForgotten, on_duplicate: OnDuplicate
) -> tuple[int, int, int]:
    """Check examples as `Erase.ingest` does, but add none.

    Returns
    -------
    int, int, int
        How many it would add, how many it would leave out as forgotten, and how many as duplicates.
    """
    opened = erase._opened
    with opened.lock:
        reading = without_refused_tokens(opened, read_examples(rows), rows, None, skip_bad=False)
        admission = Admission(on_forgotten, on_duplicate)
        coming, _ = admitted_now(opened, reading, admission, skips_duplicates=on_duplicate == "skip")
    n_left = len(reading.examples) - len(coming)
    return len(coming), n_left - admission.n_duplicates, admission.n_duplicates


def id_of(erase: Erase, text: str) -> int | str:
    """Return the id that a path names: an integer if it looks like one, unless the ids of the store are texts."""
    integer = integer_in(text)
    return text if integer is None or erase.id_type is str else integer


def _digest(erase: Erase) -> str:
    def digest(reads: Reads) -> str:
        return erase._opened.clustering.digest(reads)

    return erase._opened.read(digest)
