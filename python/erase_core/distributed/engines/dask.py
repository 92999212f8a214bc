"""The engine dask.distributed: a host is an actor on a worker, which this process calls directly.

An actor's proxy waits for ever if the actor's worker dies during a call (distributed 2026.8). So calls use the
client's connections to workers. The messages do not pass the scheduler, and no worker keeps them as results.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import Any
from uuid import uuid4

from distributed import Client
from distributed.protocol import to_serialize

from erase_core.distributed.engines.host import Host
from erase_core.distributed.engines.protocol import Engine, Lost, Place
from erase_core.errors import MissingPackageError, ParameterError, WorkerLostError, first_line

__all__ = ["DaskEngine"]

# Seconds until a worker that does not start a host counts as lost, and until a cluster without workers is refused.
START, WORKERS = 60, 60
NEEDED = "import erase_core.distributed.engines.host"
# Seconds between two looks at whether its worker is still there.
POLL = 0.5


class DaskEngine(Engine):
    """Hosts on the workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
    is_own : bool, default=False
        Whether the client is closed with this engine.
    """

    def __init__(self, client: Client, *, is_own: bool = False) -> None:
        super().__init__()
        if client.asynchronous:
            raise ParameterError("engine must be a synchronous dask Client, got one with asynchronous=True")
        self._client = client
        self._is_own = is_own
        # The actors live as long as their futures do.
        self._actors: dict[str, Any] = {}
        self._hosts: Counter[str] = Counter()
        # Workers that have this package.
        self._able: set[str] = set()

    @property
    def workers(self) -> int:
        """The workers that the scheduler knows."""
        return len(self._known())

    def _known(self) -> dict[str, int]:
        """The threads of each worker, by its address."""
        try:
            self._client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise WorkerLostError(f"the dask cluster has had no worker for {WORKERS} s. Start workers.") from None
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return {address: workers[address]["nthreads"] for address in sorted(workers)}

    def start(self, count: int) -> list[Place]:
        """Start actors."""
        threads = self._known()
        places = []
        for _ in range(count):
            address = min(threads, key=lambda each: (self._hosts[each], each))
            self._check(address)
            self._hosts[address] += 1
            name = f"erase-core-shard-{uuid4()}"
            self._actors[name] = self._client.submit(
                Host, self.limit, key=name, actor=True, workers=[address], allow_other_workers=False
            )
            places.append(Place(address, name, threads[address]))
        for place in places:
            self._wait(place)
        return places

    def _check(self, address: str) -> None:
        """Check that a worker has this package. One that cannot unpickle a host would end."""
        if address in self._able:
            return
        found = self._client.run(exec, NEEDED, workers=[address], on_error="return")
        if isinstance(error := found.get(address), ImportError):
            raise MissingPackageError(
                f"worker {address} cannot import erase_core.distributed ({first_line(error)}). Install erase-core "
                "there, in the version of this process."
            )
        self._able.add(address)

    def _wait(self, place: Place) -> None:
        """Wait until an actor has started. If its worker has died meanwhile, it never will."""
        end = monotonic() + START
        while True:
            try:
                self._actors[place.handle].exception(timeout=POLL)
            except TimeoutError:
                if place.name in self._known() and monotonic() < end:
                    continue
                self.stop(place)
                raise Lost(place) from None
            return

    def stop(self, place: Place) -> None:
        """Let the scheduler release the actor."""
        if (actor := self._actors.pop(place.handle, None)) is not None:
            actor.release()
            self._hosts[place.name] -= 1

    def close(self) -> None:
        """Release all actors."""
        for actor in self._actors.values():
            actor.release()
        self._actors.clear()
        self._hosts.clear()
        if self._is_own:
            self._client.close()

    def _send(self, place: Place, request: bytes) -> Future[Any]:
        if self._client.status not in {"running", "connecting"}:
            raise WorkerLostError(
                "the dask client is closed, or its scheduler has ended. With another client, resume the model from the "
                "folder in which it was saved, or fit again."
            )
        return asyncio.run_coroutine_threadsafe(self._execute(place, request), self._client.loop.asyncio_loop)

    def _is_lost(self, place: Place) -> bool:
        actor = self._actors.get(place.handle)
        return actor is None or actor.status not in {"finished", "pending"}

    async def _execute(self, place: Place, request: bytes) -> Any:
        if self._is_lost(place):
            raise OSError
        return await self._client.rpc(place.name).actor_execute(
            actor=place.handle, function="call", args=[to_serialize(request)], kwargs={}
        )

    def _receive(self, place: Place, token: Future[Any]) -> bytes:
        while True:
            try:
                answer = token.result(timeout=POLL)
                break
            except FutureTimeoutError:
                # A connection to a worker that is gone is tried for half a minute. The scheduler knows sooner.
                if self._is_lost(place):
                    token.cancel()
                    raise Lost(place) from None
            except (OSError, KeyError):  # no connection; or a new worker at the old address, which has no such actor
                raise Lost(place) from None
        if answer["status"] != "OK":
            raise answer["exception"]
        return bytes(answer["result"])
