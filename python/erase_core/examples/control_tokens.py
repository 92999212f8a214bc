"""Control tokens as they are written: the common families, and texts refused that hold one.

A control token is text to which a model gives a meaning of its own: it begins a turn, ends one, or marks thoughts.
Only texts are looked at here. What a tokenizer makes of them is left to tokenizing.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import replace
from os import PathLike, fspath
from typing import Literal

from erase_core.errors import ExampleError, ParameterError
from erase_core.examples.example import BadRow, Example, Reading

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
# By the form that is shown to a user.
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
# Of these only tokens by their full name are found.
_LISTED = (
    "[INST], [SEP] and the like",
    "<<SYS>>",
    "]~b] and [e~[",
    "<s>, <start_of_turn>, <think> and the like",
    "### Instruction:",
)
_FAMILIES = {form: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for form, pattern in FAMILIES.items()}


def find_control_token(text: str, known: Collection[str] = ()) -> str | None:
    """Return how to name the first control token that is found in a text, or None.

    Parameters
    ----------
    text : str
    known : collection of str, default=()
        Control tokens of a tokenizer that is at hand. The common families are looked for, too. Of a token that is in no
        list only the form is named, since it may be a person's name in brackets.
    """
    # Some tokenizers compare by compatibility: the full-width form of a token is that token to them.
    forms = list(dict.fromkeys((text, unicodedata.normalize("NFKC", text))))
    for form, pattern in _FAMILIES.items():
        for found in filter(None, map(pattern.search, forms)):
            is_name = form in _LISTED or found.group() in known
            return repr(found.group()) if is_name else f"one of the form {form}"
    return next((repr(token) for token in known if any(token in each for each in forms)), None)


def written_markers(text: str) -> set[str]:
    """Return the control tokens of the families in a text, as they are written there."""
    return {found.group() for pattern in _FAMILIES.values() for found in pattern.finditer(text)}


def check_texts(name: str, texts: Collection[str], known: Collection[str]) -> None:
    """Refuse texts that hold a control token.

    Raises
    ------
    ParameterError
    """
    for text in texts:
        if found := find_control_token(text, known):
            raise ParameterError(
                f"{name} must hold no control token, since the store was created with on_control_tokens='refuse', "
                f"but holds {found}; take it out"
            )


def without_control_tokens(reading: Reading, source: object, known: Collection[str], *, skip_bad: bool) -> Reading:
    """Return what was read without the examples that hold a control token in a text that a prompt shows.

    Parameters
    ----------
    reading : Reading
    source : object
        What was read, for the name of it.
    known : collection of str
        See `find_control_token`.
    skip_bad : bool
        Whether such examples are left out; if not, the first of them is an error.

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
            f"{bad[0]}{more}; take it out, leave such examples out with skip_bad, or take it in as text with "
            "on_control_tokens='keep'"
        )
    kept = [example for place, example in enumerate(reading.examples) if place not in faults]
    return replace(reading, examples=kept, skipped=[*reading.skipped, *bad])


def _fault(example: Example, known: Collection[str]) -> tuple[str, str] | None:
    """Return the field of an example that holds a control token, and what is wrong with it."""
    for field in ("input", "output", "rationale"):
        text = getattr(example, field)
        if text is not None and (found := find_control_token(text, known)):
            return field, f"holds a control token, {found}"
    return None
