"""Control tokens in texts: finds those of the common families, and refuses texts that contain one.

A control token has a special meaning for a model: it begins or ends a turn, for example, or marks thoughts. This module
looks only at texts. See `erase_core.tokenizing` for tokenizers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import replace
from os import PathLike, fspath
from typing import Literal

from erase_core.errors import ExampleError, ParameterError
from erase_core.examples.example import AnyExample, BadRow, Reading

__all__ = ["FAMILIES", "OnControlTokens", "check_texts", "find_control_token", "without_control_tokens"]

OnControlTokens = Literal["keep", "refuse"]

_NAMES = (
    "s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|eom|bom|im_start|im_end|BOS_TOKEN|EOS_TOKEN|start_of_turn|"
    "end_of_turn|start_of_image|end_of_image|start_of_audio|end_of_audio|begin_of_text|end_of_text|endoftext|"
    "end_of_utterance|think|thinking|thought|tool_call|tool_calls|tool_response|tools|tool_declare|answer|system|user|"
    "assistant|human|bot|fim_prefix|fim_middle|fim_suffix|fim_pad|file_sep|repo_name|"
    "PRE|SUF|MID|EOP_TOKEN|image|image_soft_token|video|beginning_of_sentence|end_of_sentence|longcat_[a-z_]+|role|"
    "tool_call_begin|tool_call_end|(?:minimax:)?tool_?call|function_calls|arg_key|arg_value|filename|reponame|"
    "gh_stars|(?:jupyter|issue|commit)_[a-z]+"
)
_BRACKETED = (
    "INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|TOOL_CALL_ID|ARGS|CALL_ID|SYSTEM_PROMPT|MODEL_SETTINGS|"
    "THINK|IMG|IMG_BREAK|IMG_END|PREFIX|MIDDLE|SUFFIX|BOS|EOS|CLS|SEP|PAD|MASK|UNK|gMASK|sMASK|unused[0-9]+|"
    "control_[0-9]+"
)
# Patterns by the form that messages show.
FAMILIES = {
    "<|...|>": r"<[|\uff5c][^<>\n]{1,64}[|\uff5c]>",
    "<|...>": r"<[|\uff5c][a-z_]{1,32}>",
    "<...|>": r"<[a-z_]{1,32}[|\uff5c]>",
    "[|...|]": r"\[\|[^\[\]|\n]{1,64}\|\]",
    "[INST], [SEP] and the like": rf"\[/?(?:{_BRACKETED})\]",
    "<<SYS>>": r"<</?SYS>>",
    "<[...]>": r"<\[[^<>\[\]\n]{1,64}\]>",
    "]~b] and [e~[": r"\]~!?b[\[\]]|\[e~\[",
    "<s>, <start_of_turn>, <think> and the like": rf"</?(?:{_NAMES})>",
    "<extra_id_0>, <unused0>, <SPECIAL_0> and the like": r"<(?:extra_id|unused|reserved|SPECIAL|special|seed)[_:\w]*>",
    "### Instruction:": r"^\#{2,3} ?(?:Instruction|Response|Input|System|User|Assistant|Human)s?:",
}
# These patterns list full tokens, so messages may show the token itself.
_LISTED = (
    "[INST], [SEP] and the like",
    "<<SYS>>",
    "]~b] and [e~[",
    "<s>, <start_of_turn>, <think> and the like",
    "### Instruction:",
)
_FAMILIES = {form: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for form, pattern in FAMILIES.items()}


def find_control_token(text: str, known: Collection[str] = ()) -> str | None:
    """Return a description of the first control token in a text for messages, or None.

    Parameters
    ----------
    text : str
    known : collection of str, default=()
        Control tokens of the tokenizer, if it is available, in addition to the common families.

    Returns
    -------
    str or None
        The token itself if it is listed or known. Otherwise only its form, since it may be a person's name in brackets.
    """
    # Some tokenizers normalise by compatibility, which turns the full-width form of a token into the token.
    forms = list(dict.fromkeys((text, unicodedata.normalize("NFKC", text))))
    for form, pattern in _FAMILIES.items():
        for found in filter(None, map(pattern.search, forms)):
            is_name = form in _LISTED or found.group() in known
            return repr(found.group()) if is_name else f"one of the form {form}"
    return next((repr(token) for token in known if any(token in each for each in forms)), None)


def written_markers(text: str) -> set[str]:
    """Return all control tokens of the common families in a text, as written."""
    return {found.group() for pattern in _FAMILIES.values() for found in pattern.finditer(text)}


def check_texts(name: str, texts: Collection[str], known: Collection[str]) -> None:
    """Refuse texts that contain a control token.

    Raises
    ------
    ParameterError
    """
    for text in texts:
        if found := find_control_token(text, known):
            raise ParameterError(
                f"{name} must not contain a control token, since the store was created with "
                f"on_control_tokens='refuse', got {found}. Remove it."
            )


def without_control_tokens(reading: Reading, source: object, known: Collection[str], *, skip_bad: bool) -> Reading:
    """Return a reading without the examples that contain a control token in input, output or rationale.

    Parameters
    ----------
    reading : Reading
    source : object
        The source of the reading, for its name in messages.
    known : collection of str
        See `find_control_token`.
    skip_bad : bool
        Whether to leave such examples out. If not, the first of them raises an error.

    Raises
    ------
    ExampleError
    """
    name = fspath(source) if isinstance(source, (str, PathLike)) else type(source).__name__
    faults = {place: fault for place, example in enumerate(reading.examples) if (fault := _fault(example, known))}
    bad = [BadRow(str(name), place + 1, *fault, unit="example") for place, fault in faults.items()]
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more such examples)" if len(bad) > 1 else ""
        raise ExampleError(
            f"{bad[0]}{more}. Remove it, skip such examples with skip_bad, or accept it as text with "
            "on_control_tokens='keep'."
        )
    kept = [example for place, example in enumerate(reading.examples) if place not in faults]
    return replace(reading, examples=kept, skipped=[*reading.skipped, *bad])


def _fault(example: AnyExample, known: Collection[str]) -> tuple[str, str] | None:
    """Return the first field of an example that contains a control token, and the reason; None if there is none."""
    for field in ("input", "output", "rationale"):
        text = getattr(example, field)
        if text is not None and (found := find_control_token(text, known)):
            return field, f"contains a control token, {found}"
    return None
