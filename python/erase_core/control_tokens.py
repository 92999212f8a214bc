"""Control tokens as they are written: the common families, and the first of them that a text holds.

A control token is text to which a model gives a meaning of its own: it begins a turn, ends one, or marks thoughts.
Only texts are looked at here. What a tokenizer makes of them is left to plain_tokens.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Literal

__all__ = ["FAMILIES", "OnControlTokens", "find_control_token", "written_markers"]

OnControlTokens = Literal["keep", "refuse"]

_NAMES = (
    "s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|eom|bom|im_start|im_end|BOS_TOKEN|EOS_TOKEN|start_of_turn|"
    "end_of_turn|start_of_image|end_of_image|start_of_audio|end_of_audio|begin_of_text|end_of_text|endoftext|"
    "end_of_utterance|think|thinking|thought|tool_call|tool_calls|tool_response|tools|tool_declare|answer|system|user|"
    "assistant|human|bot|fim_prefix|fim_middle|fim_suffix|fim_pad|file_sep|repo_name"
)
_BRACKETED = (
    "INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|TOOL_CALL_ID|ARGS|CALL_ID|SYSTEM_PROMPT|MODEL_SETTINGS|"
    "THINK|IMG|IMG_BREAK|IMG_END|PREFIX|MIDDLE|SUFFIX|BOS|EOS|CLS|SEP|PAD|MASK|UNK|gMASK|sMASK|unused[0-9]+|"
    "control_[0-9]+"
)
# By the form that is shown to a user. A name that a text chose itself may be a person's, and is not shown.
FAMILIES = {
    "<|...|>": r"<[|\uff5c][^<>\n]{1,64}[|\uff5c]>",
    "<|...>": r"<[|\uff5c][a-z_]{1,32}>",
    "<...|>": r"<[a-z_]{1,32}[|\uff5c]>",
    "[|...|]": r"\[\|[^\[\]|\n]{1,64}\|\]",
    "[INST], [SEP] and the like": rf"\[/?(?:{_BRACKETED})\]",
    "<<SYS>>": r"<</?SYS>>",
    "<s>, <start_of_turn>, <think> and the like": rf"</?(?:{_NAMES})>",
    "<extra_id_0>, <unused0>, <SPECIAL_0> and the like": r"<(?:extra_id|unused|reserved|SPECIAL|special|seed)[_:\w]*>",
    "### Instruction:": r"^\#{2,3} ?(?:Instruction|Response|Input|System|User|Assistant|Human)s?:",
}
_FAMILIES = {form: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for form, pattern in FAMILIES.items()}


def find_control_token(text: str, known: Collection[str] = ()) -> str | None:
    """Return how to name the first control token that is found in a text, or None.

    Parameters
    ----------
    text : str
    known : collection of str, default=()
        Control tokens of a tokenizer that is at hand. They are named as they are; of the families, which are looked for
        too, the form is named.
    """
    # Some tokenizers compare by compatibility: the full-width form of a token is that token to them.
    forms = {text, unicodedata.normalize("NFKC", text)}
    for token in sorted(known):
        if any(token in form for form in forms):
            return repr(token)
    for form, pattern in _FAMILIES.items():
        if any(pattern.search(each) for each in forms):
            return f"one of the form {form}"
    return None


def written_markers(text: str) -> set[str]:
    """Return the control tokens of the families in a text, as they are written there."""
    return {found.group() for pattern in _FAMILIES.values() for found in pattern.finditer(text)}
