"""What an engine starts on a worker: it unpacks requests, calls the holder, and packs what it returns or raises."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from erase_core.distributed.holder import Holder
from erase_core.distributed.parts import RayPart
from erase_core.errors import EraseError, first_line

__all__ = ["Host"]


class Host:
    """The only object that an engine knows of a worker's side.

    A request begins with ``!`` (a whole one), ``*`` (the first piece of one), ``+`` (another piece), ``=`` (all pieces
    are there) or ``?`` (asks for a piece of the last reply). A reply begins with ``!`` (whole) or ``+`` (the number of
    pieces to ask for).

    Parameters
    ----------
    limit : int or None
        The longest reply in bytes. None: no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._holder: Any = Holder()
        self._request = bytearray()
        self._long = bytearray()

    def call(self, request: bytes, lent: Sequence[Any] = ()) -> bytes:
        """Handle a request. Blocks of Ray data sets that it names are lent for this call."""
        kind = bytes(request[:1])
        if kind == b"?":
            return self._piece(int.from_bytes(request[1:], "little"))
        if kind == b"*":  # what is there is of a caller that was interrupted
            _overwrite(self._request)
        if kind in {b"*", b"+"}:
            self._request += request[1:]
            return b""
        _overwrite(self._long)
        if kind == b"=":
            try:
                return self._handle(self._request)
            finally:
                _overwrite(self._request)
        return self._handle(memoryview(request)[1:], lent)

    def _handle(self, request: bytearray | memoryview, lent: Sequence[Any] = ()) -> bytes:
        method, arguments = pickle.loads(request)
        for part, block in zip([each for each in arguments if isinstance(each, RayPart)], lent, strict=True):
            part.lent = block
        outcome: Any
        try:
            # A host begins with a holder of rows.
            outcome = self._hold(*arguments) if method == "hold" else getattr(self._holder, method)(*arguments)
        except Exception as error:
            outcome = _portable(error)
        reply = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        if self._limit is None or len(reply) <= self._limit:
            return b"!" + reply
        self._long += reply
        return b"+" + (-(-len(reply) // self._limit)).to_bytes(8, "little")

    def _hold(self, kind: type[Any]) -> str:
        self._holder = kind()
        return kind.__name__

    def _piece(self, number: int) -> bytes:
        assert self._limit is not None
        start = number * self._limit
        piece = bytes(self._long[start : start + self._limit])
        self._long[start : start + self._limit] = bytes(len(piece))
        return piece


def _overwrite(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))
    buffer.clear()


def _portable(error: Exception) -> Exception:
    """Return an error that any process can unpickle. Those of other libraries may have arguments that cannot be."""
    if isinstance(error, EraseError):
        return error
    if type(error) in {MemoryError, ValueError, TypeError} or isinstance(error, OSError):
        return type(error)(*error.args)
    return RuntimeError(f"{type(error).__name__}: {first_line(error)}")
