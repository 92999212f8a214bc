"""What a run measures: its sizes, its cells (a peer with a seed), in which order, and about how long they take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from erase_core import checks
from erase_core.errors import ParameterError
from erase_core.evaluate.peers.peer import Entry

__all__ = ["BASE", "DEAR", "Cell", "Pace", "Record", "Sizes", "cells_of", "ready", "seconds_of"]

# "peer": fitted to all examples, then made to forget. "fresh": fitted to a world that never had the forgotten ones.
# "worst": what an adversary can do. "shadows": an attack with models of other worlds.
What = Literal["peer", "fresh", "worst", "shadows"]
# What is written of a cell.
Record = dict[str, Any]
# The peer whose retraining is what approximate peers are compared to.
BASE = "fine-tuned"
# The peer whose dearest removals are searched for.
DEAR = "erase"
# For estimates only, from what cells took: how many warm queries of `none` it takes to ask a peer one question, attacks
# included; of those that are not named, the first number, or the second for prompts.
ASKED, SHOWN = 1.5, 3.0
QUERY = {"none": 1.5, "knn": 6.5, "ranker": 6.5, "windows": 6.5, "routed": 5.0, "sisa-2": 2.5, "sisa-4": 4.5}
# Examples that the search for a hard forget set trains on, all steps together.
SEARCHED = 400
# How many times the work of a fit an approximate peer is; of those that are not named, the first number.
APPROXIMATE, UNLEARNING = 0.5, {"iau": 4.3, "dmm": 2.0}
# How many times a model is trained on all examples by a fit, and by all removals of a cell. Those that are 0 have the
# checkpoints of another peer.
FITS = {
    "s3t": (3.5, 3.5),
    "s3t-2": (3.5, 3.5),
    "fine-tuned-seta": (1.5, 3.0),
    "sisa-2": (1.0, 1.5),
    "sisa-4": (1.0, 1.2),
    "sisa-1-sliced": (1.0, 1.7),
    "sisa-4-sliced": (1.0, 1.1),
    "sisa-4-majority": (0.0, 0.0),
    "sisa-2-strike": (0.0, 0.0),
    "sisa-4-strike": (0.0, 0.0),
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Parameters
    ----------
    seeds : int, default=3
        Fits of a peer that is not trained.
    trained_seeds : int, default=1
        Fits of a peer whose language model is trained.
    retrains : int, default=3
        Fine-tuned models that never had the forgotten examples: their distances among themselves are the floor.
    retained : int, default=12
        Examples that are kept, and asked about beside the forgotten ones.
    removals : int, default=8
        Single removals whose cost is measured.
    trained_removals : int, default=1
        The same of a peer whose language model is trained.
    shadows : int, default=4
        Shadow worlds of an attack on ERASE and on the fine-tuned model: an even number from 4 on, or 0 for no attack.
    tune : bool, default=False
        Whether approximate peers choose their settings on another forget set before.
    """

    seeds: int = 3
    trained_seeds: int = 1
    retrains: int = 3
    retained: int = 12
    removals: int = 8
    trained_removals: int = 1
    shadows: int = 4
    tune: bool = False

    def __post_init__(self) -> None:
        for name in ("seeds", "trained_seeds", "retrains", "retained", "removals", "trained_removals"):
            checks.integer(name, getattr(self, name), 1, 10_000)
        if checks.integer("shadows", self.shadows, 0, 10_000) % 2 or self.shadows == 2:
            raise ParameterError(f"shadows must be 0, or an even number from 4 on, got {self.shadows}")

    def seeds_of(self, entry: Entry) -> int:
        """Return the number of fits of a peer."""
        return self.trained_seeds if entry.kind == "fine-tuning" else self.seeds

    def removals_of(self, entry: Entry) -> int:
        """Return the number of single removals that are measured of a peer with a seed."""
        return self.trained_removals if entry.kind == "fine-tuning" else self.removals


