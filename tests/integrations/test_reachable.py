"""The search of all live objects: what it finds, and what it does not."""

from __future__ import annotations

import collections
import functools
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from canary_stores import GONE, canary_store, query
from erase_core.llm.prompt import Prompt, Template
from reachable import canary, holders


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


@functools.lru_cache
def cached(text: str) -> int:
    return len(text)


def _as_cached(text: str) -> Any:
    cached(text)
    return cached


PLACES: dict[str, Callable[[str], Any]] = {
    "text": str,
    "bytes": str.encode,
    "bytearray": lambda text: bytearray(text.encode()),
    "list": lambda text: [text],
    "key": lambda text: {text: 1},
    "tuple of tuples": lambda text: (1, (2, (text,))),
    "deque": lambda text: collections.deque([text]),
    "attribute": lambda text: type("Thing", (), {})().__dict__ | {"text": text},
    "slot": Slotted,
    "closure": lambda text: lambda: text,
    "partial": lambda text: functools.partial(print, text),
    "generator": lambda text: (each for each in (text,)),
    "cache": _as_cached,
    "array of objects": lambda text: np.array([[text, None]], dtype=object),
    "stream": io.StringIO,
    "stream of bytes": lambda text: io.BytesIO(text.encode()),
    "error": lambda text: ValueError(text),
}


def test_a_text_is_found_wherever_it_is_held_and_not_afterwards() -> None:
    """Also on the stack of another thread."""
    needle, ready, end = canary(90), threading.Event(), threading.Event()

    def hold() -> None:
        local = f"in a thread {canary(90)}"
        ready.set()
        end.wait()
        assert local

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    held = [hold(f"before {canary(90)} after") for hold in PLACES.values()]
    found = holders(needle)
    end.set()
    thread.join()
    assert len(found) == len(held) + 1
    held.clear()
    cached.cache_clear()
    assert holders(needle) == []


def test_a_store_holds_no_text_that_it_forgot(path: Path) -> None:
    with canary_store(path) as erase:
        needle = canary(0)
        assert erase.demonstrations(query(0))[-1].id == 0
        shown = erase.prompt(query(0))
        assert holders(needle) != []
        del shown
        erase.forget(subject=GONE)
        assert holders(needle) == []
        assert 0 not in [each.id for each in erase.demonstrations(query(0))]


def test_what_holds_a_text_is_described() -> None:
    held = Prompt(Template(), (), canary(92))
    assert any("Prompt" in each for each in holders(canary(92)))
    assert held
