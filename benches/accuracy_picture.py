"""The picture of docs/accuracy.md: score against the cost of a query."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from accuracy_report import Line, Report, cost_of
from accuracy_rows import CLASSIFIERS, ROWS
from matplotlib.text import Text

__all__ = ["draw"]

# Without grey, which is for rows without a language model.
COLOURS = [f"C{number}" for number in range(10) if number != 7]


def draw(report: Report, costs: Mapping[str, Mapping[str, Mapping[str, float]]], file: Path) -> None:
    """Draw score against cost.

    A filled point for each row as the package answers it: calibrated if many queries share its prompts. A ring for the
    same row with the other of both, where that costs a query nothing. Rows of one kind are joined by a line.
    """
    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 7), constrained_layout=True)
    kinds = _kinds(report, costs)
    places = []
    # They cost a small part of any query with a language model, so they are levels to compare with.
    for cost, own, _ in kinds.pop("no language model", []):
        axes.axhline(own.score, color="grey", linestyle=":", linewidth=1)
        places.append((1.0, own.score, f"{own.row.partition(' (')[0]}, no language model (cost {cost:.2f})", "grey"))
    for number, (kind, points) in enumerate(kinds.items()):
        colour = COLOURS[number % len(COLOURS)]
        for cost, own, other in points:
            axes.plot([cost, cost], [own.score, other.score], color=colour, linewidth=0.8, alpha=0.5)
            axes.plot(cost, other.score, "o", markerfacecolor="white", color=colour, zorder=5)
            axes.plot(cost, own.score, "o", color=colour, zorder=5)
            places.append((cost, own.score, own.row, colour))
        if kind in ("routed", "windows"):
            axes.plot([p[0] for p in points], [p[1].score for p in points], color=colour, alpha=0.5)
    axes.set_xscale("log")
    axes.set_xlim(0.9, 1.8 * max((point[0] for points in kinds.values() for point in points), default=1))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}")
    axes.set_xticks([1, 1.1, 1.2, 1.3, 1.5, 2, 3, 4, 6], minor=True)
    axes.set_xlabel("processor time of a warm query, relative to one without examples")
    axes.set_ylabel("normalised score: 0 the best constant answer, 100 all right")
    axes.set_title(
        "filled: as the package answers (calibrated if queries share a prompt); ring: the other way", fontsize=10
    )
    axes.grid(visible=True, which="both", alpha=0.2)
    _label(axes, places)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _kinds(
    report: Report, costs: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, list[tuple[float, Line, Line]]]:
    """Return each row's cost, its line as the package answers, and the other one, by the first word of its name."""
    kinds: dict[str, list[tuple[float, Line, Line]]] = {}
    for line in report.lines:
        cost, row = cost_of(costs, line), next((row for row in ROWS if row.name == line.row), None)
        if line.calibration is None and line.scores is not None and cost is not None:
            found = report.find(line.row, row.calibrations[0]) if row and row.calibrations else None
            other = line if found is None or found.scores is None else found
            pair = (line, other) if row is None or row.per_query else (other, line)
            kind = "no language model" if line.row in CLASSIFIERS else line.row.split(",")[0]
            kinds.setdefault(kind, []).append((cost, *pair))
    return kinds


def _label(axes: Any, places: list[tuple[float, float, str, str]]) -> None:
    """Write the names beside the points, apart from one another: from the lowest to the highest, moved up if needed."""
    axes.figure.draw_without_rendering()
    taken: list[Any] = []
    for cost, score, name, colour in sorted(places, key=lambda place: place[1]):
        label = axes.annotate(
            name,
            (cost, score),
            (8, -3),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
        label.set_in_layout(False)
        while (box := _box(label)).count_overlaps(taken):
            label.xyann = 8, label.xyann[1] + 2
        taken.append(box)


def _box(label: Any) -> Any:
    """Return where the text of an annotation stands, without its arrow."""
    label.get_window_extent()  # puts the text where it belongs
    return Text.get_window_extent(label)
