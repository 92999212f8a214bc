"""Measures one cell: what a peer costs, how it scores, before and after it was made to forget.

What is written has no text: scores, costs and counts. All that is said of it is computed by the folder `report`.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from erase_core.errors import EraseError, first_line
from erase_core.evaluate.attacks.membership import ATTACKS
from erase_core.evaluate.measures.cost import measured
from erase_core.evaluate.peers.approximate.frame import Unlearner
from erase_core.evaluate.peers.approximate.tuning import tune
from erase_core.evaluate.peers.peer import Entry, Peer, Tools, cool, warm
from erase_core.evaluate.running.adapter_audits import audited, extracted
from erase_core.evaluate.running.adversaries import attack_with_shadows, hard_forget_set, worst_removals
from erase_core.evaluate.running.peer_tokens import adapter_of, reading
from erase_core.evaluate.running.plan import DEAR, Cell, Record
from erase_core.evaluate.running.setup import Setup

__all__ = ["measure"]

# Examples among which a hard forget set is searched for.
CANDIDATES = 32
# The scores of each part, one row for each question.
Scores = dict[str, list[list[float]]]


def measure(cell: Cell, entry: Entry, setup: Setup, base: Mapping[str, Any] | None = None) -> Record:
    """Measure a cell. If the peer cannot do what it is asked, the record says why.

    Parameters
    ----------
    cell, entry, setup
    base : mapping, optional
        The record of the peer that this one starts from: it has the answers of the state before forgetting.
    """
    start = time.process_time()
    record: Record = {"what": cell.what, "peer": cell.peer, "seed": cell.seed}
    try:
        found = {"peer": _forgetting, "fresh": _fresh, "worst": _worst, "shadows": _shadows}[cell.what](
            cell, entry, setup, base
        )
        record |= {"status": "measured", **found}
    except Exception as error:
        if os.environ.get("ERASE_DEBUG"):
            raise
        record |= {"status": "failed", "why": _why(error)}
    return record | {"processor_seconds": time.process_time() - start, "processor": processor()}


def processor() -> str:
    """Return the name of the processor, on which processor seconds depend."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _fresh(cell: Cell, entry: Entry, setup: Setup, base: Mapping[str, Any] | None) -> Record:
    tools = setup.tools(entry, fresh=True)
    peer = entry.make(tools)
    with measured() as meter:
        peer.fit(setup.world(cell.seed).without(setup.forgotten))
    scores, _ = _asked(peer, tools, setup)
    record = {"fit": asdict(meter.cost), "scores": scores, "attacks": {"never": attack_scores(peer, tools, setup)}}
    if _is_audited(cell, peer):
        record["audits"] = {"never": audited(peer, tools, setup)}
    return record


def _forgetting(cell: Cell, entry: Entry, setup: Setup, base: Mapping[str, Any] | None) -> Record:
    tools = setup.tools(entry, fresh=False)
    peer = entry.make(tools)
    tuned = _tuned(peer, setup, cell.seed) if setup.sizes.tune and isinstance(peer, Unlearner) else {}
    with measured() as meter:
        peer.fit(setup.world(cell.seed))
    record: Record = tuned | {"fit": asdict(meter.cost), "kept_bytes": peer.kept_bytes()}
    audits = _is_audited(cell, peer)
    if base is None:
        record["before"], record["query"] = _asked(peer, tools, setup)
        record["attacks"] = {"before": attack_scores(peer, tools, setup)}
        if audits:
            record["audits"] = {"before": audited(peer, tools, setup)}
    else:
        shared = ("before", "attacks", "audits")
        record |= {"before": base["before"]} | {
            name: {"before": base[name]["before"]} for name in shared[1:] if name in base
        }
    state = adapter_of(peer)
    with measured() as meter:
        peer.forget(setup.forgotten)
    record["forget"] = asdict(meter.cost)
    record["after"], queries = _asked(peer, tools, setup)
    record.setdefault("query", queries)
    record["attacks"]["after"] = attack_scores(peer, tools, setup)
    if audits:
        record.setdefault("audits", {})["after"] = audited(peer, tools, setup)
        left = adapter_of(peer)
        if state is not None and left is not None:
            record["extraction"] = extracted(state, left, tools, setup)
    record["removals"] = _removals(peer, setup, setup.sizes.removals_of(entry), cell.seed)
    return record


