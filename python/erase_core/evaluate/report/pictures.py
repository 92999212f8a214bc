"""The pictures of an evaluation, drawn from the figures of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["COST", "SCORE", "draw"]

COST, SCORE = "evaluation-cost.png", "evaluation-score.png"
# Colours that are told apart by colour-blind readers, too (Okabe and Ito), and a line style for each round of them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKS = {"prompt": "o", "fine-tuning": "s", "classifier": "^", "ranker": "D", "index": "v"}
# Queries for each removal, in the picture of costs.
MOST_QUERIES = 10_000
# The smallest cost that is drawn, in seconds: logarithms have no 0.
LEAST = 1e-4
# Where a label may stand beside its mark, in points, the best place first; the text is to the right or left of it.
PLACES = [(side * 4, up) for up in (3, -8, 10, -15, 17, -22, 24) for side in (1, -1)]


def draw(report: Mapping[str, Any], folder: Path) -> None:
    """Write both pictures.

    Parameters
    ----------
    report : mapping
        As `report.report_of` returns it.
    folder : Path
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "erase"}
    with mpl.rc_context(settings):
        rows = [row for row in report["rows"] if row["removal"] is not None]
        for name, paint in ((COST, _costs), (SCORE, _scores)):
            figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
            paint(figure.add_subplot(), rows)
            figure.savefig(folder / name, metadata={"Software": None})


def _costs(axes: Any, rows: list[Mapping[str, Any]]) -> None:
    """Draw what a removal with its queries costs, against the number of queries. Peers that are not exact are grey."""
    queries = np.logspace(0, np.log10(MOST_QUERIES), 60)

    def cost(row: Mapping[str, Any]) -> Any:
        return np.maximum(row["removal"]["value"] + queries * row["query warm"]["value"], LEAST)

    exact = [row for row in rows if row["exactness"].startswith("exact")]
    for number, row in enumerate(row for row in rows if row not in exact):
        axes.plot(queries, cost(row), color="0.75", linewidth=0.8, label=None if number else "not exact, each")
    for place, row in enumerate(exact):
        style = STYLES[place // len(COLOURS) % len(STYLES)]
        label = f"{row['peer']} ({row['accuracy after']['value']:.2f})"
        axes.plot(queries, cost(row), style, color=COLOURS[place % len(COLOURS)], label=label)
    axes.set(xscale="log", yscale="log", xlabel="queries for each removal", ylabel="cost of a removal with them, s")
    axes.legend(
        title="peer (accuracy after forgetting)",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncol=5,
        frameon=False,
        fontsize=7.5,
    )


def _scores(axes: Any, rows: list[Mapping[str, Any]]) -> None:
    """Draw scores against the cost of a removal with 100 queries. A mark for each kind, and the name beside it."""
    from matplotlib.ticker import LogLocator, NullFormatter

    labels = []
    for place, row in enumerate(rows):
        cost = max(row["removal"]["value"] + 100 * row["query warm"]["value"], LEAST)
        score, colour = row["score after"], COLOURS[place % len(COLOURS)]
        bars = [[max(0.0, score["value"] - score["low"])], [max(0.0, score["high"] - score["value"])]]
        axes.errorbar(
            cost, score["value"], yerr=bars, fmt=MARKS[row["kind"]], color=colour, alpha=0.9, elinewidth=0.6, ms=5
        )
        where = {"xytext": PLACES[0], "textcoords": "offset points"}
        labels.append(axes.annotate(row["peer"], (cost, score["value"]), fontsize=6.5, **where))
    axes.set(xscale="log", xlabel="cost of a removal with 100 queries, s", ylabel="normalised score after forgetting")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    for kind, mark in MARKS.items():
        if any(row["kind"] == kind for row in rows):
            axes.plot([], [], mark, color="grey", label=kind)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(MARKS), frameon=False)
    _separate(axes, labels)


def _separate(axes: Any, labels: Sequence[Any]) -> None:
    """Move labels that would cover one another, or a mark: each takes the first free place beside its own mark."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()
    left = axes.get_window_extent().x0
    marks = axes.transData.transform([label.xy for label in labels])
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in marks]

    def put(label: Any, place: tuple[int, int]) -> Any:
        label.xyann = place
        label.set_horizontalalignment("left" if place[0] > 0 else "right")
        return label.get_window_extent()

    for label in labels:
        boxes = ((place, put(label, place)) for place in PLACES)
        free = (place for place, box in boxes if box.x0 > left and not box.count_overlaps(taken))
        taken.append(put(label, next(free, PLACES[0])))
