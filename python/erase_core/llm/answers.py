"""Reads the body of a model server's answer: its text without the model's thoughts, or why it has no text.

Pure functions of the body. The format: OpenAI's chat completions, and what other servers add to it.
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
# Where servers that part thoughts from the answer put them.
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
THOUGHT_PARTS = {"thinking", "reasoning", "redacted_thinking"}
# The signs that models put around thoughts: tags, also those of Gemma, Cohere and OpenThinker, and gpt-oss around its
# channels.
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
# What may stand around the answer after thoughts; the end of it is lost where the answer is cut off.
ANSWER = re.compile(
    r"\s*(?:<(?:answer|output|response)>|<\|(?:start_response|begin_of_solution)\|>)(.*?)"
    r"(?:</(?:answer|output|response)>|<\|(?:end_response|end_of_solution)\|>)?\s*|(.*?)\s*(?:<\|(?:return|end)\|>)\s*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it is to be read.

    Attributes
    ----------
    text : str
        Without thoughts and without space around it; empty if there is none.
    problem : str or None
        Why the server gave no answer, in its words, where it says so: it refused, or asked for a tool.
    cut_off : bool
        Whether the bound of its tokens ended it.
    reason : str
        Why it ended, by the server's `finish_reason`; empty if it does not say.
    thought : bool
        Whether the model gave thoughts.
    n_prompt, n_answer : int or None
        Tokens, as the server counted them.
    first_token : dict of str to float
        Log-probabilities of what its first token might have been; empty if the server does not give them.
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
    """Read the body of an answer, whatever it may be."""
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
    """Return what a model says after its thoughts, without space around it, and whether there were any.

    Where only the end of thoughts is marked, since the prompt opened them, all before it is thoughts. Where they do not
    end, the text is what comes before them, most often nothing.
    """
    thought = False
    while end := CLOSING.search(text):
        starts = [start.start() for start in OPENING.finditer(text, 0, end.start())]
        # The innermost pair first, so that what is nested goes too.
        text = (text[: starts[-1]] if starts else "") + text[end.end() :]
        thought = True
    start = OPENING.search(text)
    if start:
        return text[: start.start()].strip(), True
    if thought and (around := ANSWER.fullmatch(text)):
        text = around[around.lastindex or 0]
    return text.strip(), thought


def cleaned(said: object) -> object:
    """Return decoded JSON with U+FFFD in the place of halves of surrogate pairs, which nothing can print or store."""
    if isinstance(said, str):
        return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(said, list):
        return [cleaned(each) for each in said]
    if isinstance(said, dict):
        return {cleaned(name): cleaned(value) for name, value in said.items()}
    return said


def one_line(said: object, most: int = 100) -> str:
    """Return what someone said on one line, not too long, without signs that a terminal would obey."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in str(said)).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _at(body: object, *path: str | int) -> object:
    """Return what is at a path of names and places; None where there is nothing."""
    for step in path:
        if isinstance(body, dict) and isinstance(step, str):
            body = body.get(step)
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            body = body[step]
        else:
            return None
    return body


def _content(content: object) -> tuple[str, str | None]:
    """Return the text of a message and a refusal within it; of a list of parts the texts are joined."""
    if isinstance(content, str):
        return content, None
    parts = content if isinstance(content, list) else []
    texts = [_at(part, "text") for part in parts if _at(part, "type") in (None, "text", "output_text")]
    refusals = [text for part in parts if _at(part, "type") == "refusal" for text in [_at(part, "refusal")]]
    refusal = next((text for text in refusals if isinstance(text, str)), None)
    return "".join(text for text in texts if isinstance(text, str)), refusal


def _has_thoughts(message: object) -> bool:
    """Whether a message has thoughts beside its text."""
    content = _at(message, "content")
    parts = content if isinstance(content, list) else []
    return any(bool(_at(message, name)) for name in THOUGHTS) or any(_at(p, "type") in THOUGHT_PARTS for p in parts)


def _problem(refusal: str | None, reason: str) -> str | None:
    if refusal is not None or reason == "refusal":
        words = f", {one_line(refusal)!r}" if refusal else ""
        return f"refused to answer{words}: ask otherwise, or use another model"
    if reason in FILTERED:
        return "did not answer, since its content filter stopped it: ask otherwise, or use another model"
    if reason in TOOLS:
        return "asked for a tool instead of answering: turn tools off at the server"
    return None


def _count(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


def _first_token(entry: object) -> dict[str, float]:
    top = _at(entry, "top_logprobs")
    found: dict[str, float] = {}
    for each in [*(top if isinstance(top, list) else []), entry]:
        token, value = _at(each, "token"), _at(each, "logprob")
        # A probability, which rounding may lift a little above 1.
        if isinstance(token, str) and _is_number(value) and value <= 0.001:
            found.setdefault(token, float(value))
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
