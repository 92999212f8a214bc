"""An engine in this process whose hosts die on demand: before they handle a request, or after it."""

from __future__ import annotations

import pickle

from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.engines.protocol import Place

# Parts of requests that are in pieces are not counted.
WHOLE = b"!"


class MortalEngine(LocalEngine):
    """A `LocalEngine` that counts requests.

    Attributes
    ----------
    fatal : set of int
        The requests, counted from `arm` on, at which the host that is called dies.
    late : bool
        Whether it dies after it has handled the request.
    methods : list of str
        The methods that were called since `arm`.
    """

    def __init__(self, workers: int = 2) -> None:
        super().__init__(workers)
        self.fatal: set[int] = set()
        self.late = False
        self.methods: list[str] = []

    def arm(self, *fatal: int, late: bool = False) -> None:
        """Count from here on, and let hosts die at these requests."""
        self.fatal, self.late, self.methods = {*fatal}, late, []

    def _send(self, place: Place, request: bytes) -> list[bytes]:
        at = len(self.methods)
        self.methods.append(pickle.loads(request[1:])[0] if request[:1] == WHOLE else "")
        if at not in self.fatal:
            return super()._send(place, request)
        if self.late:
            super()._send(place, request)
        self.stop(place)
        return []
