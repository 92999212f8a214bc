"""What the finished cells of an evaluation say: all figures of the page, as one object that can be written as JSON.

Nothing is measured here. Each figure has the number of measurements behind it, and an interval if there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.report.audit_tables import audits_of, dear_of, extraction_of, hard_of
from erase_core.evaluate.report.break_even_tables import break_evens
from erase_core.evaluate.report.figures import Figure, figure, of_correct, of_costs
from erase_core.evaluate.report.forgetting_tables import attacks_of, distances_of
from erase_core.evaluate.report.measured import Measured, same_bits
from erase_core.evaluate.running.folder import Folder
from erase_core.evaluate.running.plan import Record
from erase_core.evaluate.tasks.task import Scale

__all__ = ["report_of"]


def report_of(folder: Folder, entries: Sequence[Entry], lines: Callable[[Entry], int]) -> dict[str, Any]:
    """Return all figures.

    Parameters
    ----------
    folder : Folder
    entries : sequence of Entry
        All that there are. Those without a cell are in the table of peers alone.
    lines : callable
        Returns the lines of code of a peer.
    """
    setting, records = folder.setting(), folder.records()
    cells = Measured(setting, records)
    there = [entry for entry in entries if entry.name in cells.names()]
    rows = [row for entry in there if (row := _row(entry, cells)) is not None]
    return {
        "run": _run(setting, records),
        "peers": [_peer(entry, cells, lines) for entry in entries],
        "rows": rows,
        "break even": break_evens(cells, rows),
        "forgetting": [each for entry in there for each in distances_of(entry, cells)],
        "attacks": [each for entry in there for each in attacks_of(entry, cells)],
        "audits": [each for entry in there for each in audits_of(entry, cells)],
        "extraction": [each for entry in there for each in extraction_of(entry, cells)],
        "dear removals": dear_of(cells),
        "hard set": hard_of(cells),
    }


def _run(setting: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    kept = {name: value for name, value in setting.items() if name not in ("labels", "forget set", "format")}
    return {
        **kept,
        "forgotten": len(setting["forget set"]),
        "processors": sorted({record["processor"] for record in records}),
        "cells": len(records),
        "failed": sum(record["status"] != "measured" for record in records),
        "processor_minutes": sum(record["processor_seconds"] for record in records) / 60,
    }


def _peer(entry: Entry, cells: Measured, lines: Callable[[Entry], int]) -> dict[str, Any]:
    """Return what the table of peers says: `compared` counts the seeds whose bits were compared and were equal."""
    fitted, fresh = cells.peer(entry.name), cells.fresh(entry.name)
    both = [seed for seed in fitted if seed in fresh]
    equal = sum(same_bits(fitted[seed]["after"], fresh[seed]["scores"]) for seed in both)
    return {
        "peer": entry.name,
        "kind": entry.kind,
        "exactness": entry.exactness,
        "starts from": entry.after,
        "compared": len(both),
        "equal": equal,
        "seeds": len(fitted),
        "tuned": [record["tuned"] for record in fitted.values() if "tuned" in record],
        "lines": lines(entry),
        "source": entry.source,
        "not reproduced": entry.not_reproduced,
        "failed": cells.failed.get(entry.name),
    }


def _row(entry: Entry, cells: Measured) -> dict[str, Any] | None:
    """Return accuracy and costs of a peer; None if no cell of it was measured."""
    if not cells.peer(entry.name):
        return None
    name = entry.name
    scale = Scale(*cells.setting["scale"])

    def cost(of: Callable[[Record], Sequence[Mapping[str, float]]], field: str = "processor_seconds") -> Figure | None:
        values = cells.costs(name, of, field)
        return of_costs(values) if values else None

    def largest(of: Callable[[Record], Sequence[Mapping[str, float]]]) -> Figure | None:
        values = cells.costs(name, of, "processor_seconds")
        return largest_of(values) if values else None

    kept = [record["kept_bytes"] / 2**20 for record in cells.peer(name).values()]
    return {
        "peer": name,
        "kind": entry.kind,
        "exactness": entry.exactness,
        "accuracy": of_correct(cells.correct(name, "before", "test")),
        "score": of_correct(cells.correct(name, "before", "test"), scale),
        "score after": of_correct(cells.correct(name, "after", "test"), scale),
        "accuracy after": of_correct(cells.correct(name, "after", "test")),
        **{
            f"accuracy of {part} {state}": of_correct(cells.correct(name, state, part))
            for part in ("forgotten", "retained")
            for state in ("before", "after")
        },
        "fit": cost(lambda r: [r["fit"]]),
        "fit tokens forward": cost(lambda r: [r["fit"]], "tokens_forward"),
        "fit tokens backward": cost(lambda r: [r["fit"]], "tokens_backward"),
        "query cold": cost(lambda r: [r["query"]["cold"]]),
        "query warm": cost(lambda r: r["query"]["warm"]),
        "query tokens": cost(lambda r: r["query"]["warm"], "tokens_forward"),
        "removal": cost(lambda r: r["removals"]),
        "removal worst": largest(lambda r: r["removals"]),
        "removal tokens forward": cost(lambda r: r["removals"], "tokens_forward"),
        "removal tokens backward": cost(lambda r: r["removals"], "tokens_backward"),
        "batch": cost(lambda r: [r["forget"]]),
        "peak MB": largest_of([r["fit"]["peak_bytes"] / 2**20 for r in cells.peer(name).values()]),
        "kept MB": of_costs(kept),
    }


def largest_of(values: Sequence[float]) -> Figure:
    """Return the largest of some measurements."""
    return figure(max(values), n=len(values))
