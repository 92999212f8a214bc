"""The engine of this process: each host is an object here, called at once. For tests, and to try things."""

from __future__ import annotations

from erase_core.distributed.engines.host import Host
from erase_core.distributed.engines.protocol import Engine, Lost, Place

__all__ = ["LocalEngine"]


class LocalEngine(Engine):
    """Hosts in this process.

    Parameters
    ----------
    workers : int, default=2
    limit : int or None, default=None
        The longest message in bytes, as another engine may have.
    """

    def __init__(self, workers: int = 2, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self._workers = workers
        self._started = 0

    @property
    def workers(self) -> int:
        """As it was given."""
        return self._workers

    def start(self, count: int) -> list[Place]:
        """Make hosts."""
        names = range(self._started, self._started + count)
        self._started += count
        return [Place(f"local-{name}", [Host(self.limit)], threads=1) for name in names]

    def stop(self, place: Place) -> None:
        """Drop a host. Later calls find it lost, as those to a process that has died."""
        place.handle.clear()

    def close(self) -> None:
        """Do nothing: there is nothing that this engine keeps."""

    def _send(self, place: Place, request: bytes) -> list[bytes]:
        return [host.call(request) for host in place.handle]

    def _receive(self, place: Place, token: list[bytes]) -> bytes:
        if not token:
            raise Lost(place)
        return token[0]
