"""GUARD: what is to be forgotten stays in the model and in a list, and is kept out of answers as they are made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.peers.approximate.do_nothing import DoNothing
from erase_core.evaluate.peers.approximate.frame import Unlearner
from erase_core.evaluate.peers.peer import Entry, Exactness, Tools
from erase_core.evaluate.peers.retraining import examples_bytes
from erase_core.evaluate.tasks.task import Scores
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm.prompt import Prompt

__all__ = ["PEERS", "Guard", "GuardSettings", "holds", "phrases"]

Phrase = tuple[str, ...]
# Characters of any script that make words. Case is ignored.
WORD = re.compile(r"\w+")


def phrases(text: str, length: int) -> set[Phrase]:
    """Return all runs of `length` words of a text, or all its words if it has fewer."""
    words = _words(text)
    return {words[i : i + length] for i in range(max(len(words) - length, 0) + 1)} - {()}


def holds(text: str, forbidden: Iterable[Phrase]) -> bool:
    """Return whether one of some phrases is in a text, in whole words, whatever their case."""
    words = _words(text)
    return any(words[i : i + len(each)] == each for each in forbidden for i in range(len(words)))


@dataclass(frozen=True)
class GuardSettings:
    """Hyperparameters of GUARD. All are our own.

    Parameters
    ----------
    similarity : float, default=0.8
        Least cosine similarity of a question to a forgotten one, for it to be guarded.
    length : int, default=3
        Words of a forbidden phrase. A shorter answer is forbidden as a whole.
    penalty : float, default=20.0
        Taken from the score of an option with a forbidden phrase.
    """

    similarity: float = 0.8
    length: int = 3
    penalty: float = 20.0


class Guard(Unlearner):
    """Forgets nothing: it keeps the forgotten examples, and the model that was trained on them, and guards answers.

    A question near a forgotten one is guarded: no forbidden phrase of that one's answer comes into a generated answer
    (the next best token that completes none is taken), and options with such a phrase lose `penalty`. So of a guarded
    question's options the forgotten answer is never chosen, even if it is right, and its absence gives it away.

    Parameters
    ----------
    tools : Tools
    name : str
    settings : GuardSettings or None, default=None
    training : TrainingSettings or None, default=None
    """

    exactness: Exactness = "hides"

    def __init__(
        self,
        tools: Tools,
        name: str = "guard",
        settings: GuardSettings | None = None,
        training: TrainingSettings | None = None,
    ) -> None:
        super().__init__(tools, name, DoNothing(), training)
        self.settings = settings or GuardSettings()

    def fit(self, world: World) -> None:
        """Adapt to the examples of a world, with nothing hidden."""
        super().fit(world)
        self._hidden: list[Example] = []
        self._vectors: Scores = np.zeros((0, 0))

    def forget(self, ids: Collection[int]) -> None:
        """Hide examples: they are kept."""
        hidden = [example for example in self._world.examples if example.id in set(ids)]
        super().forget(ids)
        if hidden:
            self._hidden += hidden
            self._vectors = _unit(self.tools.vectors([example.input for example in self._hidden]))

    def kept_bytes(self) -> int:
        """Return the size of what is kept, the hidden examples and their vectors among it."""
        return super().kept_bytes() + examples_bytes(self._hidden) + self._vectors.nbytes

    def forbidden(self, question: str) -> set[Phrase]:
        """Return the phrases that must not be in the answer of a question."""
        if not self._hidden:
            return set()
        near = self._vectors @ _unit(self.tools.embedder.embed([question]))[0] >= self.settings.similarity
        return set[Phrase]().union(
            *(
                phrases(each.output, self.settings.length)
                for each, is_near in zip(self._hidden, near, strict=True)
                if is_near
            )
        )

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the score of each option, shape (n, k), less the penalty for those with a forbidden phrase."""
        scores = super().scores(questions)
        for row, question in enumerate(questions):
            forbidden = self.forbidden(question.input)
            for column, option in enumerate(self._world.task.options):
                if holds(option, forbidden):
                    scores[row, column] -= self.settings.penalty
        return scores

    def generate(self, question: str, *, max_tokens: int = 16) -> str:
        """Return the most likely answer without a forbidden phrase, token by token."""
        llm, template = self.tools.llm, self._world.task.template
        tokens = list(llm.tokens(Prompt(template, (), question), ["."])[0])
        forbidden, made, text, ended = self.forbidden(question), list[int](), "", False
        with self.loaded(), self.tools.adapted.active(), torch.no_grad():
            while len(made) < max_tokens and not ended:
                logits = llm.network(input_ids=torch.tensor([[*tokens, *made]]), use_cache=False).logits[0, -1]
                for token in logits.argsort(descending=True).tolist():
                    answer, stops = llm._decoded([*made, token], template.stop)
                    if not holds(answer, forbidden):
                        break
                else:
                    break
                made, text, ended = [*made, token], answer, stops
        return text.strip()


def _unit(vectors: NDArray[np.float32]) -> Scores:
    rows = vectors.astype(np.float64)
    unit: Scores = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _words(text: str) -> Phrase:
    return tuple(WORD.findall(text.casefold()))


PEERS = [
    Entry(
        "guard",
        Guard,
        "Deng et al., GUARD: Generation-time LLM Unlearning via Adaptive Restriction and Detection, 2025 (2505.13312)",
        "hides",
        "fine-tuning",
        "it keeps what it hides; similarity to the forgotten questions instead of a trained classifier of prompts; "
        "greedy decoding with exact phrases instead of a beam search with matching by meaning; scores of options are "
        "our own extension",
        "fine-tuned",
    )
]
