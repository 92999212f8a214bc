"""The ways to ask a server for one of several options: what to send, and how to read the reply.

The most reliable way comes first: it constrains the answer to the options. Pure functions; `openai` tries the ways.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from erase_core.llm.answers import Reply
from erase_core.llm.named import named, named_in_json
from erase_core.llm.protocol import FoundBy

__all__ = ["WAYS", "Found", "Way"]

# OpenAI returns at most 20 alternatives of a token; some servers only 5.
MAX_LABELS = 20
FEW = 5
# The letters must have at least this share of the first token's probability. Otherwise the model answers differently.
LEAST_MASS = 0.5
# Some servers say -inf, which is not JSON. No score is lower than this.
LEAST = -1e4
ONE_OF = "Answer with exactly one of the following, word for word, and with nothing else:"
LETTER_OF = "Answer with the letter of exactly one of the following, and with nothing else:"


@dataclass(frozen=True, slots=True)
class Found:
    """The chosen option, the scores of all options, how it was found, and whose score is a bound: see `Choice`."""

    option: str
    scores: dict[str, float]
    by: FoundBy
    bounded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask for an option.

    Attributes
    ----------
    name : str
    fields : callable
        Returns the fields to send in addition to the messages; None if the way does not work for these options.
    question : callable
        Returns the text of the last message for a query and its options.
    read : callable
        Returns the option that a reply names, or None, from the reply, the options and the text of the query.
    max_tokens : callable
        Returns the most tokens that a reply needs.
    """

    name: str
    fields: Callable[[Sequence[str]], dict[str, Any] | None]
    question: Callable[[str, Sequence[str]], str]
    read: Callable[[Reply, Sequence[str], str], Found | None]
    max_tokens: Callable[[Sequence[str]], int]


def by_text(reply: Reply, options: Sequence[str], query: str = "") -> Found | None:
    """Return the option that a free answer names, as text or as JSON, or None."""
    if reply.cut_off and reply.text not in options:
        return None
    option = named(reply.text, options, query) or named_in_json(reply.text, options)
    return None if option is None else _certain(option, options, "text")


def label_scores(first_token: Mapping[str, float], options: Sequence[str]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the log-probability of each option's letter as the first token, and the options whose score is a bound.

    A letter that the server does not return gets the lowest value that it returns, which is an upper bound. There are
    no scores if the model answers differently.
    """
    labels = _labels(options)
    found: dict[str, float] = {}
    for token, value in first_token.items():
        label = token.strip().strip("()[].:*\"'`")
        if label in labels:
            found[label] = value if label not in found else _log_add(found[label], value)
    if not found or sum(map(math.exp, found.values())) < LEAST_MASS:
        return {}, ()
    known = {option: found[label] for label, option in zip(labels, options, strict=True) if label in found}
    least = max(min(first_token.values()), LEAST)
    scores = {option: max(known.get(option, least), LEAST) for option in options}
    return scores, tuple(option for option in options if known.get(option, -math.inf) < LEAST)


def _by_json(reply: Reply, options: Sequence[str], query: str) -> Found | None:
    option = named_in_json(reply.text, options)
    return by_text(reply, options, query) if option is None else _certain(option, options, "constraint")


def _by_choice(reply: Reply, options: Sequence[str], query: str) -> Found | None:
    exact = reply.text in options and not reply.cut_off
    return _certain(reply.text, options, "constraint") if exact else by_text(reply, options, query)


def _by_labels(reply: Reply, options: Sequence[str], _: str) -> Found | None:
    scores, bounded = label_scores(reply.first_token or {}, options)
    return Found(max(options, key=scores.__getitem__), scores, "logprobs", bounded) if scores else None


def _certain(option: str, options: Sequence[str], by: FoundBy) -> Found:
    return Found(option, {each: float(each == option) for each in options}, by)


def _labels(options: Sequence[str]) -> Sequence[str]:
    """Return a letter for each option. Options that are letters are their own letters, so no letter is ambiguous."""
    letters = all(len(option) == 1 and option in ascii_uppercase for option in options)
    return options if letters else ascii_uppercase[: len(options)]


def _log_add(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high + math.log1p(math.exp(low - high)) if low > -math.inf else high


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    form = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def _string_schema(options: Sequence[str]) -> dict[str, Any]:
    return _schema({"type": "string", "enum": list(options)})


def _object_schema(options: Sequence[str]) -> dict[str, Any]:
    # OpenAI accepts only the schema of an object.
    answer = {"type": "string", "enum": list(options)}
    return _schema(
        {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}
    )


def _guided(options: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of vLLM (new and old name), and of llama.cpp before it supported schemas."""
    grammar = "root ::= " + " | ".join(json.dumps(option, ensure_ascii=False) for option in options)
    return {
        "structured_outputs": {"choice": list(options)},
        "guided_choice": list(options),
        "grammar": grammar,
    }


def _first_token(options: Sequence[str]) -> dict[str, Any] | None:
    if len(options) > MAX_LABELS:
        return None
    return {"logprobs": True, "top_logprobs": FEW if len(options) <= FEW else MAX_LABELS}


def _plain(query: str, _: Sequence[str]) -> str:
    return query


def _listed(query: str, options: Sequence[str]) -> str:
    return "\n".join([query, "", ONE_OF, *(f"- {option}" for option in options)])


def _lettered(query: str, options: Sequence[str]) -> str:
    labels = _labels(options)
    lines = options if labels is options else [f"{a}) {option}" for a, option in zip(labels, options, strict=True)]
    return "\n".join([query, "", LETTER_OF, *lines])


def _room(options: Sequence[str]) -> int:
    # No tokenizer makes more tokens than bytes. The rest is for quotes, a key and spaces.
    return max(len(json.dumps(option)) for option in options) + 48


# Ways that constrain the answer keep the prompt unchanged, so that it ends like its demonstrations.
WAYS = (
    Way("response_format", _string_schema, _plain, _by_json, _room),
    Way("response_format with an object", _object_schema, _plain, _by_json, _room),
    Way("guided_choice or grammar", _guided, _plain, _by_choice, _room),
    Way("logprobs", _first_token, _lettered, _by_labels, lambda _: 1),
    Way("text", lambda _: {}, _listed, by_text, lambda options: max(64, _room(options))),
)
