"""What a piece of work costs: measured around it, so that no peer counts for itself.

Processor seconds depend on the machine and its load. Tokens do not, and carry over to larger models. They are counted
in one place: `count_tokens_of` hooks a network, and from then on every run of it counts, by whoever it is called.
`Tools` and `AdaptedModel` hook theirs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from weakref import WeakSet

__all__ = ["Cost", "Meter", "add_cost", "count_tokens_of", "measured"]

PROCESS = Path("/proc/self")


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
        How much the resident memory of this process rose above its start at its highest; 0 if it was not measured,
        which is so on every system but Linux. Memory that was freed before and is used again does not count, so
        the first of several equal pieces of work shows the most. Memory of an accelerator does not count.
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
        self.highest = 0


_meters: ContextVar[tuple[Meter, ...]] = ContextVar("meters", default=())
_counted: WeakSet[Any] = WeakSet()


@contextmanager
def measured() -> Iterator[Meter]:
    """Measure what is done within this context. Contexts may be nested."""
    meter = Meter()
    start = _start_of_peak()
    token = _meters.set((*_meters.get(), meter))
    processor, wall = time.process_time(), time.perf_counter()
    try:
        yield meter
    finally:
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        _meters.reset(token)
        meter.highest = max(meter.highest, _resident("VmHWM"))
        peak = max(meter.highest - start, 0) if start else 0
        meter.cost = Cost(processor, wall, meter.tokens_forward, meter.tokens_backward, peak) + meter.earlier


def _start_of_peak() -> int:
    """Begin a new high-water mark of resident memory, and return the bytes that are resident; 0 if it is not known."""
    highest = _resident("VmHWM")
    for outer in _meters.get():  # the mark that is lost now is theirs
        outer.highest = max(outer.highest, highest)
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return 0
    return _resident("VmRSS")


def _resident(name: str) -> int:
    try:
        status = (PROCESS / "status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:")), 0)


def count_tokens_of(network: Any) -> None:
    """Count all tokens that a network reads from now on. It may be called again for the same network.

    Parameters
    ----------
    network : torch.nn.Module
        A causal model of transformers, called with `input_ids` by name. Tokens that a mask of shape (n, length) leaves
        out are not counted. Those of a run are counted as backward once a gradient passes its logits or one of the
        hidden states that it returns, however often.
    """
    if network not in _counted:
        _counted.add(network)
        network.register_forward_hook(_count_run, with_kwargs=True)


def _count_run(network: Any, args: tuple[Any, ...], inputs: dict[str, Any], output: Any) -> None:
    tokens, mask = inputs["input_ids"], inputs.get("attention_mask")
    n = tokens.numel()
    if mask is not None and mask.ndim == 2:
        n = int((mask[:, -tokens.shape[1] :] != 0).sum())
    meters = _meters.get()  # a gradient may be computed in another thread, which has none
    for meter in meters:
        meter.tokens_forward += n
    is_backward = False

    def count(gradient: Any) -> None:
        nonlocal is_backward
        for meter in () if is_backward else meters:
            meter.tokens_backward += n
        is_backward = True

    for each in (output.logits, *(getattr(output, "hidden_states", None) or ())):
        if each.requires_grad:
            each.register_hook(count)


def add_cost(cost: Cost) -> None:
    """Add what was measured in an earlier run to the costs that are being measured."""
    for meter in _meters.get():
        meter.earlier += cost
