"""The reference of the command line, written from the commands themselves, so that it is never out of date.

`python docs/site/command_line_reference.py` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main
from erase_core.cli.app import app
from erase_core.cli.output import ENDINGS

__all__ = ["commands", "reference"]

# Notes that Typer adds to the help of an option: "[env var: NAME; default: 8]".
NOTES = re.compile(r"\s*\[((?:env var: |default: |required)[^\]]*)\]$")


def commands() -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each command, from `erase` on, with the command and its context."""
    yield from _below("erase", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any, Any]]:
    yield name, command, command.context_class(command, info_name=name, **command.context_settings)
    for part, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _below(f"{name} {part}", inner)


def reference() -> str:
    """Return the reference as Markdown: a section for each command, then the exit codes."""
    codes = "\n".join(f"| {ending.code} | {_cell(ending.meaning)} |" for ending in ENDINGS)
    sections = [_section(*each) for each in commands()]
    return "\n\n".join([*sections, f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}"])


def _section(name: str, command: Any, context: Any) -> str:
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"## `{name}`", command.help or "", f"```\n{usage}\n```"]
    inner = {part: each for part, each in getattr(command, "commands", {}).items() if not each.hidden}
    if inner:
        links = [
            f"| [`{name} {part}`](#{_anchor(f'{name} {part}')}) | {_cell(each.help)} |" for part, each in inner.items()
        ]
        lines.append("\n".join(["| command | what it does |", "|---|---|", *links]))
    for title, kind in (("argument", "argument"), ("option", "option")):
        rows = [_row(each, context) for each in command.get_params(context) if each.param_type_name == kind]
        if rows:
            lines.append("\n".join([f"| {title} | what it does | default | variable |", "|---|---|---|---|", *rows]))
    return "\n\n".join(lines)


def _row(parameter: Any, context: Any) -> str:
    """Return the row of an option or argument: its names and type, what it does, its default and its variable."""
    names, text = parameter.get_help_record(context)
    notes: dict[str, str] = {}
    while match := NOTES.search(text):
        text = text[: match.start()]
        for note in match[1].split("; "):
            key, _, value = note.partition(": ")
            notes[key] = value
    default = "required" if "required" in notes else f"`{notes['default']}`" if "default" in notes else ""
    variable = f"`{notes['env var']}`" if "env var" in notes else ""
    return f"| `{names}` | {_cell(text)} | {default} | {variable} |"


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _cell(text: str) -> str:
    """Return the first paragraph of a text for a cell of a table: one line, in which `<` and `|` are themselves."""
    line = " ".join(text.split("\n\n")[0].split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


if __name__ == "__main__":
    print(reference())
