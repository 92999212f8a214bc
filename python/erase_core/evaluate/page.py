"""Renders the page of an evaluation, from `page.md.jinja` and the figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase_core.evaluate.figures import rounded, shown

__all__ = ["page_of"]

TEMPLATE = "page.md.jinja"


def page_of(report: Mapping[str, Any]) -> str:
    """Return the page of a report, as Markdown.

    Parameters
    ----------
    report : mapping
        As `report.report_of` returns it, or as JSON has it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"shown": shown, "rounded": rounded, "cell": cell}
    names = ("run", "rows", "forgetting", "attacks", "audits", "extraction", "peers")
    parts = {name: report[name] for name in names}
    klom = any(row["KLoM test"] is not None for row in report["forgetting"])
    text = environment.get_template(TEMPLATE).render(
        **parts, pairs=report["break even"], dear=report["dear removals"], hard=report["hard set"], klom=klom
    )
    return text.rstrip("\n") + "\n"


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
