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
from measure import Matrix, Removals, normalised, partition_inertia, references
from numpy.typing import NDArray
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
    gains = []
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
        done.run(model, rng.choice(setting.n, size=removals, replace=False).tolist())
    return {
        "gain": float(np.mean(gains)),
        "gain_std": float(np.std(gains)),
        **done.figures(),
    }


HEADER = (
    "| data | n | k | projection | epsilon | gamma | panel | updates | gain | certified | replayed | reseeded "
    "| work mean | work 99 % | us median | us mean | us 99 % |"
)


def line(name: str, s: Setting, m: dict[str, float]) -> str:
    """One row of the table, in Markdown."""
    return (
        f"| {name} | {s.n} | {s.k} | {s.projection or '-'} | {s.epsilon:g} | {s.gamma:g} | {s.panel or 'all'} "
        f"| {s.max_iter} | {m['gain']:.1%} ± {m['gain_std']:.1%} "
        f"| {m['certified']:.1%} | {m['replayed']:.1%} | {m['reseeded']:.1%} "
        f"| {m['work_mean']:.1%} | {m['work_p99']:.1%} | {m['us_median']:.0f} | {m['us_mean']:.0f} "
        f"| {m['us_p99']:.0f} |"
    )


def settings(sizes: list[int], dim: int) -> Iterator[Setting]:
    """The grid: at each size, and the rest at the largest."""
    for n in sizes:
        for epsilon in (0.25, 0.5, 1.0, 1.5, 2.0):
            yield Setting(n, 8, None, epsilon)
        for panel in (256, 512, 2048, None):
            yield Setting(n, 8, None, 1.0, panel=panel)
        for max_iter in (3, 8):
            yield Setting(n, 8, None, 1.0, max_iter=max_iter)
        for projection in (128, 64):
            if projection < dim:
                yield Setting(n, 8, projection, 1.0)
    for gamma in (0.0, 0.5):
        yield Setting(sizes[-1], 8, None, 1.0, gamma)
    for k in (4, 32, 64):
        yield Setting(sizes[-1], k, None, 1.0)


PANELS: tuple[Literal["auto"] | None, ...] = ("auto", None)


def around(middles: Matrix, of: NDArray[np.integer[Any]], spread: float, rng: np.random.Generator) -> Matrix:
    """Rows of norm 1, each around one of some middles."""
    dim = middles.shape[1]
    return normalised(middles[of] + spread / np.sqrt(dim) * rng.standard_normal((len(of), dim)))


def small_groups(n: int, dim: int) -> tuple[Matrix, NDArray[np.integer[Any]]]:
    """Eight groups, each of half a percent of the rows, beside eight large ones; and the group of each row."""
    rng = np.random.default_rng(0)
    middles = normalised(rng.standard_normal((16, dim)))
    groups = rng.choice(16, size=n, p=[0.005] * 8 + [0.12] * 8)
    return around(middles, groups, 0.5, rng), groups


def have_their_own(labels: NDArray[np.integer[Any]], groups: NDArray[np.integer[Any]]) -> int:
    """How many of the eight small groups have a cluster of their own: at least half of the one is in the other."""
    shared = np.zeros((16, 16), dtype=int)
    np.add.at(shared, (groups, labels), 1)
    halves = (2 * shared >= shared.sum(axis=1, keepdims=True)) & (2 * shared >= shared.sum(axis=0, keepdims=True))
    return int(halves[:8].any(axis=1).sum())


def hard(real: Matrix | None, n: int) -> Iterator[tuple[str, Matrix, int]]:
    """Rows that a panel may not see as they are, each with a number of clusters."""
    rng = np.random.default_rng(0)
    dim = 32 if real is None else real.shape[1]
    middles = normalised(rng.standard_normal((40, dim)))

    yield "groups of 0.5 %", small_groups(n, dim)[0], 16
    # Sizes that fall as 1 / rank, and norms with a heavy tail.
    weights = 1 / np.arange(1, 33)
    zipf = around(middles, rng.choice(32, size=n, p=weights / weights.sum()), 0.7, rng)
    yield "heavy tails", np.asarray(zipf * (1 + rng.pareto(3, size=(n, 1))), dtype=np.float32), 8
    base = around(middles, rng.integers(40, size=n // 20), 1.0, rng) if real is None else real[: n // 20]
    yield "each row twenty times", np.repeat(base, 20, axis=0), 8


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the gain kept and the mean work of a removal by epsilon, and the gain by panel: first data set, k = 8."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    usual = {"data": rows[0]["data"], "k": 8, "projection": None, "gamma": 0.2, "max_iter": 5}
    chosen = [row for row in rows if all(row[name] == value for name, value in usual.items())]
    by_epsilon = [row for row in chosen if row["panel"] == "auto"]
    by_panel = [{**row, "panel": 1024 if row["panel"] == "auto" else row["panel"]} for row in chosen]
    by_panel = [row for row in by_panel if row["panel"] is not None and row["epsilon"] == 1.0]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    parts: tuple[tuple[list[dict[str, Any]], str, str, str, list[float]], ...] = (
        (by_epsilon, "epsilon", "gain", "gain kept of k-means, %", [0.25, 0.5, 1, 1.5, 2]),
        (by_epsilon, "epsilon", "work_mean", "work of a removal, % of a fit", [0.25, 0.5, 1, 1.5, 2]),
        (by_panel, "panel", "gain", "gain kept of k-means, %", [256, 512, 1024, 2048]),
    )
    for ax, (of, name, figure_name, title, ticks) in zip(axes, parts, strict=True):
        for n in sorted({row["n"] for row in of}):
            line = sorted((row for row in of if row["n"] == n), key=lambda row: row[name])
            ax.plot([r[name] for r in line], [100 * r[figure_name] for r in line], marker="o", label=f"n = {n:,}")
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel(name)
        ax.set_title(title, fontsize=10)
        ax.set_ylim((80, 104) if figure_name == "gain" else (0, None))
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=7.5, loc="lower left")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", help="BIG-bench task files, or .npy files of embeddings")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--removals", type=int, default=50, help="random removals for each seed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 4000, 10000])
    parser.add_argument("--plot", type=Path, help="draw gain and work by epsilon")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()

    data: dict[str, Matrix] = {}
    if options.data:
        data["embeddings"] = embed(options.data)
    blobs, _ = make_blobs(max(options.sizes), n_features=32, centers=8, cluster_std=2.0, random_state=0)
    data["blobs"] = blobs.astype(np.float32)

    lines: list[tuple[str, Matrix, Setting]] = []
    for name, X in data.items():
        sizes = sorted({min(n, len(X)) for n in options.sizes})
        lines += [(name, X, setting) for setting in settings(sizes, X.shape[1])]
    for name, X, k in hard(data.get("embeddings"), max(options.sizes)):
        lines += [(name, X, Setting(len(X), k, None, 1.0, panel=panel)) for panel in PANELS]
    rows = []
    print(HEADER, "|" + "---|" * (HEADER.count("|") - 1), sep="\n", flush=True)
    for name, X, setting in lines:
        figures = measure(X, setting, options.seeds, options.removals)
        rows.append({"data": name, **vars(setting), **figures})
        print(line(name, setting, figures), flush=True)
    n, seeds = max(options.sizes), range(options.seeds)
    X, groups = small_groups(n, 384)
    for panel in PANELS:
        models = (QKMeans(16, panel=panel, random_state=seed).fit(X) for seed in seeds)
        own = sum(have_their_own(model.labels_, groups) for model in models)
        print(f"\nsmall groups with a cluster of their own, panel {panel or 'all'}: {own} of {8 * len(seeds)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
