"""Chat templates: render messages to text, and separate the text of the template from that of the messages.

The template is rendered twice: with the messages, and with a placeholder for each message. The second rendering shows
which text belongs to the template, whatever the messages contain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from erase_core.errors import LLMError
from erase_core.examples.control_tokens import written_markers
from erase_core.tokenizing import Part, Written

__all__ = ["Chat", "template_text"]

Messages = list[dict[str, str]]

# White space that no template contains. It shows whether a template strips messages.
EDGE = "\u2003"
STAND_IN = re.compile(rf"({EDGE}?)erasecoremessage(\d{{6}})end({EDGE}?)")

WHY_NO_WINDOWS = "its chat template writes a demonstration in another way if other messages come before or after it"


class Chat:
    """The chat template of a tokenizer.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    name : str
        Name of the model, for messages.

    Raises
    ------
    LLMError
        The tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        template = getattr(tokenizer, "chat_template", None)
        if not template:
            raise LLMError(f"{name} has no chat template. Use the model without chat.")
        self.source = template_text(template)

    def written(self, messages: Messages, *, answer: bool) -> Written:
        """Return the rendered messages; with `answer`, including the beginning of the model's reply.

        A system message is trusted text of the template; all other messages are given text: see `Part`.

        Raises
        ------
        LLMError
            The template refuses the messages.
        """
        if not messages:
            return Written("", [])
        text = self._render(messages, answer)
        stand_ins = [
            {**message, "content": f"{EDGE}erasecoremessage{place:06}end{EDGE}"} if _is_given(message) else message
            for place, message in enumerate(messages)
        ]
        frame = self._render(stand_ins, answer)
        found = {int(each[2]) for each in STAND_IN.finditer(frame)}
        is_complete = found == {place for place, message in enumerate(messages) if _is_given(message)}
        return Written(text, list(_parts(frame, messages)), is_complete)

    def windows(
        self, head: Messages, windows: Sequence[Messages], query: str
    ) -> tuple[Written, list[Written], Written]:
        """Return the rendered head, windows and query, each without what comes before it.

        Each is written as in a chat in which a question follows it. See `why_no_windows`.

        Parameters
        ----------
        head : list of dict
            The system message, if there is one.
        windows : sequence of lists of dict
            Two messages each, of the user and the assistant.
        query : str

        Raises
        ------
        LLMError
            The template refuses the messages, or its windows cannot be told apart.
        """
        asked = self.written([*head, *_question(query)], answer=True)
        before, turn = asked.parts[0].text, ""
        followed = [self.written([*head, *window, *_question("?")], answer=False) for window in windows]
        if followed:
            # What ends a turn is in the window, and what begins the next one in what follows, if it can be told apart.
            end = self.written([*head, *windows[0]], answer=False).parts[-1].text
            if len(followed[0].parts) < 3 or not (asked.is_complete and followed[0].is_complete):
                raise LLMError(self._without_windows())
            turn = followed[0].parts[-3].text.removeprefix(end)
            turn = turn if before.endswith(turn) else ""
            before = before.removesuffix(turn)
        return (
            Written.of([Part(before, given=False)] if before else []),
            [self._after(before, self._ended(each, turn)) for each in followed],
            self._after(before, asked),
        )

    @cached_property
    def why_no_windows(self) -> str:
        """Why demonstrations cannot be windows: they are not the words of the chat. Empty if they can."""
        shown = [[*_question(ask), {"role": "assistant", "content": answer}] for ask, answer in ("ab", "cd")]
        for head in ([], [{"role": "system", "content": "s"}]):
            try:
                whole = self.written([*head, *chain.from_iterable(shown), *_question("e")], answer=True).text
            except LLMError:  # many templates take no system message
                continue
            try:
                first, each, query = self.windows(head, shown, "e")
            except LLMError:
                return WHY_NO_WINDOWS
            if whole != "".join(part.text for part in (first, *each, query)):
                return WHY_NO_WINDOWS
        return ""

    def _ended(self, followed: Written, turn: str) -> Written:
        """Return a rendered text without the question at its end and what begins its turn."""
        *parts, last, question, end = followed.parts
        tail = turn + question.text + end.text
        if not (last.text.endswith(turn) and followed.text.endswith(tail)):
            raise LLMError(self._without_windows())
        parts.append(Part(last.text.removesuffix(turn), given=False))
        return Written(followed.text.removesuffix(tail), parts, followed.is_complete)

    def _after(self, before: str, written: Written) -> Written:
        first, *parts = written.parts
        if not (first.text.startswith(before) and written.text.startswith(before)):
            raise LLMError(self._without_windows())
        text = written.text[len(before) :]
        return Written(text, [Part(first.text[len(before) :], given=False), *parts], written.is_complete)

    def _without_windows(self) -> str:
        return f'{self._name} cannot read windows: {WHY_NO_WINDOWS}. Use context="joint", or the model without chat.'

    def check(self, written: Sequence[Written], control: Collection[str]) -> None:
        """Refuse given texts that contain a turn marker of the template that is plain text for the tokenizer.

        Raises
        ------
        LLMError
            A given text contains such a marker.
        """
        parts = [part for each in written for part in each.parts]
        ours = "\n".join(dict.fromkeys(part.text for part in parts if not part.given))
        for text in dict.fromkeys(part.text for part in parts if part.given):
            for marker in written_markers(text):
                if marker in ours and marker not in control:
                    raise LLMError(
                        f"the chat template of {self._name} uses {marker!r}, which is not a token of its tokenizer, "
                        "and an example, the query or an option contains it, too. Remove it, refuse such texts with "
                        'on_control_tokens="refuse", or use the model without chat.'
                    )

    def _render(self, messages: Messages, answer: bool) -> str:
        from jinja2 import TemplateError

        try:
            made = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
        except TemplateError as error:
            raise LLMError(
                f"the chat template of {self._name} refuses the prompt ({error}). Use the model without chat, or "
                "without an instruction."
            ) from None
        return str(made)


def template_text(template: str | dict[str, str] | None) -> str:
    """Return the source of all chat templates of a tokenizer; empty if it has none."""
    return "\n".join(template.values()) if isinstance(template, dict) else template or ""


def _question(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def _is_given(message: dict[str, str]) -> bool:
    return message["role"] != "system"


def _parts(rendered: str, messages: Messages) -> Iterator[Part]:
    end = 0
    for found in STAND_IN.finditer(rendered):
        yield Part(rendered[end : found.start()], given=False)
        left, place, right = found.groups()
        text = messages[int(place)]["content"]
        yield Part(_stripped(text, left=not left, right=not right), given=True)
        end = found.end()
    yield Part(rendered[end:], given=False)


def _stripped(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text
