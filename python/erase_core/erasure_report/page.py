"""Renders the page of an erasure report, from `page.html.jinja`. Every value is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from erase_core.erasure_report.picture import svg_of
from erase_core.examples.example import counted
from erase_core.receipts.receipt import UpdatePath

if TYPE_CHECKING:
    from jinja2 import Template

    from erase_core.erasure_report.facts import ErasureReport

__all__ = ["page_of"]

TEMPLATE = "page.html.jinja"
# How a removal brought the clustering up to date (`UpdateReport`), for readers who do not know it.
PATHS: dict[UpdatePath, str] = {
    "certified": "It was proven, in exact integer arithmetic, that the removal moves no centre of a cluster. So only "
    "the removed examples had to be taken out.",
    "replayed": "The removal moved centres of clusters. So the clustering was computed again, from the first step that "
    "the removed examples had changed.",
    "reseeded": "The removal changed the start of the clustering, which chooses its first centres. So the clustering "
    "was computed again from the start that it has without the removed examples.",
}
# Facts of a receipt that a table of the page shows as they are.
SHOWN = ("version", "store", "model_before", "model_after", "previous")
MOST_FINDINGS = 50
OUTSIDE = (
    ("Sources", "The files that the examples came from, exports, tickets and notebooks: delete the examples there."),
    (
        "Backups and older copies",
        "Copies of the store's key file from before the removal, in backups, mirrors and snapshots of the file system. "
        "Together with a copy of the database they show the examples. Destroy them or let them expire, and note when.",
    ),
    (
        "Disks",
        "Flash memory and some file systems keep old blocks of the key file. If the store has a key of your own, run "
        "erase rekey and destroy the older key. Otherwise the disk must be encrypted as a whole.",
    ),
    (
        "Providers and servers",
        "Logs and caches of language model servers and providers that were asked while the examples were in prompts. "
        "Nothing is sent to them by a removal: ask them to delete.",
    ),
    ("Weights of language models", "If the examples were ever used to train a model, its weights are not changed."),
    (
        "Other processes and swap",
        "Programs that have the store open drop the examples at their next call of it. Freed memory, swap "
        "and core dumps may keep copies until they are reused: end the processes to be sure.",
    ),
    ("Logs and kept prompts", "Your own logs, and prompts or answers that someone has kept."),
    ("Recipients", "Tell everyone who received the data about the erasure (GDPR Art. 19)."),
    ("Older reports", "A report with a picture, made while the examples were in the store: replace or delete it."),
)


def page_of(report: ErasureReport) -> str:
    """Return the page of a report, as HTML."""
    from markupsafe import Markup

    n_before = report.n_removed if report.is_newest else None
    svg = None if report.picture is None else Markup(svg_of(report.picture, n_before))
    return _template().render(
        report=report, svg=svg, paths=PATHS, shown=SHOWN, outside=OUTSIDE, most_findings=MOST_FINDINGS
    )


@cache
def _template() -> Template:
    # jinja2 is slow to import, and not needed before a page is made.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"counted": counted, "zip": zip}
    return environment.get_template(TEMPLATE)
