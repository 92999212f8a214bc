"""The results of docs/scale.md: tables of computed times, and how they compare with measured ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scale_times import GIB, Assumed, Costs, Simulation

WORKERS = (1, 2, 4, 8, 16, 32, 64, 100)
ROWS = (10**7, 10**8, 10**9, 10**10)
START, END = "<!-- measured by `make scale` -->", "<!-- end -->"


@dataclass(frozen=True)
class Check:
    """Measured times beside those of the simulation."""

    n_rows: int
    what: str
    measured: float
    simulated: float


def duration(seconds: float) -> str:
    """Return a time with two digits and a unit."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.995 * size or unit == "ms":
            number = seconds / size
            return f"{number:.0f} {unit}" if number >= 9.95 else f"{number:.1f} {unit}"
    raise AssertionError


def size(n_bytes: float) -> str:
    """Return an amount of memory in GiB."""
    gib = n_bytes / GIB
    return f"{gib:.0f} GiB" if gib >= 9.95 else f"{gib:.1f} GiB"


def power(n: int) -> str:
    """Return a number of rows as a power of ten, if it is one."""
    digits = len(str(n)) - 1
    return f"10^{digits}" if n == 10**digits else str(n)


def table(title: str, of: Callable[[Simulation], str], costs: Costs, assumed: Assumed) -> list[str]:
    """Return a table with a line for each number of rows and a column for each number of workers."""
    lines = [
        f"| {title} | " + " | ".join(f"{workers}" for workers in WORKERS) + " |",
        "|---" * (len(WORKERS) + 1) + "|",
    ]
    for n in ROWS:
        cells = [of(Simulation(costs, assumed, n, workers)) for workers in WORKERS]
        lines.append(f"| {power(n)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def time_of(of: Callable[[Simulation], float]) -> Callable[[Simulation], str]:
    """Return a time, in parentheses where the rows do not fit into the workers' memory."""
    return lambda simulated: duration(of(simulated)) if simulated.fits else f"({duration(of(simulated))})"


def page(costs: Costs, assumed: Assumed, found: Sequence[Check], settings: str) -> str:
    """Return what stands between the markers of docs/scale.md."""
    candidates = size(Simulation(costs, assumed, ROWS[-1], WORKERS[-1]).candidates)
    lines = [
        f"Measured: {settings}.",
        "",
        "| cost, one thread | |",
        "|---|---|",
        f"| a row, read from a file and taken in | {costs.load * 1e6:.2f} us |",
        f"| a row, in the search for the smallest places | {costs.smallest * 1e6:.2f} us |",
        f"| a row, assigned in a fit | {costs.assign * 1e6:.2f} us |",
        f"| a row, assigned anew after centres moved | {costs.again * 1e6:.2f} us |",
        f"| the coordinator's part of a fit | {duration(costs.panel_fit)} |",
        f"| each further candidate for the panel | {costs.candidate * 1e6:.2f} us |",
        f"| a removal off the panel, without engine | {duration(costs.off)} |",
        f"| the coordinator's part of a removal on the panel, mean | {duration(costs.on)} |",
        f"| share of removals on the panel that move centres | {costs.moved:.0%} |",
        f"| one call of the engine and its reply | {duration(costs.trip)} |",
        f"| each further call at the same time | {duration(costs.message)} |",
        f"| bytes of a row: in a shard, in a message, in a file | {costs.held}, {costs.row}, {costs.stored} |",
        f"| bytes of the centres, and of a shard's part | {costs.frame}, {costs.part} |",
        "",
        f"Assumed: the coordinator's connection carries {assumed.bandwidth / 1e9:.2f} GB/s, with "
        f"{assumed.latency * 1e3:.1f} ms there and back; each worker reads {assumed.disk / 1e6:.0f} MB/s from its disk "
        f"and has {size(assumed.memory)} for rows; the slowest worker takes {assumed.straggler:g} times as long as the "
        "others.",
        "",
        "## Fit",
        "",
        f"In parentheses: a worker would need more memory than {size(assumed.memory)}. See the next table.",
        "",
        *table("rows, by workers", time_of(lambda each: each.fit), costs, assumed),
        f"With {WORKERS[-1]} workers the coordinator needs {candidates} for the candidates of all.",
        "",
        f"If shards have ids that are not integers in separate ranges, they are compared: {compared(costs, assumed)}.",
        "",
        "## Memory of a worker",
        "",
        *table("rows, by workers", lambda each: size(each.memory), costs, assumed),
        "## A removal off the panel",
        "",
        "It does not depend on the number of rows.",
        "",
        "| workers | " + " | ".join(map(str, WORKERS)) + " |",
        "|---" * (len(WORKERS) + 1) + "|",
        "| time | " + " | ".join(duration(Simulation(costs, assumed, ROWS[0], each).off) for each in WORKERS) + " |",
        "",
        "## A removal on the panel, mean",
        "",
        *table("rows, by workers", time_of(lambda each: each.on), costs, assumed),
        f"One removal at random is of a row on the panel with the probability {costs.panel} / rows.",
        "",
        "## The mean of removals at random",
        "",
        *table("rows, by workers", time_of(lambda each: each.mean), costs, assumed),
        "## Against two workers here",
        "",
        "Two processes of dask with one thread each, and the coordinator, on this machine. The simulation assumes no "
        "network, no slower worker, and files that are in memory.",
        "",
        "| rows | what | measured | simulated | measured / simulated |",
        "|---|---|---|---|---|",
    ]
    for each in found:
        ratio = each.measured / each.simulated
        times = f"{duration(each.measured)} | {duration(each.simulated)}"
        lines.append(f"| {each.n_rows} | {each.what} | {times} | {ratio:.2f} |")
    return "\n".join([*lines, ""])


def compared(costs: Costs, assumed: Assumed) -> str:
    times = [f"{duration(Simulation(costs, assumed, n, 100).comparing)} for {power(n)} rows" for n in ROWS]
    return f"{', '.join(times[:-1])} and {times[-1]} more, with 100 workers"


def put_between(text: str, made: str) -> str:
    """Return a page with new text between its markers."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n{made}\n{END}{after}"
