"""The picture of docs/performance.md: what forgetting one example costs, by the number of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(stores: list[dict[str, float]], peers: list[dict[str, Any]], file: Path) -> None:
    """Draw two panels, milliseconds and bytes written, of a store and of what people use instead."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    sizes = [store["examples"] for store in stores]
    for panel, ours, theirs, title in (
        (panels[0], "forget, ms", "ms", "forgetting one: milliseconds, median"),
        (panels[1], "written by it, KiB", "written, KiB", "forgetting one: KiB written"),
    ):
        panel.loglog(
            sizes, [store[ours] for store in stores], "o-", linewidth=2.5, label="erase-core, durable and gone"
        )
        for name in dict.fromkeys(peer["name"] for peer in peers):
            of_it = [peer for peer in peers if peer["name"] == name]
            left = any(peer["texts"] or peer["vectors"] for peer in of_it)
            label = f"{name}{' (still in its files)' if left else ''}"
            panel.loglog(
                [peer["examples"] for peer in of_it], [max(peer[theirs], 0.1) for peer in of_it], "s--", label=label
            )
        panel.set_title(title)
        panel.set_xlabel("examples")
        panel.grid(visible=True, which="major", alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(file, dpi=120)
    plt.close(figure)
