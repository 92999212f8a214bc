"""What an engine does: it starts hosts on workers, carries requests to them, and says which of them are lost.

A request and its reply are bytes. So every engine moves the same bytes, and counts them. An engine with a `limit` sends
longer messages in pieces, because it would put a longer one where nobody overwrites it.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Call", "Engine", "Lost", "Place", "Traffic"]


class Lost(Exception):  # noqa: N818 - an outcome of a call, which never reaches the user
    """A host is gone: its process ended, or it cannot be reached.

    Attributes
    ----------
    place : Place
        Where it was.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(f"worker {place.name} is lost")
        self.place = place


@dataclass(eq=False)
class Place:
    """A host on a worker.

    Attributes
    ----------
    name : str
        The worker, for messages.
    handle : object
        What the engine reaches it by.
    threads : int or None
        Threads that its work may use. None: one for each processor.
    """

    name: str
    handle: Any
    threads: int | None = None


@dataclass
class Traffic:
    """What an engine has carried.

    Attributes
    ----------
    sent, received : int
        Bytes of requests and of replies, without the engine's own framing.
    messages : int
        Requests.
    trips : int
        Times that the caller waited for replies, however many hosts were asked at once.
    """

    sent: int = 0
    received: int = 0
    messages: int = 0
    trips: int = 0


@dataclass(frozen=True)
class Call:
    """A request that was sent."""

    place: Place
    token: Any


class Engine(ABC):
    """Starts hosts and calls them. A host (`host.Host`) handles its requests one after the other, in their order.

    Attributes
    ----------
    traffic : Traffic
    """

    # The longest message in bytes, or None.
    limit: int | None = None
    # Whether it can lend the blocks of Ray data sets to hosts.
    takes_ray_data = False

    def __init__(self) -> None:
        self.traffic = Traffic()

    # ---- what each engine defines ----
    @property
    @abstractmethod
    def workers(self) -> int:
        """The number of workers, on which as many hosts are started by default."""

    @abstractmethod
    def start(self, count: int) -> list[Place]:
        """Start so many hosts, spread over the workers with the fewest."""

    @abstractmethod
    def stop(self, place: Place) -> None:
        """End a host, and free what it has. A host that is lost already is no error."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect from the engine, and end what this object has started of it."""

    @abstractmethod
    def _send(self, place: Place, request: bytes) -> Any:
        """Send a request without waiting for the reply; return what `_receive` waits for. Raises no `Lost`."""

    @abstractmethod
    def _receive(self, place: Place, token: Any) -> bytes:
        """Wait for a reply. Raises `Lost`."""

    # ---- calls ----
    def call(self, place: Place, method: str, *arguments: Any) -> Call:
        """Call a method of a host's holder, without waiting for the result."""
        request = self._packed(method, arguments)
        if self.limit is not None and len(request) > self.limit:
            for start in range(0, len(request), self.limit):
                self._send(place, (b"+" if start else b"*") + request[start : start + self.limit])
            return Call(place, self._send(place, b"="))
        return Call(place, self._send(place, b"!" + request))

    def _packed(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        request = pickle.dumps((method, arguments), pickle.HIGHEST_PROTOCOL)
        self.traffic.sent += len(request)
        self.traffic.messages += 1
        return request

    def outcomes(self, calls: Sequence[Call]) -> list[Any]:
        """Wait for several calls, and return in order what each returned, or the error that it raised."""
        self.traffic.trips += 1
        return [self._outcome(call) for call in calls]

    def gather(self, calls: Sequence[Call]) -> list[Any]:
        """Wait for several calls, all of them even if some fail, and return their results in order.

        Raises
        ------
        Lost
            A host is lost: the first of several.
        Exception
            What a holder raised: the first of several, if no host is lost.
        """
        outcomes = self.outcomes(calls)
        for error in sorted((each for each in outcomes if isinstance(each, Exception)), key=_by_urgency):
            raise error
        return outcomes

    def _outcome(self, call: Call) -> Any:
        try:
            return self._reply(call)
        except Lost as error:
            return error

    def _reply(self, call: Call) -> Any:
        reply = self._receive(call.place, call.token)
        if reply[:1] == b"+":
            pieces = int.from_bytes(reply[1:], "little")
            tokens = [self._send(call.place, b"?" + piece.to_bytes(8, "little")) for piece in range(pieces)]
            reply = b"!" + b"".join([self._receive(call.place, token) for token in tokens])
        self.traffic.received += len(reply) - 1
        return pickle.loads(memoryview(reply)[1:])


def _by_urgency(error: Exception) -> bool:
    return not isinstance(error, Lost)
