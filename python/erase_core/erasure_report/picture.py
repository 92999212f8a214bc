"""The picture of the clustering, as SVG.

**Nothing of a removed example may be read from the picture.** A dot where it was would show two numbers of its vector.
A centre from before would show all of it along the axes: the centre before and the centre after, times their counts,
differ by the removed example. The old clusters of the examples that stay give away roughly where the old centres were.
And the sizes of the clusters before name the cluster that the removed example was in, and so perhaps what it was about.
So the picture is a function of the examples that stay, and of *how many* were removed:

- *after*: the examples that stay, in the clusters that they form now, with the middle of each cluster;
- *before*: the same examples at the same places, without clusters, and one empty mark in a row below for each removed
  example. The places of these stay empty.

A store that never had the examples gives the same picture, but for the empty marks. For the places to be the same, the
axes must not depend on the data: the store's own public axes, if it clusters along some; for the packaged embedding
model, the first two principal axes of public texts (`axes.npy`, from the questions of the demo); otherwise two random
directions from a fixed seed, which show clusters less clearly.

The examples that stay are shown by two rounded numbers each. A page keeps these if one of them is forgotten later. So
the page says that it must then be replaced, and the picture can be left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from erase_core.calls.open_store import OpenStore
from erase_core.embedding.loading import PACKAGED
from erase_core.examples.example import counted
from erase_core.store.reads import Reads

__all__ = ["ClusterPicture", "svg_of", "take_picture"]

Axes = Literal["store", "packaged", "random"]
AXES_FILE = Path(__file__).parent / "axes.npy"
SEED = 0
# Places on each axis.
GRID = 80
# Each is read on white, and in print.
COLOURS = ("#1f5fa8", "#b4441a", "#1a7f5a", "#7b3fa0", "#8a6d00", "#a3245f", "#00788c", "#5a5a5a", "#4d7d12", "#8c3b2e")
INK, FAINT, LINE = "#23303b", "#7d8894", "#d5dbe1"
# Sizes in the picture's own unit.
PANEL, GAP, MARGIN, TITLE, FOOT = 420.0, 40.0, 24.0, 34.0, 92.0
# Most empty marks, and most clusters that have a number.
MOST_MARKS, MOST_NUMBERS = 60, 40


@dataclass(frozen=True)
class ClusterPicture:
    """The clusters of a store, along two axes.

    Parameters
    ----------
    axes : {"store", "packaged", "random"}
        Where the axes are from.
    sizes : tuple of int
        Number of examples in each cluster.
    dots : tuple of (int, int, int, int)
        Place on both axes (from 0 to 79), cluster, and number of examples, ascending. If examples of several clusters
        are at a place, the cluster is the one with the most of them.
    middles : tuple of (int, int) or None
        Mean place of the examples of each cluster; None for a cluster without examples.
    """

    axes: Axes
    sizes: tuple[int, ...]
    dots: tuple[tuple[int, int, int, int], ...]
    middles: tuple[tuple[int, int] | None, ...]


def take_picture(opened: OpenStore, reads: Reads) -> ClusterPicture:
    """Return the picture of the examples that are in a store now."""
    model = opened.clustering.current(reads)
    _, ids, vectors = reads.vectors()
    kind, axes = _axes(reads)
    if model is None:
        return ClusterPicture(kind, (), (), ())
    # The labels are by ascending id.
    order = sorted(range(len(ids)), key=lambda row: ids[row])
    flat = vectors[order].astype(np.float64) @ axes.T
    vectors.fill(0)
    places, labels = _on_grid(flat), model.labels()
    sizes = np.bincount(labels, minlength=len(model.centres()))
    middles = [_middle(places[labels == cluster]) for cluster in range(len(sizes))]
    return ClusterPicture(kind, tuple(sizes.tolist()), tuple(_dots(places, labels)), tuple(middles))


def _axes(reads: Reads) -> tuple[Axes, NDArray[np.float64]]:
    """Return two public axes for the vectors of a store, and where they are from."""
    dim, own = reads.constants.dim, reads.constants.axes
    if own is not None and len(own) >= 2:
        return "store", own[:2]
    if reads.constants.embedder.startswith(f"{PACKAGED}@"):
        return "packaged", np.load(AXES_FILE, allow_pickle=False).astype(np.float64)
    drawn = np.random.default_rng(SEED).normal(size=(dim, 2))
    return "random", np.linalg.qr(drawn)[0].T if dim > 1 else drawn.T


def _on_grid(flat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return places on the grid, with the same unit on both axes."""
    low, high = flat.min(axis=0), flat.max(axis=0)
    span = float((high - low).max()) or 1.0
    start = (low + high - span) / 2
    places: NDArray[np.int64] = np.rint((flat - start) / span * (GRID - 1)).astype(np.int64)
    return places


def _middle(places: NDArray[np.int64]) -> tuple[int, int] | None:
    if not len(places):
        return None
    first, second = np.rint(places.mean(axis=0)).astype(int).tolist()
    return first, second


def _dots(places: NDArray[np.int64], labels: NDArray[np.int32]) -> Iterator[tuple[int, int, int, int]]:
    clusters: dict[tuple[int, int], Counter[int]] = {}
    for (first, second), cluster in zip(places.tolist(), labels.tolist(), strict=True):
        clusters.setdefault((first, second), Counter())[cluster] += 1
    for (first, second), counts in sorted(clusters.items()):
        cluster = min(counts, key=lambda each: (-counts[each], each))
        yield first, second, cluster, counts.total()


