"""Log-probabilities of tokens: what attacks see of a peer, and the small protocol for it.

A peer that answers by a prompt and one that was fine-tuned are read by the same function: the network as it is, with
the demonstrations that the peer shows. Windows are not read here: demonstrations are read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from erase_core.errors import PromptTooLongError
from erase_core.evaluate.measures.cost import count_tokens_of
from erase_core.examples.example import Example
from erase_core.llm.prompt import Prompt, Template
from erase_core.llm.transformers import TransformersLLM

if TYPE_CHECKING:
    from erase_core.evaluate.adapters.adapted_model import AdaptedModel, State

__all__ = ["AdaptedTokens", "ExampleTokens", "Part", "PromptedTokens", "ReadsTokens", "TokenLogProbs", "token_logprobs"]

Floats = NDArray[np.float64]
# "answer": the tokens of the output. "text": those of the question too.
Part = Literal["answer", "text"]
Demonstrations = Callable[[Example], Sequence[Example]]


class TokenLogProbs(NamedTuple):
    """What a model thinks of the tokens of an example.

    Parameters
    ----------
    lp : ndarray of shape (n_tokens,)
        Log-probability of each token after those before it.
    mu, sigma : ndarray of shape (n_tokens,)
        Mean and standard deviation of the log-probability of a token that is drawn from the model at this place.
    """

    lp: Floats
    mu: Floats
    sigma: Floats


class ExampleTokens(NamedTuple):
    """The tokens of an example as a model reads it, after instruction and demonstrations.

    Parameters
    ----------
    tokens : list of int
        All of them.
    question, answer : int
        The place of the first token of the question (with its prefix), and of the answer.
    """

    tokens: list[int]
    question: int
    answer: int


class ReadsTokens(Protocol):
    """A model whose log-probabilities an attack can read. Peers may have it, too."""

    def token_logprobs(self, examples: Sequence[Example], part: Part = "answer") -> list[TokenLogProbs]:
        """Return the log-probabilities of the tokens of each example."""

    def tokens(self, example: Example) -> ExampleTokens:
        """Return the tokens of an example."""

    def next_logprobs(self, tokens: Sequence[int]) -> Floats:
        """Return the log-probability of each token of the vocabulary after some tokens."""


class PromptedTokens:
    """A language model with demonstrations.

    Parameters
    ----------
    llm : TransformersLLM
    template : Template
    demonstrations : callable or None, default=None
        Returns what is shown with a question. None: nothing is shown.
    """

    def __init__(self, llm: TransformersLLM, template: Template, demonstrations: Demonstrations | None = None) -> None:
        self.llm, self.template = llm, template
        self.demonstrations: Demonstrations = demonstrations or (lambda _: ())

    def token_logprobs(self, examples: Sequence[Example], part: Part = "answer") -> list[TokenLogProbs]:
        """Return the log-probabilities of the tokens of each example. Errors are those of the function."""
        return [token_logprobs(self.llm, self._prompt(example), example.output, part) for example in examples]

    def tokens(self, example: Example) -> ExampleTokens:
        """Return the tokens of an example, after its demonstrations."""
        return example_tokens(self.llm, self._prompt(example), example.output)

    def next_logprobs(self, tokens: Sequence[int]) -> Floats:
        """Return the log-probability of each token of the vocabulary after some tokens, shape (vocabulary,)."""
        rows = _log_probabilities(self.llm, list(tokens), len(tokens))
        return np.asarray(rows[0])

    def _prompt(self, example: Example) -> Prompt:
        return Prompt(self.template, tuple(self.demonstrations(example)), example.input)


class AdaptedTokens:
    """A language model with a trained adapter, which is loaded whenever it is read.

    Parameters
    ----------
    model : AdaptedModel
    state : dict of str to tensor
        The adapter's weights.
    template : Template
    """

    def __init__(self, model: AdaptedModel, state: State, template: Template) -> None:
        self.model, self.state = model, state
        self._plain = PromptedTokens(model.llm, template)

    def token_logprobs(self, examples: Sequence[Example], part: Part = "answer") -> list[TokenLogProbs]:
        """Return the log-probabilities of the tokens of each example. Errors are those of the function."""
        with self._loaded():
            return self._plain.token_logprobs(examples, part)

    def tokens(self, example: Example) -> ExampleTokens:
        """Return the tokens of an example."""
        return self._plain.tokens(example)

    def next_logprobs(self, tokens: Sequence[int]) -> Floats:
        """Return the log-probability of each token of the vocabulary after some tokens, shape (vocabulary,)."""
        with self._loaded():
            return self._plain.next_logprobs(tokens)

    @contextmanager
    def _loaded(self) -> Iterator[None]:
        kept = self.model.state()
        self.model.load(self.state)
        try:
            with self.model.active():
                yield
        finally:
            self.model.load(kept)


def token_logprobs(llm: TransformersLLM, prompt: Prompt, output: str, part: Part = "answer") -> TokenLogProbs:
    """Return what a model thinks of the answer to a prompt, or of question and answer.

    Parameters
    ----------
    llm : TransformersLLM
    prompt : Prompt
        With demonstrations, if there are any. They are read one after the other.
    output : str
        The answer.
    part : {"answer", "text"}, default="answer"
        With "text", the question's tokens count too. The first token of all has nothing before it and is left out.

    Raises
    ------
    PromptTooLongError
        Prompt and answer do not fit into the context.
    """
    read = example_tokens(llm, prompt, output)
    first = max(read.question if part == "text" else read.answer, 1)
    rows = _log_probabilities(llm, read.tokens[:-1], first)
    lp: Floats = rows[np.arange(len(rows)), read.tokens[first:]]
    share = np.exp(rows)
    mu: Floats = np.sum(share * rows, axis=1)
    # The squares of the distances from the mean, not the difference of two large sums.
    sigma: Floats = np.sqrt(np.sum(share * (rows - mu[:, None]) ** 2, axis=1))
    return TokenLogProbs(lp, mu, sigma)


def example_tokens(llm: TransformersLLM, prompt: Prompt, output: str) -> ExampleTokens:
    """Return the tokens of a prompt with its answer."""
    before, (answer,) = llm.tokens(prompt, [output])
    # Where the question begins: as far back as the tokens are those of the question alone.
    alone = Template(**{**prompt.template.to_dict(), "instruction": ""})
    question = llm.tokens(Prompt(alone, (), prompt.query), [output])[0]
    return ExampleTokens([*before, *answer], len(before) - _common_end(before, question), len(before))


def _common_end(first: Sequence[int], second: Sequence[int]) -> int:
    for length, (a, b) in enumerate(zip(reversed(first), reversed(second), strict=False)):
        if a != b:
            return length
    return min(len(first), len(second))


def _log_probabilities(llm: TransformersLLM, tokens: list[int], first: int) -> Floats:
    """Return the log-probabilities of tokens at the place `first`, and at each place up to the one after the last."""
    if llm.context_length is not None and len(tokens) > llm.context_length:
        raise PromptTooLongError(
            f"the prompt with its answer has {len(tokens)} tokens, but the model's context has {llm.context_length}. "
            "Show fewer demonstrations."
        )
    count_tokens_of(llm.network)
    with torch.no_grad():
        fed = torch.tensor([tokens], device=llm.network.device)
        logits = llm.network(input_ids=fed, use_cache=False).logits[0, first - 1 :].double()
        rows: Floats = torch.log_softmax(logits, dim=-1).cpu().numpy()
    return rows
