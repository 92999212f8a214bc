"""The law of a removal for what is in this process: no object that a program can still reach holds the text.

All live objects are searched: those that the garbage collector tracks, those on the stack of any thread, and all that
these refer to. Freed memory is not. Neither is memory that no Python object refers to, as that of Arrow's tables.
"""

from __future__ import annotations

import array
import gc
import io
import sys
import warnings
from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

# How many findings are described, each in a pass over all objects, and by how many of what leads to them.
DESCRIBED, DEPTH = 2, 4
# Kinds of objects that do not show the collector all that they refer to.
SHY = {np.ndarray, io.StringIO, io.BytesIO}
TEXTS: tuple[type, ...] = (str, bytes, bytearray, array.array)
# Those that the collector may not track, since nothing that they hold refers to anything.
UNTRACKED = {tuple, dict}

_generation = 0


def canary(number: int = 0) -> str:
    """A word that is nowhere else. Each call makes the text anew."""
    return "-".join(["canary", f"{7919 * (number + 1):x}", f"{_generation:x}", "zqx"])


def renew_canaries() -> None:
    """Make all words others from here on, since pytest keeps what earlier tests have logged and printed."""
    global _generation
    _generation += 1


def holders(needle: str) -> list[str]:
    """What holds a text: the types of each object that contains it, and of those that lead to it.

    The needle itself is no finding, nor is another reference to it. A test must have no other copy of it, so texts
    with it are put together at run time: by `canary(3)`, not by a literal.
    """
    with warnings.catch_warnings():  # of what other tests have left open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    encoded, texts = needle.encode(), {each for kind in TEXTS for each in _kinds(kind)}
    wanted = texts | SHY | UNTRACKED
    frames = list(_frames())
    # Until Python 3.13 a frame keeps the dict that it has returned, with what was in it then, so that is renewed.
    variables = [frame.f_locals for frame in frames]
    things: list[Any] = [*gc.get_objects(), *frames, *(each for names in variables for each in names.values())]
    found: dict[int, Any] = {}
    while things:
        seen = [each for each in things if type(each) in texts and _has(each, needle, encoded)]
        found |= {id(each): each for each in seen if each is not needle and each is not encoded}
        things = [each for each in _referents(things) if type(each) in wanted and not gc.is_tracked(each)]
        del seen  # or it would be among what leads to a finding
    first, others = list(found.values())[:DESCRIBED], list(found.values())[DESCRIBED:]
    return [_described(each, [found, first, others]) for each in first] + [type(each).__name__ for each in others]


def _kinds(kind: type) -> Iterator[type]:
    """Yield a class and all that are derived from it."""
    yield kind
    derived: type
    for derived in kind.__subclasses__():
        yield from _kinds(derived)


def _frames() -> Iterator[FrameType]:
    """Yield the frames of all threads but those of this module; the collector knows those of generators only."""
    for newest in sys._current_frames().values():
        frame: FrameType | None = newest
        while frame is not None:
            if frame.f_code.co_filename != __file__:
                yield frame
            frame = frame.f_back


def _referents(things: list[Any]) -> list[Any]:
    """Return what objects refer to, also where they do not show it to the collector."""
    found, dicts = gc.get_referents(*things), set(_kinds(dict))
    for thing in [each for each in things if type(each) in dicts]:
        found += dict.keys(thing)  # the collector is not shown keys that are texts
    for thing in [each for each in things if type(each) in SHY]:
        if type(thing) is np.ndarray:
            found += thing.flat if thing.dtype == object else ()
        elif not thing.closed:
            found.append(thing.getvalue())
    return found


def _has(thing: Any, needle: str, encoded: bytes) -> bool:
    if isinstance(thing, str):
        return needle in str.__str__(thing)
    return encoded in (thing.tobytes() if isinstance(thing, array.array) else thing)


def _described(found: Any, ours: list[Any]) -> str:
    """An object by its type and those of what refers to it, from the inside out."""
    chain, place = [type(found).__name__], found
    while len(chain) <= DEPTH:
        referring = [each for each in gc.get_referrers(place) if not any(each is own for own in ours)]
        referring = [each for each in referring if type(each) is not FrameType or each.f_code.co_filename != __file__]
        if not referring:
            break
        place = referring[0]
        ours = [*ours, referring]
        chain.append(_name(place))
    return " in ".join(chain)


def _name(thing: object) -> str:
    kind = type(thing).__name__
    return f"{kind} {thing.__name__}" if isinstance(thing, (type, FunctionType, ModuleType)) else kind
