"""FLAT: losses from f-divergences between a template answer and the forgotten one (Wang et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal, get_args

import torch

from erase_core.errors import ParameterError
from erase_core.evaluate.peers.approximate.frame import Objective, Removal, Steps, entry
from erase_core.examples.example import Example

__all__ = ["DIVERGENCES", "FLAT", "PEERS"]

Divergence = Literal["tv", "kl", "pearson", "js"]


def total_variation(wanted: torch.Tensor, unwanted: torch.Tensor) -> torch.Tensor:
    """Return (tanh P_f - tanh P_e) / 2."""
    return (torch.tanh(unwanted) - torch.tanh(wanted)) / 2


def kl(wanted: torch.Tensor, unwanted: torch.Tensor) -> torch.Tensor:
    """Return -P_e + exp(P_f - 1)."""
    return -wanted + torch.exp(unwanted - 1)


def pearson(wanted: torch.Tensor, unwanted: torch.Tensor) -> torch.Tensor:
    """Return -P_e + P_f + P_f^2 / 4."""
    return -wanted + unwanted + unwanted**2 / 4


def jensen_shannon(wanted: torch.Tensor, unwanted: torch.Tensor) -> torch.Tensor:
    """Return ln(1 + exp(-P_e)) + ln(1 + exp(P_f)) - 2 ln 2."""
    softplus = torch.nn.functional.softplus
    return softplus(-wanted) + softplus(unwanted) - 2 * log(2)


# Each takes P_e and P_f, the mean probabilities of the tokens of the template answer and of the forgotten answer.
DIVERGENCES: dict[Divergence, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "tv": total_variation,
    "kl": kl,
    "pearson": pearson,
    "js": jensen_shannon,
}


@dataclass(frozen=True)
class FLAT(Steps):
    """Minimises a variational f-divergence, by forgotten examples alone.

    Means are over the tokens of answers. The authors' code also counts the tokens that it masks out, as zeros.

    Parameters
    ----------
    divergence : {"tv", "kl", "pearson", "js"}, default="tv"
    answer : str, default="I don't know."
        The template answer.
    """

    divergence: Divergence = "tv"
    answer: str = "I don't know."

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            names = ", ".join(get_args(Divergence))
            raise ParameterError(f"divergence must be one of {names}, got {self.divergence!r}")

    def objective(self, removal: Removal) -> Objective:
        """Return the divergence's loss."""
        divergence = DIVERGENCES[self.divergence]
        return lambda forgotten, _: divergence(
            _probability(removal, [replace(each, output=self.answer) for each in forgotten]),
            _probability(removal, forgotten),
        )


def _probability(removal: Removal, examples: Sequence[Example]) -> torch.Tensor:
    """Return the mean over examples of the mean probability of their answers' tokens, shape ()."""
    encoded = removal.encode(examples)
    return torch.stack(
        [
            logits.softmax(-1).gather(1, torch.tensor(each.tokens[each.n_prompt :])[:, None]).mean()
            for logits, each in zip(removal.model.answer_logits(encoded), encoded, strict=True)
        ]
    ).mean()


PEERS = [
    entry(
        "flat",
        FLAT(),
        "Wang et al., LLM Unlearning via Loss Adjustment with Only Forget Data, ICLR 2025 (2410.11143), with "
        "total variation",
        "a LoRA adapter instead of all weights; one template answer instead of a list; masked tokens are left out of "
        "means, where the authors' code counts them as zeros; passes and rate are our own",
    )
]
