"""How well peers have forgotten: tables of the report, by `measures.distance` and `attacks` from the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from erase_core.evaluate.attacks.areas import Interval
from erase_core.evaluate.attacks.membership import compare_areas
from erase_core.evaluate.measures.distance import bits_equal, klom, margins, option_kl
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.report.figures import Figure, figure, of_costs
from erase_core.evaluate.report.measured import Answers, Measured, same_bits
from erase_core.evaluate.running.plan import BASE

__all__ = ["attacks_of", "distances_of", "retrains_of"]

PARTS = ("forgotten", "retained", "test")
# KLoM compares histograms of margins over models: with fewer, empty bins are all that it sees.
LEAST_MODELS = 4
# What is shown for distributions that are equal up to rounding.
LEAST_KL = 1e-12


def distances_of(entry: Entry, cells: Measured) -> list[dict[str, Any]]:
    """Return rows of the table of forgetting: a peer after it forgot, the same if it does nothing, and the floor.

    A row has, for each part, the mean over questions and over pairs of seeds of KL(retrain || peer) of the
    distributions over options. A pair has different seeds where there are several retrains: so the floor, of retrains
    among themselves, is what a perfect method would get. `equal` says whether the bits were compared, with the same
    seed, and equal.
    """
    fitted, fresh = cells.peer(entry.name), retrains_of(entry, cells)
    if not fitted or not fresh:
        return []
    never = {seed: record["scores"] for seed, record in fresh.items()}
    after = {seed: record["after"] for seed, record in fitted.items()}
    before = {seed: record["before"] for seed, record in fitted.items()}
    rows = [_row(entry, "after", after, never, cells)]
    if entry.after is None:
        rows.append(_row(entry, "nothing done", before, never, cells))
        if len(never) > 1:
            rows.append(_row(entry, "floor", never, never, cells))
    return rows


def retrains_of(entry: Entry, cells: Measured) -> dict[int, Any]:
    """Return the fits, by seed, of a world that never had the forgotten examples: what a peer should be like."""
    return cells.fresh(BASE if entry.after is not None else entry.name)


def _row(entry: Entry, state: str, ours: Mapping[int, Answers], never: Mapping[int, Answers], cells: Measured) -> Any:
    twins = [seed for seed in ours if seed in never] if ours is not never else []
    same = [same_bits(ours[seed], never[seed]) for seed in twins]
    return {
        "peer": entry.name,
        "state": state,
        "compared": len(twins),
        "equal": bool(same) and all(same),
        "pairs": len(_pairs(ours, never)),
        **{part: _kl(ours, never, part) for part in PARTS},
        **{f"KLoM {part}": _klom(ours, never, part, cells) for part in PARTS},
    }


def _pairs(ours: Mapping[int, Answers], never: Mapping[int, Answers]) -> list[tuple[int, int]]:
    """Return the pairs of seeds to compare: different ones where there are any."""
    different = [(s, t) for s in ours for t in never if s != t]
    return different or [(s, t) for s in ours for t in never]


def _kl(ours: Mapping[int, Answers], never: Mapping[int, Answers], part: str) -> Figure:
    pairs = [(np.array(never[t][part]), np.array(ours[s][part])) for s, t in _pairs(ours, never)]
    each = [option_kl(*pair) for pair in pairs]
    # The interval is over questions. Rounding can make a KL slightly negative, but 0 says that the bits are equal.
    least = 0.0 if all(bits_equal(*pair) for pair in pairs) else LEAST_KL
    by_question = np.maximum(np.mean(each, axis=0), least)
    found = of_costs(by_question.tolist())
    return figure(found["value"], found["low"], found["high"], by_question.size * len(each))


def _klom(ours: Mapping[int, Answers], never: Mapping[int, Answers], part: str, cells: Measured) -> Figure | None:
    labels = cells.setting["labels"][part]
    first = [margins(np.array(each[part]), labels) for each in ours.values()]
    second = [margins(np.array(each[part]), labels) for each in never.values()]
    if ours is never:  # the two halves of the retrains
        first, second = first[::2], first[1::2]
    if min(len(first), len(second)) < LEAST_MODELS:
        return None
    return of_costs(klom(np.array(first), np.array(second)).tolist())


def attacks_of(entry: Entry, cells: Measured) -> list[dict[str, Any]]:
    """Return rows of the table of attacks: the area before and after forgetting, and on the world that never had them.

    The members are the forgotten examples, the others test questions or held-out canaries, and the worlds those of the
    first seed. The loss attack follows from the scores of the right options; other attacks are in the cells where a
    peer's tokens can be read.
    """
    fitted, fresh = cells.peer(entry.name), retrains_of(entry, cells)
    shadows = cells.shadows(entry.name)
    lira = [] if shadows is None else [_lira(entry, shadows, 2 * len(cells.setting["forget set"]))]
    both = [seed for seed in fitted if seed in fresh]
    if not both:
        return lira
    mine, never = fitted[both[0]], fresh[both[0]]
    worlds = [mine["before"], mine["after"], never["scores"]]
    rows = [_attack(entry, "loss", [_right(each, cells) for each in worlds], cells)]
    for name in mine.get("attacks", {}).get("before", {}):
        found = [
            record.get("attacks", {}).get(state, {}).get(name)
            for record, state in ((mine, "before"), (mine, "after"), (never, "never"))
        ]
        if all(each is not None for each in found):
            rows.append(_attack(entry, name, found, cells))
    return rows + lira


def _lira(entry: Entry, record: Mapping[str, Any], n: int) -> dict[str, Any]:
    names = {"before": "before", "after": "after", "never had them": "target", "difference": "difference"}
    areas = {name: _of(Interval(**record[key]), n) for name, key in names.items()}
    return {"peer": entry.name, "attack": record["name"], **areas}


def _right(answers: Answers, cells: Measured) -> dict[str, list[float]]:
    """Return the score of the right option of the forgotten examples and of others, by default the test questions."""
    labels = cells.setting["labels"]
    parts = {"forgotten": "forgotten", "others": "others" if "others" in labels else "test"}
    return {
        name: [row[label] for row, label in zip(answers[part], labels[part], strict=True)]
        for name, part in parts.items()
    }


def _attack(entry: Entry, name: str, worlds: Sequence[Mapping[str, Sequence[float]]], cells: Measured) -> Any:
    is_member = [True] * len(worlds[0]["forgotten"]) + [False] * len(worlds[0]["others"])
    before, after, never = ([*world["forgotten"], *world["others"]] for world in worlds)
    result = compare_areas(name, before, after, never, is_member)
    n = len(is_member)
    return {
        "peer": entry.name,
        "attack": name,
        "before": _of(result.before, n),
        "after": _of(result.after, n),
        "never had them": _of(result.target, n),
        "difference": _of(result.difference, n),
    }


def _of(found: Interval, n: int) -> Figure:
    return figure(found.value, found.low, found.high, n)
