"""The engine Ray: a host is an actor.

Ray puts arguments and results above 100 kB into its object store: shared memory that nobody overwrites, and that may be
written to the disk. So messages go in pieces below that, which Ray carries within its calls.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError

from erase_core.distributed.engines.host import Host
from erase_core.distributed.engines.protocol import Call, Engine, Lost, Place
from erase_core.distributed.parts import RayPart

__all__ = ["RayEngine"]


class RayEngine(Engine):
    """Hosts on a Ray cluster.

    Parameters
    ----------
    address : str or None
        The cluster, as `ray.init` takes it. None: the one that this process is connected to, else the one that
        `ray.init` finds or starts.
    """

    # Ray's own limit is 100 KiB, with what it adds to a message.
    limit = 64 * 1024
    takes_ray_data = True

    def __init__(self, address: str | None = None) -> None:
        super().__init__()
        self._connected = not ray.is_initialized()
        if self._connected:
            local: dict[str, Any] = {} if address else {"include_dashboard": False}
            ray.init(address, log_to_driver=False, **local)
        self._actors: list[Any] = []

    @property
    def workers(self) -> int:
        """The nodes that are alive and have processors."""
        return max(1, len(self._nodes()))

    @staticmethod
    def _nodes() -> list[dict[str, Any]]:
        return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def start(self, count: int) -> list[Place]:
        """Start actors."""
        # They reserve no processors: they wait most of the time.
        actor = ray.remote(Host).options(
            num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", max_concurrency=1
        )
        actors = [actor.remote(self.limit) for _ in range(count)]
        self._actors += actors
        processors = sum(int(node["Resources"]["CPU"]) for node in self._nodes())
        threads = max(1, processors // max(1, len(self._actors)))
        return [Place(each._actor_id.hex(), each, threads) for each in actors]

    def stop(self, place: Place) -> None:
        """End an actor's process."""
        if place.handle in self._actors:
            self._actors.remove(place.handle)
            ray.kill(place.handle)

    def close(self) -> None:
        """End all actors, and the connection if it was made here."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()
        if self._connected:
            ray.shutdown()
            self._connected = False

    def call(self, place: Place, method: str, *arguments: Any) -> Call:
        """Call a method of a host's holder. References of blocks go beside the message, so that Ray counts them."""
        lent = [each.lent for each in arguments if isinstance(each, RayPart)]
        if not lent:
            return super().call(place, method, *arguments)
        return Call(place, place.handle.call.remote(b"!" + self._packed(method, arguments), lent))

    def _send(self, place: Place, request: bytes) -> Any:
        return place.handle.call.remote(request)

    def _receive(self, place: Place, token: Any) -> bytes:
        try:
            return bytes(ray.get(token))
        except RayActorError:
            raise Lost(place) from None
