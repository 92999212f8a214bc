"""Extraction of forgotten text from a model before and after it forgot (RMG: "Breaking the Gold Standard", 2505.24379).

The attacker has both models, and decodes from log p_after + w (log p_before - log p_after): what the removal made less
likely becomes likely again. If nothing changed, the second term is exactly 0, so the attack decodes as from the model
after the removal. The paper's filter of unlikely tokens is left out. It begins, as there, with the first part of the
text; here that is half of the question's tokens, or the whole question if only the answer is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.attacks.log_probabilities import ReadsTokens
from erase_core.examples.example import Example

__all__ = ["Extraction", "common_share", "decode", "extract", "guided"]

Floats = NDArray[np.float64]
WEIGHT = 2.0


def guided(before: Floats, after: Floats, weight: float = WEIGHT) -> Floats:
    """Return log p_after + weight (log p_before - log p_after). It is `after` to the bit if both are equal."""
    return after + weight * (before - after)


def decode(
    before: ReadsTokens,
    after: ReadsTokens,
    prefixes: tuple[Sequence[int], Sequence[int]],
    n_tokens: int,
    weight: float = WEIGHT,
) -> list[int]:
    """Return the most likely tokens, one by one.

    Parameters
    ----------
    before, after : ReadsTokens
    prefixes : two sequences of int
        The tokens before the first one, for each model: they may show different demonstrations.
    n_tokens : int
    weight : float, default=2.0
        0 decodes from `after`, 1 from `before`.
    """
    made: list[int] = []
    for _ in range(n_tokens):
        ours, theirs = (
            model.next_logprobs([*prefix, *made]) for model, prefix in zip((before, after), prefixes, strict=True)
        )
        made.append(int(guided(ours, theirs, weight).argmax()))
    return made


def common_share(made: Sequence[int], truth: Sequence[int]) -> float:
    """Return the length of the longest common subsequence over that of the truth (the recall of ROUGE-L)."""
    lengths = [0] * (len(made) + 1)
    for token in truth:
        diagonal = 0
        for place, other in enumerate(made, 1):
            diagonal, lengths[place] = (
                lengths[place],
                diagonal + 1 if token == other else max(lengths[place], lengths[place - 1]),
            )
    return lengths[-1] / len(truth)


@dataclass(frozen=True, slots=True)
class Extraction:
    """How much of the forgotten text was decoded, as a mean over examples.

    Parameters
    ----------
    guided : float
        `common_share` of what the pair of models gives.
    after_alone : float
        That of the model after the removal alone. The attack gains what `guided` is above it.
    same_text : float
        Share of the examples whose text was decoded completely by the pair.
    """

    guided: float
    after_alone: float
    same_text: float


def extract(
    before: ReadsTokens,
    after: ReadsTokens,
    examples: Sequence[Example],
    *,
    part: Literal["answer", "text"] = "answer",
    weight: float = WEIGHT,
) -> Extraction:
    """Decode forgotten examples from a pair of models. Run it on examples that nobody had, too, as the target.

    Parameters
    ----------
    before, after : ReadsTokens
    examples : sequence of Example
        One or more.
    part : {"answer", "text"}, default="answer"
        What is looked for: the answer after the question, or what follows the first half of the question's tokens.
    weight : float, default=2.0
    """
    shares, alone, same = [], [], []
    for example in examples:
        ours, theirs = before.tokens(example), after.tokens(example)
        # The two prompts may differ, but end with the same tokens.
        n_truth = len(theirs.tokens) - theirs.answer
        if part == "text":
            n_truth += (theirs.answer - theirs.question + 1) // 2
        truth = theirs.tokens[-n_truth:]
        prefixes = ours.tokens[:-n_truth], theirs.tokens[:-n_truth]
        made = decode(before, after, prefixes, len(truth), weight)
        shares.append(common_share(made, truth))
        same.append(made == truth)
        alone.append(common_share(decode(after, after, (prefixes[1], prefixes[1]), len(truth), 0.0), truth))
    return Extraction(float(np.mean(shares)), float(np.mean(alone)), float(np.mean(same)))
