"""Tables of the report: audits of fine-tuned models, extraction, and the worst case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from erase_core.evaluate.attacks.probes import PARAPHRASES, PROBES
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.report.figures import Figure, figure, of_costs
from erase_core.evaluate.report.forgetting_tables import retrains_of
from erase_core.evaluate.report.measured import Measured
from erase_core.evaluate.running.plan import BASE, DEAR

__all__ = ["audits_of", "dear_of", "extraction_of", "hard_of", "share"]

NORMAL = 1.959963984540054


def share(k: float, n: int) -> Figure:
    """Return a share of right answers, with Wilson's interval (Wilson, 1927)."""
    p, z = k / n, NORMAL
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not leave the ends of the range.
    low, high = 0.0 if k == 0 else (middle - half) / scale, 1.0 if k == n else (middle + half) / scale
    return figure(p, low, high, n)


def audits_of(entry: Entry, cells: Measured) -> list[dict[str, Any]]:
    """Return shares of right answers to forgotten questions in other words, and of a linear probe, in three worlds."""
    mine = cells.peer(entry.name).get(0, {}).get("audits", {})
    never = retrains_of(entry, cells).get(0, {}).get("audits", {})
    worlds = [each for each in (mine.get("before"), mine.get("after"), never.get("never")) if each is not None]
    if len(worlds) < 3:
        return []
    n = len(cells.setting["forget set"])
    rows = [
        _worlds(entry, name, [_answered(world["wordings"], kinds) for world in worlds])
        for name, kinds in (("paraphrases", PARAPHRASES), ("probes of the kinds of RWKU", PROBES))
    ]
    if all("linear probe" in world for world in worlds):
        rows.append(_worlds(entry, "linear probe", [share(world["linear probe"] * n, n) for world in worlds]))
    return rows


def _answered(wordings: Mapping[str, Sequence[bool]], kinds: Mapping[str, str]) -> Figure:
    right = [each for name in kinds for each in wordings[name]]
    return share(sum(right), len(right))


def _worlds(entry: Entry, name: str, shares: Sequence[Figure]) -> dict[str, Any]:
    return {"peer": entry.name, "audit": name, **dict(zip(("before", "after", "never had them"), shares, strict=True))}


def extraction_of(entry: Entry, cells: Measured) -> list[dict[str, Any]]:
    """Return how much of answers is decoded with the models before and after a removal, and with the second alone."""
    found = cells.peer(entry.name).get(0, {}).get("extraction", {})
    return [{"peer": entry.name, "examples": name, **each} for name, each in found.items()]


def dear_of(cells: Measured) -> list[dict[str, Any]]:
    """Return, for each kind of removals from ERASE's clustering, the mean and the worst of cost and changed prompt."""
    record = cells.worst(DEAR)
    return [
        {
            "strategy": row["strategy"],
            "kind": row["kind"],
            "ids": row["ids"],
            "requests": row["requests"],
            "milliseconds": 1000 * row["mean_seconds"],
            "worst milliseconds": 1000 * row["worst_seconds"],
            "changed": row["mean_change"],
            "worst changed": row["worst_change"],
        }
        for row in (record["removals"] if record else [])
    ]


def hard_of(cells: Measured) -> dict[str, Any] | None:
    """Return the loss after unlearning of a forget set that was searched for, and of sets at random."""
    record = cells.worst(BASE)
    if record is None:
        return None
    losses = record["hard"]["random"]
    return {
        "size": record["size"],
        "loss": record["hard"]["loss"],
        "random": of_costs(losses),
        "lowest random": min(losses),
    }