# ---- drawing ----
def svg_of(picture: ClusterPicture, n_removed: int | None) -> str:
    """Return the picture as SVG, for a page of HTML.

    Parameters
    ----------
    picture : ClusterPicture
    n_removed : int or None
        Number of examples that were removed just before. None: the state before is not known, and not shown.
    """
    n_panels = 1 if n_removed is None else 2
    width, height = n_panels * PANEL + (n_panels - 1) * GAP, TITLE + PANEL + FOOT
    root = Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-labelledby": "picture-title"})
    root.set("class", "one" if n_removed is None else "two")
    SubElement(root, "title", id="picture-title").text = described(picture, n_removed)
    if n_removed is not None:
        before = SubElement(root, "g", id="before")
        _frame(before, f"Before: {counted(sum(picture.sizes) + n_removed, 'example')}")
        _draw_dots(before, picture, coloured=False)
        _draw_gaps(before, n_removed)
    after = SubElement(root, "g", id="after", transform=f"translate({width - PANEL:g} 0)")
    when = "Now" if n_removed is None else "After"
    n_clusters = sum(size > 0 for size in picture.sizes)
    _frame(after, f"{when}: {counted(sum(picture.sizes), 'example')}, {counted(n_clusters, 'cluster')}")
    _draw_dots(after, picture, coloured=True)
    _draw_middles(after, picture)
    _draw_sizes(after, picture)
    return tostring(root, encoding="unicode")


def described(picture: ClusterPicture, n_removed: int | None) -> str:
    """Return the text for who cannot see the picture."""
    sizes = ", ".join(map(str, picture.sizes))
    now = f"{counted(sum(picture.sizes), 'example')} in clusters of {sizes}" if picture.sizes else "no examples"
    if n_removed is None:
        return f"The clustering now: {now}."
    return (
        f"Left, before: the same examples, and {counted(n_removed, 'empty mark')} for what was removed, not at its "
        f"place. Right, after: {now}."
    )


def _frame(group: Element, title: str) -> None:
    _text(group, 0, 20, title, size=17, weight="600")
    place = {"x": "0.5", "y": f"{TITLE:g}", "width": f"{PANEL - 1:g}", "height": f"{PANEL:g}"}
    SubElement(group, "rect", {**place, "fill": "#fff", "stroke": LINE, "rx": "6"})


def _place(first: int, second: int) -> tuple[float, float]:
    """Return a place of the grid in a panel. The second axis points up."""
    unit = (PANEL - 2 * MARGIN) / (GRID - 1)
    return MARGIN + first * unit, TITLE + PANEL - MARGIN - second * unit


def _draw_dots(group: Element, picture: ClusterPicture, *, coloured: bool) -> None:
    for first, second, cluster, count in picture.dots:
        x, y = _place(first, second)
        colour = COLOURS[cluster % len(COLOURS)] if coloured else FAINT
        # The area of a dot grows with the number of examples, up to a size that hides no other place.
        radius = min(3.6 * count**0.5, 8.0)
        SubElement(group, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{radius:.1f}", fill=colour).set(
            "fill-opacity", "0.62"
        )


def _draw_middles(group: Element, picture: ClusterPicture) -> None:
    if len(picture.middles) > MOST_NUMBERS:
        return
    for cluster, middle in enumerate(picture.middles):
        if middle is not None:
            x, y = _place(*middle)
            colour = COLOURS[cluster % len(COLOURS)]
            circle = SubElement(group, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="11", fill="#fff", stroke=colour)
            circle.set("stroke-width", "2.2")
            _text(group, x, y + 4.4, str(cluster + 1), size=12.5, weight="700", fill=colour, anchor="middle")


def _draw_gaps(group: Element, n_removed: int) -> None:
    """Draw an empty mark for each removed example, in rows below the panel."""
    top, in_row = TITLE + PANEL, 30
    shown = min(n_removed, MOST_MARKS)
    for mark in range(shown):
        x, y = 8 + 13.6 * (mark % in_row), top + 18 + 16 * (mark // in_row)
        circle = SubElement(group, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="5", fill="none", stroke=INK)
        circle.set("stroke-width", "1.3")
        circle.set("stroke-dasharray", "2.4 1.6")
    more = f", {MOST_MARKS} of them shown" if n_removed > shown else ""
    below = top + 18 + 16 * ((shown - 1) // in_row) + 24
    _text(group, 0, below, f"{n_removed} removed{more}: empty marks, not at their places", size=13.5)


def _draw_sizes(group: Element, picture: ClusterPicture) -> None:
    """Draw how many examples each cluster has, as columns below the panel."""
    if not picture.sizes:
        return
    top, height = TITLE + PANEL + 22, 44.0
    step = PANEL / len(picture.sizes)
    most = max(picture.sizes)
    for cluster, size in enumerate(picture.sizes):
        colour, tall = COLOURS[cluster % len(COLOURS)], height * size / most
        x = step * cluster
        SubElement(
            group,
            "rect",
            x=f"{x + step * 0.12:.2f}",
            y=f"{top + height - tall:.1f}",
            width=f"{step * 0.76:.2f}",
            height=f"{tall:.1f}",
            fill=colour,
        ).set("fill-opacity", "0.8")
        if len(picture.sizes) <= MOST_NUMBERS // 2:
            _text(group, x + step / 2, top + height - tall - 4, str(size), size=12, anchor="middle")
            _text(group, x + step / 2, top + height + 15, str(cluster + 1), size=12, weight="700", fill=colour,
                  anchor="middle")  # fmt: skip


def _text(
    group: Element,
    x: float,
    y: float,
    content: str,
    *,
    size: float,
    weight: str = "400",
    fill: str = INK,
    anchor: str = "start",
) -> None:
    text = SubElement(group, "text", x=f"{x:.1f}", y=f"{y:.1f}", fill=fill)
    for name, value in {"font-size": f"{size:g}", "font-weight": weight, "text-anchor": anchor}.items():
        text.set(name, value)
    text.text = content