def _tuned(peer: Unlearner, setup: Setup, seed: int) -> Record:
    """Choose a peer's settings on a forget set that it is not judged on, and return what was chosen."""
    n = len(setup.forgotten)
    found = tune(peer, setup.world(seed), n, judged=setup.forgotten)
    return {"tuned": {"rule": repr(found.rule), "tried": len(found.tried), "cost": asdict(found.cost)}}


def _worst(cell: Cell, entry: Entry, setup: Setup, base: Mapping[str, Any] | None) -> Record:
    tools, world = setup.tools(entry, fresh=False), setup.world(cell.seed)
    if cell.peer == DEAR:
        return {"removals": worst_removals(tools, world)}
    # As large a part of the candidates as the forget set is of the pool.
    size = max(1, round(CANDIDATES * len(setup.forgotten) / len(setup.ids)))
    return {"size": size, "hard": hard_forget_set(tools, world, size, n_candidates=CANDIDATES)}


def _shadows(cell: Cell, entry: Entry, setup: Setup, base: Mapping[str, Any] | None) -> Record:
    """Return LiRA's areas. As many examples as are forgotten are left out of the world, to compare the members to."""
    kept = [id_ for id_ in setup.ids if id_ not in set(setup.forgotten)]
    left_out = np.random.default_rng([cell.seed, 2]).permutation(kept)[: len(setup.forgotten)].tolist()
    world = setup.world(cell.seed).without(left_out)
    tools = setup.tools(entry, fresh=False)
    return asdict(attack_with_shadows(entry, tools, world, setup.forgotten, n_worlds=setup.sizes.shadows))


def _is_audited(cell: Cell, peer: Peer) -> bool:
    """Whether a peer is one fine-tuned model: audits ask it a lot, so they are made with the first seed alone."""
    return cell.seed == 0 and (hasattr(peer, "loaded") or hasattr(peer, "state"))


def _asked(peer: Peer, tools: Tools, setup: Setup) -> tuple[Scores, Record]:
    """Return the scores of all parts, and the cost of the first query and of each later one about the test questions.

    The model has dropped all that it had read before, so scores depend on the peer alone, to the last bit. After the
    first query the peer reads again what it had read in its fit.
    """
    cool(peer, tools)
    costs: list[dict[str, Any]] = []
    rows: list[list[float]] = []
    for question in setup.parts["test"]:
        with measured() as meter:
            rows += peer.scores([question]).tolist()
        if not costs:
            warm(peer)
        costs.append(asdict(meter.cost))
    others = {name: peer.scores(asked).tolist() for name, asked in setup.parts.items() if name != "test"}
    return {"test": rows, **others}, {"cold": costs[0], "warm": costs[1:]}


def attack_scores(peer: Peer, tools: Tools, setup: Setup) -> dict[str, dict[str, list[float]]]:
    """Return what each attack that reads tokens gives to the forgotten examples and to as many others.

    Empty if no single model of the peer reads tokens, or if it reads its prompts in another way than attacks do.
    """
    others = setup.parts.get("others", setup.parts["test"])[: len(setup.forgotten)]
    asked = {"forgotten": setup.parts["forgotten"], "others": others}
    with reading(peer, tools, setup.task) as reader:
        if reader is None:
            return {}
        tokens = {name: reader.token_logprobs(part) for name, part in asked.items()}
    return {
        attack: {
            name: [score(each, example.output) for each, example in zip(tokens[name], asked[name], strict=True)]
            for name in asked
        }
        for attack, score in ATTACKS.items()
        if attack != "loss"  # it follows from the scores
    }


def _removals(peer: Peer, setup: Setup, n: int, seed: int) -> list[dict[str, Any]]:
    """Return the costs of single removals, one after the other, after the forget set has gone."""
    left = [example.id for example in setup.task.pool if example.id not in set(setup.forgotten)]
    drawn = np.random.default_rng([seed, 1]).permutation(len(left))[: min(n, len(left) - 1)].tolist()
    costs = []
    for place in drawn:
        with measured() as meter:
            peer.forget([left[place]])
        costs.append(asdict(meter.cost))
    return costs


def _why(error: Exception) -> str:
    """Return what went wrong, without any text of an example: other packages' messages are left out."""
    if isinstance(error, EraseError):
        return first_line(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
