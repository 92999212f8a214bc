"""What a language model does for the layers above, and the checks of arguments that every implementation shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from erase_core.checks import integer, is_unordered
from erase_core.errors import ParameterError, PromptTooLongError
from erase_core.examples.example import counted, unstorable

if TYPE_CHECKING:
    from erase_core.llm.prompt import Prompt

__all__ = ["LLM", "Answer", "Choice", "FoundBy"]

FoundBy = Literal["scoring", "constraint", "logprobs", "text"]

MAX_TOKENS = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer.

    Attributes
    ----------
    text : str
        The answer, cut at the template's stop string, without space around it.
    n_prompt_tokens : int
        Tokens of the prompt.
    n_tokens : int
        Tokens generated.
    seconds : float
        Wall time of the call.
    cut_off : bool, default=False
        Whether `max_tokens` ended it, so that the rest is missing.
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
        The option with the highest score, the first of them on a tie.
    scores : dict of str to float
        One number for every option, the higher the better; `found_by` says what it is. Compare scores within a choice
        only.
    seconds : float
        Wall time of the call.
    found_by : {"scoring", "constraint", "logprobs", "text"}, default="scoring"
        How the option was found, and so what the scores are:

        - "scoring": each option was scored by the model; its mean log-probability a token.
        - "constraint": the server was to answer with nothing but an option; 1.0 for that one, 0.0 for the others.
        - "logprobs": the options were given letters; the log-probability of an option's letter as the first token of
          the answer. For a letter that the server does not list it is the least value that it does.
        - "text": the server answered freely, with the option itself; 1.0 for that one, 0.0 for the others.
    """

    option: str
    scores: dict[str, float]
    seconds: float
    found_by: FoundBy = "scoring"


class LLM(Protocol):
    """A language model that answers prompts. Its methods may be called from several threads.

    It may have an attribute `control_tokens`: the strings that its tokenizer does not take as text. A store that
    refuses control tokens looks for these, too.
    """

    @property
    def name(self) -> str:
        """Name of the model, with what tells its weights or its server from others of that name."""

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and answer together; None if not known."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Return the number of tokens of a prompt, or an estimate that is rather too high."""

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Answer:
        """Return the model's answer, the same one each time as far as the model allows."""

    def choose(self, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Return the option that the model prefers."""

    def forget(self) -> None:
        """Overwrite and drop what was kept of earlier prompts."""


def check_options(options: object) -> tuple[str, ...]:
    """Return the options of a choice, checked: one or more strings, no two the same, none blank."""
    if isinstance(options, (str, bytes)) or not isinstance(options, Iterable):
        raise ParameterError(f"options must be a sequence of strings, got {type(options).__name__}")
    if is_unordered(options):  # of options that score the same the first one is chosen
        raise ParameterError(
            f"options must be in an order, got a {type(options).__name__}, which has none; give a list"
        )
    checked = tuple(options)
    if not checked:
        raise ParameterError("options must have at least 1 string, got none")
    for place, option in enumerate(checked):
        if not isinstance(option, str) or not option.strip():
            raise ParameterError(f"options must be strings that are not blank, got {option!r} at place {place}")
        if reason := unstorable(option):
            raise ParameterError(f"options must be text that a tokenizer takes, but the one at place {place} {reason}")
        if option in checked[:place]:
            raise ParameterError(f"options must be unique, got {option!r} twice")
    return checked


def check_max_tokens(max_tokens: object) -> int:
    """Return the bound of an answer's tokens."""
    return integer("max_tokens", max_tokens, 1, MAX_TOKENS)


def check_room(n_prompt: int, n_answer: int, context_length: int | None) -> None:
    """Refuse a prompt that leaves no room for its answer."""
    if context_length is not None and n_prompt + n_answer > context_length:
        raise PromptTooLongError(
            f"the prompt has {counted(n_prompt, 'token')} and the answer may have {n_answer}, together more than the "
            f"model's context of {context_length}: use fewer or shorter demonstrations, or fewer tokens for the answer"
        )
