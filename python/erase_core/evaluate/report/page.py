"""Renders the page of an evaluation, from `page.md.jinja` and the figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase_core.evaluate.report.figures import rounded, shown

__all__ = ["page_of"]

TEMPLATE = "page.md.jinja"
# ERASE's single prompt, and the default of the package.
OURS = ("erase", "windows")


def page_of(report: Mapping[str, Any]) -> str:
    """Return the page of a report, as Markdown.

    Parameters
    ----------
    report : mapping
        As `contents.report_of` returns it, or as JSON has it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"shown": shown, "rounded": rounded, "cell": cell}
    names = ("run", "rows", "forgetting", "attacks", "audits", "extraction", "peers")
    parts = {name: report[name] for name in names}
    klom = any(row["KLoM test"] is not None for row in report["forgetting"])
    # Of the many pairs, those with what this package offers, if they were run.
    ours = [name for name in OURS if any(name in (pair["below"], pair["above"]) for pair in report["break even"])]
    pairs = [
        pair
        for pair in report["break even"]
        if not ours or (pair["batch"] == 1 and {pair["below"], pair["above"]}.intersection(ours))
    ]
    text = environment.get_template(TEMPLATE).render(
        **parts, pairs=pairs, ours=ours, dear=report["dear removals"], hard=report["hard set"], klom=klom
    )
    return text.rstrip("\n") + "\n"


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
