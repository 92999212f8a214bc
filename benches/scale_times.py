"""Times of a `DistributedQKMeans` that follow from measured costs and from what is assumed of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

# Waits of a fit for all shards: to open, for the width, to begin, to load, for the places, to assign, to settle.
TRIPS = 7
GIB = 2**30


@dataclass(frozen=True)
class Costs:
    """What was measured. Times are in seconds, of one thread; sizes in bytes.

    Attributes
    ----------
    load, smallest, assign : float
        For a row: to read it from a file and take it in, to look for the smallest places, to assign it in a fit.
    again : float
        For a row: to assign it anew after centres moved.
    panel_fit, candidate : float
        The coordinator's part of a fit, and what each further candidate for the panel adds to it.
    off, on : float
        A removal off the panel, and the coordinator's part of one on it, without engine and with one shard.
    moved : float
        Share of the removals on the panel after which all rows are assigned anew.
    merge : float
        To merge the part of one more shard.
    trip, message, byte : float
        The engine: one call and its reply; each further call at the same time; each byte.
    sort : float
        To sort one key of 8 bytes, where ids of shards must be compared.
    panel : int
        Rows on the panel.
    row, held, stored : int
        A row in a message, in a shard, in a file.
    frame, part : int
        Messages: the centres, a shard's part.
    """

    load: float
    smallest: float
    assign: float
    again: float
    panel_fit: float
    candidate: float
    off: float
    on: float
    moved: float
    merge: float
    trip: float
    message: float
    byte: float
    sort: float
    panel: int
    row: int
    held: int
    stored: int
    frame: int
    part: int


@dataclass(frozen=True)
class Assumed:
    """What is assumed of a cluster.

    Attributes
    ----------
    bandwidth, latency : float
        Of the coordinator's connection, in bytes a second, and in seconds there and back.
    disk : float
        Bytes a second that each worker reads its parts with.
    straggler : float
        The time of the slowest worker, as a multiple of the ordinary one.
    memory : float
        Bytes of memory for the rows of a worker.
    """

    bandwidth: float = 1.25e9
    latency: float = 0.2e-3
    disk: float = 500e6
    straggler: float = 1.25
    memory: float = 16 * GIB


# Both workers and the coordinator are on one machine, which has read the files before.
HERE = Assumed(bandwidth=float("inf"), latency=0.0, disk=float("inf"), straggler=1.0)


@dataclass(frozen=True)
class Simulation:
    """Times of a model of so many rows on so many workers, each with one thread."""

    costs: Costs
    assumed: Assumed
    n_rows: int
    workers: int

    @property
    def rows(self) -> int:
        """Rows of the fullest worker."""
        return ceil(self.n_rows / self.workers)

    @property
    def on_panel(self) -> int:
        """Rows on the panel."""
        return min(self.n_rows, self.costs.panel)

    @property
    def memory(self) -> float:
        """Bytes that a worker needs for its rows."""
        return self.rows * self.costs.held

    @property
    def candidates(self) -> float:
        """Bytes that all workers send to the coordinator for the panel."""
        return self.workers * min(self.rows, self.costs.panel) * self.costs.row

    @property
    def fits(self) -> bool:
        """Whether it has them."""
        return self.memory <= self.assumed.memory

    def trip(self, n_bytes: float = 0.0) -> float:
        """Seconds to ask all workers once, with so many bytes for each, there and back together."""
        costs, assumed = self.costs, self.assumed
        carried = self.workers * n_bytes * (costs.byte + 1 / assumed.bandwidth)
        return costs.trip + assumed.latency + (self.workers - 1) * costs.message + carried

    def passes(self, row: float) -> float:
        """Seconds until all workers have done for each of their rows what takes `row` seconds."""
        return self.assumed.straggler * self.rows * row

    @property
    def fit(self) -> float:
        """Seconds of a fit."""
        costs = self.costs
        load = max(costs.load, costs.stored / self.assumed.disk)
        candidates = min(self.rows, costs.panel)
        sent = candidates * costs.row + costs.frame + 2 * costs.part
        coordinator = costs.panel_fit + (self.workers * candidates - self.on_panel) * costs.candidate
        talk = (TRIPS - 1) * self.trip() + self.trip(sent) + 2 * self.workers * costs.merge
        return self.passes(load + costs.smallest + costs.assign) + coordinator + talk

    @property
    def comparing(self) -> float:
        """Seconds that a fit takes longer if the ids of the shards must be compared one by one."""
        costs, assumed = self.costs, self.assumed
        return self.n_rows * (8 * (costs.byte + 1 / assumed.bandwidth) + costs.sort) + self.passes(costs.sort)

    @property
    def off(self) -> float:
        """Seconds of the removal of a row that is not on the panel."""
        return self.costs.off + self.trip(self.costs.part) + (self.workers - 1) * self.costs.merge

    @property
    def on(self) -> float:
        """Seconds of the removal of a row on the panel, in the mean."""
        costs = self.costs
        assign = self.passes(costs.again) + self.trip(costs.frame + costs.part) + self.workers * costs.merge
        return self.off + self.trip(costs.row) - self.trip() + costs.on + costs.moved * assign

    @property
    def mean(self) -> float:
        """Seconds of the removal of a row at random, in the mean."""
        share = self.on_panel / self.n_rows
        return (1 - share) * self.off + share * self.on
