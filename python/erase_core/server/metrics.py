"""Prometheus metrics: counts and times by route. They contain no texts, no ids and no paths as they were called."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

METHODS = {"GET", "POST", "PUT", "DELETE"}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("method", "route")
        self._requests = Counter(
            "erase_requests", "Requests that were answered.", (*names, "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "erase_request_seconds", "Time to the end of the answer.", names, buckets=SECONDS, registry=self._registry
        )
        self.in_flight = Gauge("erase_chats_in_flight", "Chats being answered.", registry=self._registry)
        self.shown = Counter("erase_demonstrations", "Demonstrations put into chats.", registry=self._registry)
        self.added = Counter("erase_examples_added", "Examples added.", registry=self._registry)
        self.forgotten = Counter("erase_examples_forgotten", "Examples forgotten.", registry=self._registry)
        self.withdrawn = Counter(
            "erase_chats_withdrawn", "Chats ended by the removal of a demonstration.", registry=self._registry
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the template of a path, never a path."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
