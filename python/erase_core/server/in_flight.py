"""The chats that are being answered, and the examples that each of them shows.

A removal is acknowledged when no chat that shows one of its examples is left: it waits for them, and ends those that
take too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from starlette.types import Receive

from erase_core.server.errors import ApiError

__all__ = ["Exchange", "HungUpError", "InFlight", "WithdrawnError"]

T = TypeVar("T")


class HungUpError(Exception):
    """The client does not wait for the answer any more."""


class WithdrawnError(ApiError):
    """An example that a chat shows was forgotten before the answer was complete."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "demonstration_forgotten",
            "A demonstration of this chat was forgotten before the answer was complete. Send the request again.",
            retry_after="0",
        )


class Exchange:
    """One chat, from the choice of its demonstrations to the end of the model's answer."""

    def __init__(self) -> None:
        self.shown: frozenset[int | str] | None = None
        self._known, self._ended, self._withdrawn = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def shows(self, ids: Iterable[int | str]) -> None:
        """Note the ids of the demonstrations."""
        self.shown = frozenset(ids)
        self._known.set()

    async def run(self, work: Coroutine[Any, Any, T], receive: Receive) -> T:
        """Return the result of a part of the exchange.

        It is cancelled, and its end waited for, if the client hangs up or a demonstration is withdrawn.

        Raises
        ------
        HungUpError, WithdrawnError
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_hung_up(receive))
        withdrawn = asyncio.ensure_future(self._withdrawn.wait())
        try:
            await asyncio.wait({task, gone, withdrawn}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():  # it may have opened what has to be closed, so its result counts first
                return task.result()
            raise WithdrawnError if withdrawn.done() else HungUpError
        finally:
            for each in (task, gone, withdrawn):
                each.cancel()
            await asyncio.gather(task, gone, withdrawn, return_exceptions=True)

    async def known(self) -> None:
        """Wait until the demonstrations are known, or the exchange has ended without any."""
        await self._known.wait()

    async def ended(self) -> None:
        """Wait until the exchange has ended."""
        await self._ended.wait()

    def withdraw(self) -> None:
        """End the exchange, with an error for the client."""
        self._withdrawn.set()

    def end(self) -> None:
        """Note that the exchange has ended."""
        self._known.set()
        self._ended.set()


class InFlight:
    """The exchanges that have not ended."""

    def __init__(self) -> None:
        self._exchanges: set[Exchange] = set()
        self._drains: set[asyncio.Task[int]] = set()

    def __len__(self) -> int:
        return len(self._exchanges)

    def begin(self) -> Exchange:
        """Return a new exchange. It must be begun before its demonstrations are chosen."""
        exchange = Exchange()
        self._exchanges.add(exchange)
        return exchange

    def end(self, exchange: Exchange) -> None:
        """Note that an exchange has ended."""
        self._exchanges.discard(exchange)
        exchange.end()

    async def drain(self, ids: Iterable[int | str], seconds: float) -> int:
        """Wait for the end of all exchanges that show some examples, which the store has forgotten.

        Parameters
        ----------
        ids : iterable of int or str
        seconds : float
            Those that have not ended after this time are withdrawn.

        Returns
        -------
        int
            How many were withdrawn.
        """
        drain = asyncio.ensure_future(self._drain(frozenset(ids), seconds))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        return await drain

    async def drained(self) -> None:
        """Wait for the end of all exchanges that other calls of `drain` wait for."""
        if self._drains:
            await asyncio.wait(self._drains)

    async def _drain(self, forgotten: frozenset[int | str], seconds: float) -> int:
        # Those that begin from here on choose from the store as it is after the removal.
        before = set(self._exchanges) if forgotten else set()
        if not before:
            return 0
        waits = [asyncio.ensure_future(_clear(each, forgotten)) for each in before]
        try:
            _, late = await asyncio.wait(waits, timeout=seconds)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not late:
            return 0
        left = before & self._exchanges
        concerned = [each for each in left if each.shown is None or each.shown & forgotten]
        for exchange in concerned:
            exchange.withdraw()
        await asyncio.gather(*(each.ended() for each in concerned))
        return len(concerned)


async def _clear(exchange: Exchange, forgotten: frozenset[int | str]) -> None:
    await exchange.known()
    if exchange.shown is not None and exchange.shown & forgotten:
        await exchange.ended()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
