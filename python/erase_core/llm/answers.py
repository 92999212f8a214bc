"""Parses the body of a model server's reply: the answer without the model's thoughts, or why there is no answer.

Pure functions of the body. The format is OpenAI's chat completions with the extensions of other servers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

__all__ = ["Reply", "cleaned", "one_line", "read_reply", "without_thoughts"]

CUT_OFF = {"length", "max_tokens", "model_length"}
FILTERED = {"content_filter", "safety", "prohibited_content"}
TOOLS = {"tool_calls", "function_call"}
# Fields in which servers put thoughts that they separate from the answer.
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
THOUGHT_PARTS = {"thinking", "reasoning", "redacted_thinking"}
# Markers that models put around thoughts: tags, also those of Gemma, Cohere and OpenThinker, and those that gpt-oss
# puts around its channels.
NAMES = r"(?:[a-z]+[_:])?think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad|inner_monologue"
OPENING = re.compile(
    rf"<(?:{NAMES})(?:\s[^<>]*)?>|\[THINK\]|◁think▷|<unused94>(?:thought\b)?|<\|channel>thought\b|"
    r"<\|(?:start_thinking|begin_of_thought|begin_thought|think|thinking)\|>|<\|channel\|>analysis<\|message\|>",
    re.IGNORECASE,
)
CLOSING = re.compile(
    rf"</(?:{NAMES})\s*>|\[/THINK\]|◁/think▷|<unused95>|<channel\|>|"
    r"<\|(?:end_thinking|end_of_thought|end_thought|/think|/thinking)\|>|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
# Markers that may surround the answer after thoughts. The closing one is missing if the answer is cut off.
ANSWER = re.compile(
    r"\s*(?:<(?:answer|output|response)>|<\|(?:start_response|begin_of_solution)\|>)(.*?)"
    r"(?:</(?:answer|output|response)>|<\|(?:end_response|end_of_solution)\|>)?\s*|(.*?)\s*(?:<\|(?:return|end)\|>)\s*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """The parsed reply of a server.

    Attributes
    ----------
    text : str
        The answer without thoughts and without space around it; empty if there is none.
    problem : str or None
        Why there is no answer, if the server says so: for example, the model refused or asked for a tool.
    cut_off : bool
        Whether the limit of tokens ended the answer.
    reason : str
        Why the answer ended: the server's `finish_reason`. Empty if the server gives none.
    thought : bool
        Whether the reply contains thoughts.
    n_prompt, n_answer : int or None
        Numbers of tokens as counted by the server.
    first_token : dict of str to float
        Log-probabilities of the candidates for the first token; empty if the server does not return them.
    """

    text: str
    problem: str | None = None
    cut_off: bool = False
    reason: str = ""
    thought: bool = False
    n_prompt: int | None = None
    n_answer: int | None = None
    first_token: Mapping[str, float] | None = None


def read_reply(body: object) -> Reply:
    """Parse the body of a reply. Any JSON value is accepted."""
    choice = _at(body, "choices", 0)
    message = _at(choice, "message")
    reason = str(_at(choice, "finish_reason") or "").lower()
    content, refusal = _content(_at(message, "content"))
    text, thought = without_thoughts(content)
    reason = "tool_calls" if not text and _at(message, "tool_calls", 0) is not None else reason
    stated = _at(message, "refusal")
    return Reply(
        text,
        _problem(stated if isinstance(stated, str) and stated.strip() else refusal, reason),
        reason in CUT_OFF,
        reason,
        thought or _has_thoughts(message),
        _count(_at(body, "usage", "prompt_tokens")),
        _count(_at(body, "usage", "completion_tokens")),
        _first_token(_at(choice, "logprobs", "content", 0)),
    )


def without_thoughts(text: str) -> tuple[str, bool]:
    """Return a text without thoughts and without space around it, and whether it contained thoughts.

    If only the end of thoughts is marked, because the prompt contains the beginning, everything before the mark is
    thoughts. If thoughts do not end, the result is the text before them, which is usually empty.
    """
    thought = False
    while end := CLOSING.search(text):
        starts = [start.start() for start in OPENING.finditer(text, 0, end.start())]
        # Remove the innermost pair first, so that nested thoughts are removed, too.
        text = (text[: starts[-1]] if starts else "") + text[end.end() :]
        thought = True
    start = OPENING.search(text)
    if start:
        return text[: start.start()].strip(), True
    if thought and (around := ANSWER.fullmatch(text)):
        text = around[around.lastindex or 0]
    return text.strip(), thought


def cleaned(said: object) -> object:
    """Return decoded JSON with lone surrogates replaced by U+FFFD, since they can be neither printed nor stored."""
    if isinstance(said, str):
        return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(said, list):
        return [cleaned(each) for each in said]
    if isinstance(said, dict):
        return {cleaned(name): cleaned(value) for name, value in said.items()}
    return said


def one_line(said: object, most: int = 100) -> str:
    """Return a text on one line, shortened to `most` characters, without control characters."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in str(said)).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _at(body: object, *path: str | int) -> object:
    """Return the value at a path of keys and indices; None if it does not exist."""
    for step in path:
        if isinstance(body, dict) and isinstance(step, str):
            body = body.get(step)
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            body = body[step]
        else:
            return None
    return body


def _content(content: object) -> tuple[str, str | None]:
    """Return the text of a message, and the refusal that it contains or None. Text parts are joined."""
    if isinstance(content, str):
        return content, None
    parts = content if isinstance(content, list) else []
    texts = [_at(part, "text") for part in parts if _at(part, "type") in (None, "text", "output_text")]
    refusals = [text for part in parts if _at(part, "type") == "refusal" for text in [_at(part, "refusal")]]
    refusal = next((text for text in refusals if isinstance(text, str)), None)
    return "".join(text for text in texts if isinstance(text, str)), refusal


def _has_thoughts(message: object) -> bool:
    """Whether a message contains thoughts besides its text."""
    content = _at(message, "content")
    parts = content if isinstance(content, list) else []
    return any(bool(_at(message, name)) for name in THOUGHTS) or any(_at(p, "type") in THOUGHT_PARTS for p in parts)


def _problem(refusal: str | None, reason: str) -> str | None:
    if refusal is not None or reason == "refusal":
        words = f" ({one_line(refusal)!r})" if refusal else ""
        return f"refused to answer{words}. Rephrase the question, or use another model."
    if reason in FILTERED:
        return "did not answer, since a content filter stopped it. Rephrase the question, or use another model."
    if reason in TOOLS:
        return "requested a tool instead of answering. Turn tools off at the server."
    return None


def _count(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


def _first_token(entry: object) -> dict[str, float]:
    top = _at(entry, "top_logprobs")
    found: dict[str, float] = {}
    for each in [*(top if isinstance(top, list) else []), entry]:
        token, value = _at(each, "token"), _at(each, "logprob")
        # Rounding may raise a probability slightly above 1.
        if isinstance(token, str) and _is_number(value) and value <= 0.001:
            found.setdefault(token, float(value))
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