class Cell(NamedTuple):
    """A piece of work whose result is written before the next one begins."""

    what: What
    peer: str
    seed: int

    @property
    def name(self) -> str:
        """Its name, also that of its file."""
        return f"{self.what}-{self.peer}-{self.seed}"

    def __str__(self) -> str:
        world = {
            "peer": "",
            "fresh": ", without the forgotten examples",
            "worst": ", the worst case",
            "shadows": ", shadow worlds",
        }[self.what]
        return f"{self.peer}, seed {self.seed}{world}"


def cells_of(entries: Sequence[Entry], sizes: Sizes) -> list[Cell]:
    """Return all cells, in the order in which they begin if nothing else decides: first seeds come first.

    A peer that is compared bit for bit has a fresh fit for each seed. Approximate peers share those of `BASE`.
    """
    cells = []
    for entry in sorted(entries, key=lambda e: 0 if e.name == BASE else 2 if e.kind == "fine-tuning" else 1):
        n = sizes.seeds_of(entry)
        fresh = max(n, sizes.retrains) if entry.name == BASE else n if entry.after is None else 0
        cells += [Cell("peer", entry.name, seed) for seed in range(n)]
        cells += [Cell("fresh", entry.name, seed) for seed in range(fresh)]
        if entry.name in (BASE, DEAR):
            cells.append(Cell("worst", entry.name, 0))
            cells += [Cell("shadows", entry.name, 0)] if sizes.shadows else []
    return sorted(cells, key=lambda cell: cell.seed)


def ready(cell: Cell, open_cells: Collection[Cell], entries: Mapping[str, Entry]) -> bool:
    """Whether nothing that a cell builds on is still open: two processes then train nothing twice.

    A peer that starts from another's state waits for it. Fits that share a checkpoint wait for the first of them.
    """
    entry = entries[cell.peer]
    if entry.kind != "fine-tuning":
        return True
    first = {Cell("peer", entry.after or BASE, cell.seed), Cell("peer", cell.peer, cell.seed)}
    if cell == Cell("peer", BASE, cell.seed):
        return True
    siblings = {name for name in entries if cell.peer.startswith(f"{name}-")}
    first |= {Cell(what, name, cell.seed) for what in ("peer", cell.what) for name in (BASE, *siblings)}
    return not (first - {cell}) & set(open_cells)


class Pace(NamedTuple):
    """Processor seconds of a query without demonstrations, and of training on one example."""

    query: float
    trained_example: float


def seconds_of(
    cell: Cell, entry: Entry, pace: Pace, n_pool: int, n_questions: int, passes: int, recorded: Mapping[str, float]
) -> float:
    """Return an estimate of a cell's processor time: what another seed took, or by its queries and training.

    Parameters
    ----------
    cell, entry, pace
    n_pool, n_questions : int
        Examples of a fit; questions that are asked at once.
    passes : int
        Of training.
    recorded : mapping of str to float
        Mean processor seconds of finished cells, by kind and peer: ``"peer-knn"``.
    """
    known = recorded.get(f"{cell.what}-{cell.peer}")
    if known is not None:
        return known
    if cell.what == "worst":
        return SEARCHED * pace.trained_example if entry.kind == "fine-tuning" else 2.0
    if cell.what == "shadows":
        fits = 5 if entry.kind == "fine-tuning" else 0
        return fits * n_pool * passes * pace.trained_example + SHOWN * n_questions * pace.query
    fit, removals = FITS.get(cell.peer, (1.0, 2.0))
    if entry.kind in ("classifier", "index"):
        return 1.0
    usual = SHOWN if entry.kind == "prompt" else ASKED
    asked = n_questions * pace.query * QUERY.get(cell.peer, usual)
    training = n_pool * passes * pace.trained_example
    if entry.kind != "fine-tuning":
        return asked * (1 if cell.what == "fresh" else 2)
    if cell.what == "fresh":
        return asked + fit * training
    if entry.after:
        return 2 * asked + UNLEARNING.get(cell.peer, APPROXIMATE) * training
    return 2 * asked + (fit + removals) * training


def entries_by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return entries by their names."""
    return {entry.name: entry for entry in entries}
