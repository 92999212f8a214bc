"""What a setting costs and what it keeps: the table behind the defaults and behind docs/choosing.md.

For each setting: the *gain* kept of k-means' over a random partition, ``(I_random - I) / (I_random - I_kmeans)``, with
all inertias those of the partition around its exact means in the original space, and scikit-learn's KMeans (greedy
k-means++, one start, the same k and number of iterations) as 100 %; and what removals of random rows do: the share of
each path, the mean and 99th percentile of their work (as a share of a fit's), and their time.

    make choose                      blobs
    make choose DATA='TASKS.json'    and embeddings of the inputs of BIG-bench task files
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from embeddings import embed
from erase_core import QKMeans
from measure import Matrix, Removals, partition_inertia, references
from sklearn.datasets import make_blobs


@dataclass(frozen=True)
class Setting:
    """One line of the table."""

    n: int
    k: int
    projection: int | None
    epsilon: float
    gamma: float = 0.2
    max_iter: int = 5
    panel: Literal["auto"] | int | None = "auto"


def measure(X: Matrix, setting: Setting, seeds: int, removals: int) -> dict[str, float]:
    """Fit and forget with several seeds."""
    rng = np.random.default_rng(0)
    X = X[rng.permutation(len(X))[: setting.n]]
    random, kmeans = references(X, setting.k, 10, seeds)
    done = Removals()
    gains, iterations = [], []
    for seed in range(seeds):
        model = QKMeans(
            setting.k,
            epsilon=setting.epsilon,
            gamma=setting.gamma,
            max_iter=setting.max_iter,
            panel=setting.panel,
            projection=setting.projection,
            random_state=seed,
        ).fit(X)
        gains.append((random - partition_inertia(X, model.labels_)) / (random - kmeans))
        iterations.append(model.n_iter_)
        done.run(model, rng.choice(setting.n, size=removals, replace=False).tolist())
    return {
        "gain": float(np.mean(gains)),
        "gain_std": float(np.std(gains)),
        "iterations": float(np.mean(iterations)),
        **done.figures(),
    }


HEADER = (
    "| data | n | k | projection | epsilon | gamma | gain | n_iter | certified | replayed | reseeded "
    "| work mean | work 99 % | us median | us mean | us 99 % |"
)


def line(name: str, s: Setting, m: dict[str, float]) -> str:
    """One row of the table, in Markdown."""
    return (
        f"| {name} | {s.n} | {s.k} | {s.projection or '-'} | {s.epsilon:g} | {s.gamma:g} "
        f"| {m['gain']:.1%} ± {m['gain_std']:.1%} | {m['iterations']:.1f} "
        f"| {m['certified']:.1%} | {m['replayed']:.1%} | {m['reseeded']:.1%} "
        f"| {m['work_mean']:.1%} | {m['work_p99']:.1%} | {m['us_median']:.0f} | {m['us_mean']:.0f} "
        f"| {m['us_p99']:.0f} |"
    )


def settings(sizes: list[int], dim: int) -> Iterator[Setting]:
    """The grid."""
    for n in sizes:
        for epsilon in (0.1, 0.25, 0.5, 1.0, 1.5, 2.0):
            yield Setting(n, 8, None, epsilon)
        for projection in (128, 64, 32):
            if projection < dim:
                for epsilon in (0.25, 0.5, 1.0, 2.0):
                    yield Setting(n, 8, projection, epsilon)
    for gamma in (0.0, 0.5):
        yield Setting(sizes[-1], 8, None, 1.0, gamma)
    for k in (4, 32):
        yield Setting(sizes[-1], k, None, 1.0)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the gain kept and the mean work of a removal by epsilon, for the first data set and k = 8."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chosen = [row for row in rows if row["data"] == rows[0]["data"] and row["k"] == 8 and row["gamma"] == 0.2]
    sizes = sorted({row["n"] for row in chosen})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for i, n in enumerate(sizes):
        for projection, dash in ((None, "-"), (64, "--")):
            line = sorted(
                (r for r in chosen if (r["n"], r["projection"]) == (n, projection)), key=lambda r: r["epsilon"]
            )
            if not line:
                continue
            label = f"n = {n:,}, {f'projected to {projection}' if projection else 'unprojected'}"
            for ax, figure_name in zip(axes, ("gain", "work_mean"), strict=True):
                values = [100 * r[figure_name] for r in line]
                ax.plot([r["epsilon"] for r in line], values, dash, marker="o", color=f"C{i}", label=label)
    for ax, title in zip(axes, ("gain kept of k-means, %", "work of a removal, % of a fit"), strict=True):
        ax.set_xscale("log")
        ax.set_xticks(ticks := [0.1, 0.25, 0.5, 1, 2], [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("epsilon")
        ax.set_title(title, fontsize=10)
        ax.set_ylim(0, 105 if "gain" in title else None)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=7.5, loc="lower left")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", help="BIG-bench task files, or .npy files of embeddings")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--removals", type=int, default=50, help="random removals for each seed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 4000, 16000])
    parser.add_argument("--plot", type=Path, help="draw gain and work by epsilon")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()

    data: dict[str, Matrix] = {}
    if options.data:
        data["embeddings"] = embed(options.data)
    blobs, _ = make_blobs(max(options.sizes), n_features=32, centers=8, cluster_std=2.0, random_state=0)
    data["blobs"] = blobs.astype(np.float32)

    rows = []
    print(HEADER, "|" + "---|" * (HEADER.count("|") - 1), sep="\n", flush=True)
    for name, X in data.items():
        sizes = sorted({min(n, len(X)) for n in options.sizes})
        for setting in settings(sizes, X.shape[1]):
            figures = measure(X, setting, options.seeds, options.removals)
            rows.append({"data": name, **vars(setting), **figures})
            print(line(name, setting, figures), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
