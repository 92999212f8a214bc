"""The protocol of language models, and the argument checks that all implementations share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from erase_core.checks import integer, is_unordered
from erase_core.errors import ParameterError, PromptTooLongError
from erase_core.examples.example import counted, unstorable

if TYPE_CHECKING:
    from erase_core.llm.prompt import Context, Prompt

__all__ = ["LLM", "Answer", "Choice", "FoundBy"]

FoundBy = Literal["scoring", "constraint", "logprobs", "text"]

MAX_TOKENS = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer.

    Attributes
    ----------
    text : str
        The answer, cut at the template's stop, without space around it.
    n_prompt_tokens : int
        Number of tokens of the prompt.
    n_tokens : int
        Number of generated tokens.
    seconds : float
        Wall-clock time of the call.
    cut_off : bool, default=False
        Whether `max_tokens` ended the answer, so that its rest is missing.
    """

    text: str
    n_prompt_tokens: int
    n_tokens: int
    seconds: float
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The most likely of several given answers.

    Attributes
    ----------
    option : str
        The option with the highest score. On a tie, the first one.
    scores : dict of str to float
        The score of each option; higher is better. `found_by` says how scores are defined. Scores of different choices
        cannot be compared.
    seconds : float
        Wall-clock time of the call.
    found_by : {"scoring", "constraint", "logprobs", "text"}, default="scoring"
        How the option was found, which defines the scores:

        - "scoring": the model scored each option. The score is the mean log-probability per token.
        - "constraint": the answer of the server was constrained to the options. The score is 1.0 for the chosen option,
          0.0 for the others.
        - "logprobs": each option was given a letter. The score is the log-probability of the letter as the first token
          of the answer. A letter that the server does not return gets the lowest value that it returns.
        - "text": the server answered freely with an option. The score is 1.0 for that option, 0.0 for the others.
    calibrated : bool, default=False
        Whether the log of each option's mean probability over inputs without content, after the same prompt, was
        subtracted from its score (Zhao et al., ICML 2021). See `Settings`.
    bounded : tuple of str, default=()
        The options whose score is only an upper bound, since the server did not return their letter. If there are any,
        after the query or after an input without content, the choice is not calibrated.
    """

    option: str
    scores: dict[str, float]
    seconds: float
    found_by: FoundBy = "scoring"
    calibrated: bool = False
    bounded: tuple[str, ...] = ()


class LLM(Protocol):
    """The protocol of language models. Methods may be called from several threads.

    A model may also have:

    - an attribute `control_tokens`: the strings that its tokenizer reads as control tokens. A store that refuses
      control tokens then refuses these, too;
    - an attribute `contexts`: the values of a prompt's `context` that it can read. Without it: only "joint";
    - a method ``forget_examples(ids)``: overwrite and drop everything kept of prompts that showed one of these
      examples. Without it, `forget` is called instead, so the next query is computed anew.
    """

    @property
    def name(self) -> str:
        """Name of the model, including a hash of its weights or the address of its server."""

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and answer together; None if unknown."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Return the number of tokens of a prompt, or an estimate that is rarely too low."""

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        """Return the model's answer: always the same one, as far as the model allows."""

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Return the option that the model prefers."""

    def forget(self) -> None:
        """Overwrite and drop everything kept of earlier prompts."""


def context_for(llm: LLM, context: Context) -> Context:
    """Return how a language model reads demonstrations: "windows" for "auto" if it can, otherwise "joint"."""
    if context != "auto":
        return context
    return "windows" if "windows" in contexts_of(llm) else "joint"


def contexts_of(llm: LLM) -> tuple[Context, ...]:
    """Return how a language model can read demonstrations."""
    return tuple(getattr(llm, "contexts", ("joint",)))


def check_options(options: object, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return the checked options of a choice: strings, all different and not blank, and at least one unless allowed."""
    if isinstance(options, (str, bytes)) or not isinstance(options, Iterable):
        raise ParameterError(f"options must be a sequence of strings, got {type(options).__name__}")
    if is_unordered(options):  # on a tie of scores, the first option is chosen
        raise ParameterError(
            f"options must have an order, got a {type(options).__name__}, which has none. Give a list."
        )
    checked = tuple(options)
    if not checked and not may_be_empty:
        raise ParameterError("options must have at least 1 string, got none")
    for place, option in enumerate(checked):
        if not isinstance(option, str) or not option.strip():
            raise ParameterError(f"options must be strings that are not blank, got {option!r} at position {place}")
        if reason := unstorable(option):
            raise ParameterError(
                f"options must be text that can be tokenised, but the one at position {place} {reason}"
            )
        if option in checked[:place]:
            raise ParameterError(f"options must be unique, got {option!r} twice")
    return checked


def check_max_tokens(max_tokens: object) -> int:
    """Return the checked `max_tokens` of an answer."""
    return integer("max_tokens", max_tokens, 1, MAX_TOKENS)


def check_room(n_prompt: int, n_answer: int, context_length: int | None) -> None:
    """Refuse a prompt that leaves no room for its answer."""
    if context_length is not None and n_prompt + n_answer > context_length:
        raise PromptTooLongError(
            f"the prompt has {counted(n_prompt, 'token')} and the answer may have {n_answer}, together more than the "
            f"model's context of {context_length}. Use fewer or shorter demonstrations, or a smaller max_tokens."
        )
