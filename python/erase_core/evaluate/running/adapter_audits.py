"""Audits of one fine-tuned model: forgotten questions in other words, a linear probe, and extraction from a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erase_core.evaluate.attacks.extraction import extract
from erase_core.evaluate.attacks.linear_probe import hidden_states, probe_accuracy
from erase_core.evaluate.attacks.log_probabilities import AdaptedTokens
from erase_core.evaluate.attacks.probes import PARAPHRASES, PROBES, reworded
from erase_core.evaluate.peers.peer import Peer, Tools
from erase_core.evaluate.running.peer_tokens import reading
from erase_core.evaluate.running.setup import Setup
from erase_core.examples.example import Example

__all__ = ["audited", "extracted"]

# Forgotten examples that are asked about in other words, and decoded.
ASKED = 4
# Retained examples that the linear probe is fitted to.
FITTED = 32


def audited(peer: Peer, tools: Tools, setup: Setup) -> dict[str, Any]:
    """Return whether forgotten questions in other words are answered rightly, and the accuracy of a linear probe."""
    task, asked = setup.task, setup.parts["forgotten"][:ASKED]
    labels = task.labels(asked)
    right = {}
    for name, wording in (PARAPHRASES | PROBES).items():
        scores = peer.scores(reworded(asked, wording, task.options))
        right[name] = (scores.argmax(axis=1) == labels).tolist()
    gone = set(setup.forgotten)
    kept = [example for example in task.pool if example.id not in gone][:FITTED]
    with reading(peer, tools, task):
        states = [hidden_states(tools.llm, task.template, part) for part in (kept, setup.parts["forgotten"])]
    found = {"wordings": right}
    if len(set(task.labels(kept).tolist())) < 2:
        return found
    probed = task.labels(setup.parts["forgotten"])
    return found | {"linear probe": probe_accuracy(states[0], task.labels(kept), states[1], probed)}


def extracted(before: Any, after: Any, tools: Tools, setup: Setup) -> dict[str, dict[str, float]]:
    """Return how much of the answers of forgotten examples two adapters give away, and of examples nobody had.

    Parameters
    ----------
    before, after : State
    tools, setup
    """
    pair = [AdaptedTokens(tools.adapted, state, setup.task.template) for state in (before, after)]
    parts: dict[str, Sequence[Example]] = {
        "forgotten": setup.parts["forgotten"][:ASKED],
        "nobody's": setup.parts["test"][:ASKED],
    }
    found = {name: extract(pair[0], pair[1], asked) for name, asked in parts.items()}
    return {
        name: {
            "guided": each.guided,
            "after alone": each.after_alone,
            "same text": each.same_text,
        }
        for name, each in found.items()
    }
