"""The distribution of the seeds: over many seeds, the race chooses rows with the probabilities of k-means++.

The probabilities are enumerated exactly and compared by chi-square. Draws are fixed, so a run passes always or never.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

import oracle
import pytest
from erase_core._core import Model
from support import Config, Id, Row, fresh, id_list, matrix, oracle_fit

DRAWS = 40_000
# The quantile of chi-square at 1 - 1e-4 with 209 degrees of freedom: 7 rows have 7 * 6 * 5 ordered choices of 3.
CRITICAL = 293.72

SEVEN: dict[Id, Row] = {
    1: [0.0, 0.25], 2: [1.5, 0.5], 3: [-0.5, 1.75], 4: [2.0, -1.0], 5: [-1.5, -1.0], 6: [0.75, 2.5], 7: [-2.5, 0.5],
}  # fmt: skip
OTHERS: dict[Id, Row] = {8: [0.25, 0.25], 9: [3.0, 3.0], 10: [1.5, 0.5], 11: [-2.5, -0.25]}
CONFIG = Config(n_clusters=3, max_iter=1, max_norm=8.0, d=2)

Choice = tuple[Id, ...]


def probabilities(rows: Mapping[Id, Row], power: int = 1) -> dict[Choice, Fraction]:
    """The probability of every ordered choice of 3 rows, with weights the squared distances to this power."""
    fitted = oracle_fit(rows, CONFIG)
    at = dict(zip(fitted.ids, fitted.rows, strict=True))
    result: dict[Choice, Fraction] = {}
    for choice in itertools.permutations(at, 3):
        probability = Fraction(1, len(at))
        for r in (1, 2):
            weights = {i: min(oracle.distance(x, at[c]) for c in choice[:r]) ** power for i, x in at.items()}
            probability *= Fraction(weights[choice[r]], sum(weights.values()))
        result[choice] = probability
    assert sum(result.values()) == 1
    return result


def chi_square(choices: Iterable[Choice], expected: Mapping[Choice, Fraction]) -> float:
    """The statistic; every choice must be a possible one."""
    counts = Counter(choices)
    assert not counts.keys() - {choice for choice, p in expected.items() if p > 0}
    total = counts.total()
    assert min(p for p in expected.values()) * total >= 5
    return float(sum((counts[choice] - total * p) ** 2 / (total * p) for choice, p in expected.items()))


def config(seed: int) -> Config:
    return Config(**{**vars(CONFIG), "seed": seed})


def add(model: Model, rows: Mapping[Id, Row]) -> None:
    model.add(matrix(list(rows.values()), 2), id_list(list(rows)))


# ---- ways to the same set ----
def fitted(seed: int) -> Choice:
    return tuple(fresh(SEVEN, config(seed)).seeds())


def fitted_with_far_apart_seeds(seed: int) -> Choice:
    return tuple(fresh(SEVEN, config(seed * 0x9E3779B97F4A7C15 % 2**64)).seeds())


def fitted_with_one_seed_and_other_ids(number: int) -> Choice:
    """The draws are keyed by the ids too, so they may vary instead."""
    seeds = fresh({f"{number} {id_}": row for id_, row in SEVEN.items()}, config(5)).seeds()
    return tuple(int(str(id_).split()[1]) for id_ in seeds)


def after_removals(seed: int) -> Choice:
    model = fresh(SEVEN | OTHERS, config(seed))
    for id_ in OTHERS:
        model.remove(id_)
    return tuple(model.seeds())


def after_additions(seed: int) -> Choice:
    model = fresh({id_: SEVEN[id_] for id_ in (3, 6)}, config(seed))
    add(model, {id_: SEVEN[id_] for id_ in (7, 1, 4, 2, 5)})
    return tuple(model.seeds())


def after_both(seed: int) -> Choice:
    """Rows that were seeds go and come back."""
    model = fresh(SEVEN | OTHERS, config(seed))
    gone = [id_ for id_ in model.seeds() if id_ in SEVEN]
    model.remove([*range(8, 12), *(id_ for id_ in gone if isinstance(id_, int))])
    if gone:
        add(model, {id_: SEVEN[id_] for id_ in gone})
    return tuple(model.seeds())


WAYS = [
    fitted,
    fitted_with_far_apart_seeds,
    fitted_with_one_seed_and_other_ids,
    after_removals,
    after_additions,
    after_both,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_seeds_have_the_probabilities_of_k_means_plus_plus(way: Callable[[int], Choice]) -> None:
    assert chi_square(map(way, range(DRAWS)), probabilities(SEVEN)) < CRITICAL


@pytest.mark.parametrize("power", [0, 2])
def test_the_comparison_would_notice_other_weights(power: int) -> None:
    """Uniform choices among all rows but those chosen, and squares of squared distances, are far off."""
    choices = list(map(fitted, range(DRAWS)))
    others = probabilities(SEVEN, power) if power else dict.fromkeys(probabilities(SEVEN), Fraction(1, 210))
    total = len(choices)
    counts = Counter(choices)
    assert sum((counts[choice] - total * p) ** 2 / (total * p) for choice, p in others.items()) > 10 * CRITICAL


def test_a_duplicate_of_a_seed_is_never_a_seed() -> None:
    rows: dict[Id, Row] = {1: [0.0, 0.0], 2: [0.0, 0.0], 3: [1.0, 0.0], 4: [1.0, 0.0], 5: [0.0, 2.0], 6: [0.0, 2.0]}
    choices = {tuple(fresh(rows, config(seed)).seeds()) for seed in range(2000)}
    possible = {choice for choice, p in probabilities(rows).items() if p > 0}
    assert len(possible) == 48
    assert choices == possible
