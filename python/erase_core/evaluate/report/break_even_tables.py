"""For each pair of peers, with how many queries for each removal which one is cheaper: by `measures.break_even`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from erase_core.evaluate.measures.break_even import PeerCosts, break_even
from erase_core.evaluate.report.figures import figure
from erase_core.evaluate.report.measured import Measured

__all__ = ["break_evens", "costs_of"]

SECONDS = "processor_seconds"


def costs_of(cells: Measured, name: str, batch: int) -> PeerCosts | None:
    """Return what a removal and a query of a peer cost, in processor seconds; None if it was not measured.

    Parameters
    ----------
    cells : Measured
    name : str
    batch : int
        1 for single removals, otherwise the number of examples that were forgotten together.
    """
    forget = cells.costs(name, lambda r: r["removals"] if batch == 1 else [r["forget"]], SECONDS)
    query = cells.costs(name, lambda r: r["query"]["warm"], SECONDS)
    return PeerCosts(tuple(forget), tuple(query), batch) if forget and query else None


def break_evens(cells: Measured, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the pairs of which each peer is cheaper for some number of queries, alone and in a batch.

    `certainty` is the share of resamples in which it is the same peer that is cheaper with few queries.
    """
    accuracy = {row["peer"]: row["accuracy"] for row in rows}
    found = []
    for batch in dict.fromkeys((1, len(cells.setting["forget set"]))):
        costs = {name: each for name in accuracy if (each := costs_of(cells, name, batch)) is not None}
        for first, second in combinations(costs, 2):
            result = break_even(costs[first], costs[second])
            if result.r is None:
                continue
            below, above = (first, second) if result.when == "below" else (second, first)
            n = min(len(costs[name].forget) for name in (first, second))
            found.append(
                {
                    "below": below,
                    "above": above,
                    "accuracy below": accuracy[below],
                    "accuracy above": accuracy[above],
                    "batch": batch,
                    "queries": figure(result.r, result.low, result.high, n),
                    "certainty": result.certainty if math.isfinite(result.certainty) else None,
                }
            )
    return found
