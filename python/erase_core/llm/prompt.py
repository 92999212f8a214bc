"""Prompts: a query with its demonstrations, as text and as chat messages for a language model.

Pure functions of their arguments. Choosing and ordering demonstrations is left to `erase_core.selection`, counting
tokens to the language models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Literal, get_args

from erase_core import checks
from erase_core.errors import ParameterError, PromptTooLongError
from erase_core.examples.example import Example, counted, unstorable
from erase_core.notebook import Table, html
from erase_core.tokenizing import Part

__all__ = ["Context", "Prompt", "Template", "check_query", "fit_budget"]

Context = Literal["auto", "joint", "windows"]


@dataclass(frozen=True, slots=True)
class Template:
    r"""The constant texts of a prompt.

    Parameters
    ----------
    instruction : str, default=""
        Text at the beginning of the prompt.
    input_prefix : str, default="Q: "
        Before each input.
    output_prefix : str, default="A: "
        Before each output, on a new line: ``"A: "`` and ``"\nA: "`` have the same effect. Spaces and tabs at its end
        become one space before an answer, and are dropped at the end of the prompt.
    separator : str, default="\n\n"
        Between instruction, demonstrations and query.
    stop : str, default="\n"
        Text at which an answer ends. If answers have several lines, use a text that none of them contains: ``"\n\n"``,
        or ``"###"`` if they contain blank lines.

    Raises
    ------
    ParameterError
        A text is not a string, cannot be tokenised, or `stop` is empty.
    """

    instruction: str = ""
    input_prefix: str = "Q: "
    output_prefix: str = "A: "
    separator: str = "\n\n"
    stop: str = "\n"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _check_text(f"{name} of the template", value)
        if not self.stop:
            raise ParameterError("stop of the template must not be empty, since every answer would end immediately")

    def to_dict(self) -> dict[str, str]:
        """Return the texts as a dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, texts: Mapping[str, str]) -> Template:
        """Return a template with the given texts, and the default for all others.

        Raises
        ------
        ParameterError
            `texts` is not a mapping, or has a name that a template does not have.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(texts, Mapping):
            raise ParameterError(f"template must be a mapping of names to texts, got {type(texts).__name__}")
        unknown = [name for name in texts if name not in names]
        if unknown:
            raise ParameterError(f"template must have only the names {', '.join(names)}, got {unknown[0]!r}")
        return cls(**texts)


@dataclass(frozen=True, slots=True)
class Prompt:
    r"""A prompt: demonstrations and a query.

    Parameters
    ----------
    template : Template
    demonstrations : tuple of Example
        In the order in which they are shown.
    query : str
        The question to be answered.
    context : {"auto", "joint", "windows"}, default="joint"
        How a language model reads the demonstrations. "joint": one after the other, as `text` has them. "windows": each
        by itself, all at the same positions, and the query sees them all (Ratner et al., Parallel Context Windows, ACL
        2023). Only `TransformersLLM` can read windows, with most models. "auto": windows if the model can read them.

    Raises
    ------
    ParameterError
        The query is empty or cannot be tokenised, the demonstrations are a set, which has no order, or `context` is
        neither of these.

    Examples
    --------
    >>> from erase_core.examples.example import Example
    >>> Prompt(Template(), (Example(1, "Is ice cold?", "yes"),), "Is fire cold?").text
    'Q: Is ice cold?\nA: yes\n\nQ: Is fire cold?\nA:'
    """

    template: Template
    demonstrations: tuple[Example, ...]
    query: str
    context: Context = "joint"

    def __post_init__(self) -> None:
        _check_order(self.demonstrations)
        # A list could be changed after a model has read the prompt.
        object.__setattr__(self, "demonstrations", tuple(self.demonstrations))
        checks.choice("context", self.context, get_args(Context))
        check_query(self.query)

    @property
    def shared(self) -> str:
        """The part that all queries share: up to the end of the last demonstration.

        The separator after it belongs to the query's part: tokenizers tend to split before white space, not after it.
        """
        return "".join(part.text for part in self.shared_parts)

    @property
    def text(self) -> str:
        """The whole prompt as text. An answer continues it after one space."""
        return "".join(part.text for part in self.parts)

    @property
    def shared_parts(self) -> list[Part]:
        """The parts of `shared`: texts of the template, and given texts of the demonstrations."""
        instruction = self.template.instruction
        parts = [Part(instruction, given=False)] if instruction else []
        for example in self.demonstrations:
            if parts:
                parts.append(self._separator)
            parts += self._demonstration(example)
        return parts

    @property
    def parts(self) -> list[Part]:
        """The parts of `text`: texts of the template, and given texts of the demonstrations and the query."""
        shared = self.shared_parts
        return [*shared, *([self._separator] if shared else []), *self.query_parts]

    @property
    def head_parts(self) -> list[Part]:
        """The parts before all windows: the instruction."""
        instruction = self.template.instruction
        return [Part(instruction, given=False), self._separator] if instruction else []

    @property
    def window_parts(self) -> list[list[Part]]:
        """The parts of each demonstration, if it is a window of its own."""
        return [[*self._demonstration(example), self._separator] for example in self.demonstrations]

    @property
    def query_parts(self) -> list[Part]:
        """The parts after all windows: the query."""
        return self._question(self.query)

    @property
    def shared_messages(self) -> list[dict[str, str]]:
        """The messages before the query: the instruction as system message, then the demonstrations as turns."""
        return [*self.head_messages, *chain.from_iterable(self.window_messages)]

    @property
    def head_messages(self) -> list[dict[str, str]]:
        """The instruction as a system message, if there is one."""
        instruction = self.template.instruction
        return [{"role": "system", "content": instruction}] if instruction else []

    @property
    def window_messages(self) -> list[list[dict[str, str]]]:
        """The two messages of each demonstration."""
        return [
            [{"role": "user", "content": example.input}, {"role": "assistant", "content": _answer(example)}]
            for example in self.demonstrations
        ]

    @property
    def messages(self) -> list[dict[str, str]]:
        """The whole prompt as chat messages with role and content. They do not contain the prefixes."""
        return [*self.shared_messages, {"role": "user", "content": self.query}]

    @property
    def n_cut_answers(self) -> int:
        """Number of demonstrations whose answer contains the template's stop, at which a model's answer is cut."""
        return sum(self.template.stop in _answer(example).strip() for example in self.demonstrations)

    def _repr_html_(self) -> str:
        """Return the demonstrations and the text for notebooks, which then keep them."""
        shown = self.demonstrations
        names = [each.name for each in fields(Example) if any(getattr(one, each.name) is not None for one in shown)]
        rows = [[getattr(example, name) for name in names] for example in shown]
        title = f"Prompt with {counted(len(shown), 'demonstration')}"
        values = {"query": self.query, "context": self.context}
        return html(title, values, [Table("Demonstrations", names, rows)], self.text)

    @property
    def _separator(self) -> Part:
        return Part(self.template.separator, given=False)

    def _demonstration(self, example: Example) -> list[Part]:
        return [*self._question(example.input), Part(" ", given=False), Part(_answer(example), given=True)]

    def _question(self, text: str) -> list[Part]:
        prefix = self.template.output_prefix.rstrip(" \t")
        line_break = "" if prefix.lstrip(" \t").startswith("\n") else "\n"
        before, after = self.template.input_prefix, f"{line_break}{prefix}"
        return [Part(before, given=False), Part(text, given=True), Part(after, given=False)]


def fit_budget(
    prompt: Prompt,
    max_tokens: int,
    count: Callable[[Prompt], int],
    *,
    keep: Literal["first", "last"] = "first",
) -> Prompt:
    """Return a prompt with as many of its demonstrations as fit into a number of tokens.

    Parameters
    ----------
    prompt : Prompt
        Its context is not "auto".
    max_tokens : int
        Most tokens of the prompt, at least 1.
    count : callable
        Returns the number of tokens of a prompt.
    keep : {"first", "last"}, default="first"
        Which demonstrations to keep. Others are dropped from the other end. Windows are beside one another, so each
        that fits is kept.

    Raises
    ------
    PromptTooLongError
        The prompt does not fit even without demonstrations.
    ParameterError
        `max_tokens` is not a positive integer.
    """
    checks.integer("max_tokens", max_tokens, 1, 2**31 - 1)
    tokens = count(prompt)
    if tokens <= max_tokens:
        return prompt
    shown, most = prompt.demonstrations, len(prompt.demonstrations) - 1
    if prompt.context == "windows":
        shown = tuple(each for each in shown if count(replace(prompt, demonstrations=(each,))) <= max_tokens)
        most = len(shown)
    for kept in range(most, -1, -1):
        chosen = shown[:kept] if keep == "first" else shown[len(shown) - kept :]
        fitting = replace(prompt, demonstrations=chosen)
        tokens = count(fitting)
        if tokens <= max_tokens:
            return fitting
    are = "is" if max_tokens == 1 else "are"
    raise PromptTooLongError(
        f"the prompt has {counted(tokens, 'token')} without any demonstration, but at most {max_tokens} {are} allowed. "
        "Shorten the query or the template's instruction."
    )


def _answer(example: Example) -> str:
    if example.rationale is None:
        return example.output
    return f"{example.rationale} So the answer is {example.output}"


def check_query(query: object) -> None:
    """Check that a query is text with more than white space.

    Raises
    ------
    ParameterError
    """
    _check_text("query", query)
    if isinstance(query, str) and not query.strip():
        raise ParameterError("query must contain more than white space")


def _check_order(demonstrations: object) -> None:
    if checks.is_unordered(demonstrations):
        raise ParameterError(
            f"demonstrations must have an order, got a {type(demonstrations).__name__}, which has none. Give a list."
        )


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ParameterError(f"{name} must be text, got {type(value).__name__}")
    reason = unstorable(value)
    if reason:
        raise ParameterError(f"{name} {reason}. Remove it.")
