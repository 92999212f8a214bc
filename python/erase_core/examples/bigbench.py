"""BIG-bench tasks in JSON: converts their examples to rows, and their prefixes to a prompt template.

Does not read files: see `content` and `formats`. The format is defined in docs/doc.md of github.com/google/BIG-bench.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from erase_core.errors import SourceError
from erase_core.examples.example import RowFault

__all__ = ["Task", "read_task"]

# Keys of the file, and the values that BIG-bench assumes if they are absent.
_DEFAULTS = {
    "task_prefix": "",
    "example_input_prefix": "\nQ: ",
    "example_output_prefix": "\nA: ",
    "few_shot_example_separator": "\n",
    "choice_prefix": "\n  choice: ",
}


@dataclass(frozen=True, slots=True)
class Task:
    """Rows, options and template of a task: see `Reading`. A bad row is replaced by its fault."""

    rows: list[object]
    options: tuple[str, ...]
    template: dict[str, str]


def read_task(task: Mapping[str, object], examples: list[object], columns: Mapping[str, str], name: str) -> Task:
    """Read a task.

    Parameters
    ----------
    task : mapping
        The contents of the file.
    examples : list
        The examples of the task.
    columns : mapping of str to str
        The column of each field: see `example_of`.
    name : str
        Name of the file, for messages.

    Raises
    ------
    SourceError
        A key of the task has a value of the wrong type.
    """
    texts = {key: _text(task, key, name) for key in _DEFAULTS}
    append = task.get("append_choices_to_input", True)
    if not isinstance(append, bool):
        raise SourceError(f"{name}: append_choices_to_input must be true or false, got {type(append).__name__}")
    rows = [_row(example, columns, texts["choice_prefix"] if append else None) for example in examples]
    sound = [example for example, row in zip(examples, rows, strict=True) if isinstance(row, Mapping)]
    template = {
        **_stop(task, name),
        "instruction": texts["task_prefix"].strip(),
        "input_prefix": texts["example_input_prefix"],
        "output_prefix": texts["example_output_prefix"],
        "separator": texts["few_shot_example_separator"],
    }
    return Task(rows, _shared_options(sound), template)


def _text(task: Mapping[str, object], key: str, name: str) -> str:
    value = task.get(key, _DEFAULTS[key])
    if not isinstance(value, str):
        raise SourceError(f"{name}: {key} must be text, got {type(value).__name__}")
    return value


def _stop(task: Mapping[str, object], name: str) -> dict[str, str]:
    """Return the text at which BIG-bench cuts answers, by its name in the template, if the task has one."""
    stop = task.get("stop_string")
    if stop is not None and not isinstance(stop, str):
        raise SourceError(f"{name}: stop_string must be text or null, got {type(stop).__name__}")
    return {"stop": stop} if stop else {}


def _row(example: object, columns: Mapping[str, str], choice_prefix: str | None) -> object:
    """Return an example as a row with its best answer, or a fault."""
    if not isinstance(example, Mapping):
        return example
    row = dict(example)
    if "target_scores" not in example:
        target = example.get("target")
        if target is None or target == []:
            return RowFault("target", "is missing, and so is target_scores")
        row[columns["output"]] = target[0] if isinstance(target, list) else target
        return row
    scores = example["target_scores"]
    if not isinstance(scores, dict) or not scores or not all(map(_is_number, scores.values())):
        return RowFault("target_scores", "must give each option a number")
    options = sorted(scores)
    if len(options) > 1 and len(set(scores.values())) == 1:
        return RowFault("target_scores", "has no best option, all scores are equal")
    row[columns["output"]] = max(options, key=lambda option: scores[option])
    text = row.get(columns["input"])
    # A blank input stays blank, so that it is refused later.
    if choice_prefix is not None and isinstance(text, str) and text.strip():
        # BIG-bench shuffles the options. Here they are sorted: the text must depend only on this example.
        row[columns["input"]] = text + "".join(choice_prefix + option for option in options)
    return row


def _is_number(value: object) -> bool:
    if isinstance(value, Decimal):  # the reader keeps a number as Decimal if a float would round it
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _shared_options(examples: list[object]) -> tuple[str, ...]:
    sets = {frozenset(e.get("target_scores", ())) for e in examples if isinstance(e, Mapping)}
    return tuple(sorted(sets.pop())) if len(sets) == 1 else ()
