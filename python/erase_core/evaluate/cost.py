"""What a piece of work costs: measured around it, so that no peer counts for itself.

Processor seconds depend on the machine and its load. Tokens do not, and carry over to larger models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields

__all__ = ["Cost", "Meter", "add_cost", "count_tokens", "measured"]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of some work.

    Attributes
    ----------
    processor_seconds : float
        Of all threads of this process.
    wall_seconds : float
    tokens_forward, tokens_backward : int
        Tokens that a language model read, and those of them that gradients were computed for.
    peak_bytes : int
        The most memory that was allocated at once, above what was allocated before; 0 if it was not measured.
    """

    processor_seconds: float = 0.0
    wall_seconds: float = 0.0
    tokens_forward: int = 0
    tokens_backward: int = 0
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both, one after the other."""
        peak = max(self.peak_bytes, other.peak_bytes)
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "peak_bytes"}
        return Cost(**sums, peak_bytes=peak)


class Meter:
    """Counts while work is done. `cost` has the result afterwards."""

    def __init__(self) -> None:
        self.cost = Cost()
        self.earlier = Cost()
        self.tokens_forward = 0
        self.tokens_backward = 0


_meters: ContextVar[tuple[Meter, ...]] = ContextVar("meters", default=())


@contextmanager
def measured() -> Iterator[Meter]:
    """Measure what is done within this context. Contexts may be nested."""
    meter = Meter()
    token = _meters.set((*_meters.get(), meter))
    processor, wall = time.process_time(), time.perf_counter()
    try:
        yield meter
    finally:
        _meters.reset(token)
        meter.cost = Cost(
            time.process_time() - processor,
            time.perf_counter() - wall,
            meter.tokens_forward,
            meter.tokens_backward,
        )
        meter.cost += meter.earlier


def count_tokens(*, forward: int = 0, backward: int = 0) -> None:
    """Add tokens to the costs that are being measured."""
    for meter in _meters.get():
        meter.tokens_forward += forward
        meter.tokens_backward += backward


def add_cost(cost: Cost) -> None:
    """Add what was measured in an earlier run to the costs that are being measured."""
    for meter in _meters.get():
        meter.earlier += cost
