"""Chats in the format of OpenAI's fine-tuning: each row has `messages`, which become a question and its answer.

Each example depends only on its own row. The answer is the last message; the question is what the user and the
assistant said before. The system message is left out, since a prompt has only one for all examples. It becomes the
instruction of the template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from erase_core.errors import ParameterError
from erase_core.examples.example import RowFault
from erase_core.examples.rows import Rows

__all__ = ["CHAT", "MESSAGES", "SYSTEM", "TURNS", "as_examples", "check_fields"]

CHAT = "openai-chat"
MESSAGES = "messages"
SYSTEM = {"system", "developer"}
TURNS = {"user": "User", "assistant": "Assistant"}
# Two different system messages are enough to know that they differ.
MOST_SYSTEMS = 2


def check_fields(fields: Iterable[str]) -> None:
    """Refuse columns for input and output, which come from the messages.

    Raises
    ------
    ParameterError
    """
    named = [name for name in ("input", "output") if name in fields]
    if named:
        raise ParameterError(
            f"fields must not have {named[0]!r}, which comes from {MESSAGES!r} in the format {CHAT!r}. Leave it out."
        )


def as_examples(rows: Rows, columns: Mapping[str, str]) -> Rows:
    """Return rows with columns for input and output in place of the messages.

    Parameters
    ----------
    rows : Rows
        Rows of chats. Their template and notes are complete only after all new rows have been read.
    columns : mapping of str to str
        The column of each field.
    """
    systems: set[str] = set()
    made = Rows(rows.name, (), rows.unit, (), template=rows.template, notes=rows.notes)
    made.numbered = _numbered(rows, columns, systems, made)
    return made


def _numbered(rows: Rows, columns: Mapping[str, str], systems: set[str], made: Rows) -> Iterator[tuple[int, object]]:
    some_without = False
    for line, row in rows.numbered:
        if isinstance(row, RowFault) or not isinstance(row, Mapping):
            yield line, row
            continue
        try:
            question, answer, system = _parts(row.get(MESSAGES))
        except RowFault as fault:
            yield line, fault
            continue
        some_without |= not system
        if system and len(systems) < MOST_SYSTEMS:
            systems.add(system)
        others = {name: value for name, value in row.items() if name != MESSAGES}
        yield line, {**others, columns["input"]: question, columns["output"]: answer}
    if len(systems) == 1 and not some_without:
        made.template["instruction"] = systems.pop()
        made.notes.append(
            "the system message, the same in all rows, is left out; to use it, create a store with this `template`"
        )
    elif systems:
        made.notes.append("system messages differ between rows and are left out; give an instruction in `template`")


def _parts(messages: object) -> tuple[str, str, str]:
    """Return question, answer and system message of a chat.

    Raises
    ------
    RowFault
    """
    if messages is None:
        raise RowFault(MESSAGES, "is missing")
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise RowFault(MESSAGES, f"must be a list of messages, got {type(messages).__name__}")
    listed = list(messages)
    turns = [_turn(i, message) for i, message in enumerate(listed, 1)]
    system = "\n\n".join(text for role, text in turns if role in SYSTEM)
    spoken = [(role, text) for role, text in turns if role not in SYSTEM]
    if not spoken or spoken[-1][0] != "assistant":
        raise RowFault(MESSAGES, "must end with a message of the assistant")
    if listed[-1].get("weight") == 0:
        raise RowFault(MESSAGES, "must end with an answer to learn from, but the weight of the last message is 0")
    *before, (_, answer) = spoken
    if not any(role == "user" for role, _ in before):
        raise RowFault(MESSAGES, "must have a message of the user before the assistant's last one")
    if len(before) == 1:
        return before[0][1], answer, system
    return "\n\n".join(f"{TURNS[role]}: {text}" for role, text in before), answer, system


def _turn(place: int, message: object) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise RowFault(MESSAGES, f"must be a list of objects, got {type(message).__name__} at position {place}")
    role = message.get("role")
    if not isinstance(role, str) or (role not in SYSTEM and role not in TURNS):
        raise RowFault(
            MESSAGES, f"must have only the roles system, developer, user and assistant; message {place} has another"
        )
    if message.get("tool_calls") or message.get("function_call"):
        raise RowFault(MESSAGES, f"must be text; message {place} calls a tool")
    return role, _text(place, message.get("content"))


def _text(place: int, content: object) -> str:
    """Return the text of a message: a string, or parts that are all text."""
    if isinstance(content, str):
        text = content
    elif isinstance(content, Iterable) and not isinstance(content, (bytes, Mapping)):
        parts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content
        ]
        if not all(isinstance(part, str) for part in parts):
            raise RowFault(MESSAGES, f"must be text; message {place} has a part that is not text")
        text = "".join(str(part) for part in parts)
    else:
        raise RowFault(MESSAGES, f"must be text; the content of message {place} is {type(content).__name__}")
    if not text.strip():
        raise RowFault(MESSAGES, f"must be text; message {place} is empty")
    return text
