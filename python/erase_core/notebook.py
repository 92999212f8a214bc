"""HTML for notebooks: a heading, a table of names and values, and tables below it.

jinja2 escapes every text. The HTML refers to nothing outside it, and nothing of it is kept here. A notebook keeps what
it shows, in its file too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from erase_core.errors import first_line, printable

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Piece", "Table", "changed_ids", "html"]

# Most values in a cell, and most rows of a table.
MOST_VALUES, MOST_ROWS = 50, 100

TEMPLATE = """\
{%- macro cell(value) -%}
<td style="text-align: left; white-space: pre-wrap">
{%- for text, mark in pieces(value) -%}
{{ ", " if not loop.first }}{% if mark %}<{{ mark }}>{{ text }}</{{ mark }}>{% else %}{{ text }}{% endif %}
{%- endfor -%}
</td>
{%- endmacro -%}
<div class="erase-core">
<p><strong>{{ title }}</strong></p>
{% if values -%}
<table><tbody>
{% for name, value in values.items() -%}
<tr><th style="text-align: left">{{ name }}</th>{{ cell(value) }}</tr>
{% endfor -%}
</tbody></table>
{% endif -%}
{% for table in tables -%}
<table><caption style="text-align: left">{{ table.caption }}</caption>
<thead><tr>{% for name in table.columns %}<th style="text-align: left">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows[:most_rows] -%}
<tr>{% for value in row %}{{ cell(value) }}{% endfor %}</tr>
{% endfor -%}
</tbody></table>
{% if table.rows|length > most_rows %}<p>and {{ table.rows|length - most_rows }} more</p>
{% endif -%}
{% endfor -%}
{% if text %}<pre style="white-space: pre-wrap">{{ text }}</pre>
{% endif -%}
</div>
"""


class Piece(NamedTuple):
    """A part of a cell.

    Parameters
    ----------
    text : str
    mark : {"", "del", "ins"}, default=""
        The element that it is in: nothing, what is gone, or what is there instead.
    """

    text: str
    mark: Literal["", "del", "ins"] = ""


class Table(NamedTuple):
    """A table: its caption, the names of its columns, and the values of each row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def html(
    title: str, values: Mapping[str, object] | None = None, tables: Sequence[Table] = (), text: str | None = None
) -> str:
    """Return the HTML of an object.

    Parameters
    ----------
    title : str
        Its first line is the heading.
    values : mapping of str to object, or None, default=None
        Names and values. A list is shown as its values, a mapping as its names and values, None as "none".
    tables : sequence of Table, default=()
        Tables without rows are left out.
    text : str or None, default=None
        A text at the end, with its line breaks.
    """
    filled = [table for table in tables if table.rows]
    made = _template().render(
        title=first_line(title), values=values or {}, tables=filled, text=text, pieces=_pieces, most_rows=MOST_ROWS
    )
    return printable(made)


def changed_ids(before: Sequence[int | str], after: Sequence[int | str]) -> tuple[list[Piece], list[Piece]]:
    """Return the cells for ids before and after a change. Those that went and those that came are marked."""
    return (
        [Piece(str(id_), "" if id_ in after else "del") for id_ in before],
        [Piece(str(id_), "" if id_ in before else "ins") for id_ in after],
    )


@cache
def _template() -> Template:
    from jinja2 import Environment  # takes long to import

    return Environment(autoescape=True, trim_blocks=False).from_string(TEMPLATE)


def _pieces(value: object) -> list[Piece]:
    if isinstance(value, Mapping):
        value = [f"{name}: {each!r}" for name, each in value.items()]
    if not isinstance(value, (list, tuple)) or isinstance(value, Piece):
        return [value if isinstance(value, Piece) else Piece(_text(value))]
    pieces = [each if isinstance(each, Piece) else Piece(_text(each)) for each in value]
    more = len(pieces) - MOST_VALUES
    return [*pieces[:MOST_VALUES], *([Piece(f"and {more} more")] if more > 0 else [])] or [Piece("none")]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(str, value))}]"
    return "none" if value is None else str(value)
