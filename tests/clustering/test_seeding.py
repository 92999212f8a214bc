"""The distribution of the seeds: over many seeds, trials propose rows and rounds choose them as greedy k-means++ does.

The probabilities are enumerated exactly and compared by chi-square. Draws are fixed, so a run passes always or never.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cache

import oracle
import pytest
from erase_core._core import Model
from fits import Config, Id, Row, fresh, id_list, matrix, oracle_fit

DRAWS = 40_000

SEVEN: dict[Id, Row] = {
    1: [0.0, 0.25], 2: [1.5, 0.5], 3: [-0.5, 1.75], 4: [2.0, -1.0], 5: [-1.5, -1.0], 6: [0.75, 2.5], 7: [-2.5, 0.5],
}  # fmt: skip
OTHERS: dict[Id, Row] = {8: [0.25, 0.25], 9: [3.0, 3.0], 10: [1.5, 0.5], 11: [-2.5, -0.25]}
CONFIG = Config(n_clusters=3, max_iter=1, max_norm=8.0, d=2)

Choice = tuple[Id, ...]
Chances = dict[Choice, Fraction]


# ---- the exact probabilities ----
def integer_rows(rows: Mapping[Id, Row]) -> dict[Id, list[int]]:
    """The rows as the seeding sees them."""
    fitted = oracle_fit(rows, CONFIG)
    return dict(zip(fitted.ids, fitted.rows, strict=True))


def weights(at: Mapping[Id, list[int]], before: Choice) -> dict[Id, int]:
    """Squared distances to the nearest row chosen; 1 if there is none."""
    return {i: min((oracle.distance(x, at[c]) for c in before), default=1) for i, x in at.items()}


def proposal(at: Mapping[Id, list[int]], before: Choice, power: int = 1) -> dict[Id, Fraction]:
    """The chances of each row in one trial: in proportion to a power of its weight, by rights the first."""
    w = {i: v**power if v else 0 for i, v in weights(at, before).items()}
    return {i: Fraction(v, sum(w.values())) for i, v in w.items()}


def choice(
    at: Mapping[Id, list[int]], before: Choice, trials: int = oracle.TRIALS, power: int = 1
) -> dict[Id, Fraction]:
    """The chances of each row to have the smallest potential of the proposals, the first of several."""
    chances, w = proposal(at, before, power), weights(at, before)
    if not before:
        return chances
    potential = {c: sum(min(w[i], oracle.distance(x, at[c])) for i, x in at.items()) for c in at}
    result = {}
    for c, p in chances.items():
        worse = sum((q for i, q in chances.items() if potential[i] > potential[c]), Fraction(0))
        as_good = sum(q for i, q in chances.items() if potential[i] == potential[c])
        result[c] = ((worse + as_good) ** trials - worse**trials) * p / as_good if p else Fraction(0)
    return result


def choices_of_three(rows: Mapping[Id, Row], trials: int = oracle.TRIALS, power: int = 1) -> Chances:
    """The probability of every ordered choice of 3 rows."""
    at = integer_rows(rows)
    result: Chances = {}
    for ids in itertools.permutations(at, 3):
        result[ids] = Fraction(1)
        for r, id_ in enumerate(ids):
            result[ids] *= choice(at, ids[:r], trials, power)[id_]
    assert sum(result.values()) == 1
    return result


# ---- the comparison ----
# The quantiles of chi-square at 1 - 1e-4, by degrees of freedom.
CRITICAL = {53: 100.06, 107: 170.12, 121: 187.56, 170: 247.26, 1057: 1236.6}


def chi_square(seen: Iterable[Choice], chances: Chances) -> tuple[float, int]:
    """The statistic and the degrees of freedom; whatever is expected less than 8 times counts as one cell."""
    counts = Counter(seen)
    assert not counts.keys() - {what for what, p in chances.items() if p > 0}
    total = counts.total()
    cells: list[tuple[int, Fraction]] = [(counts[what], total * p) for what, p in chances.items() if total * p >= 8]
    rare = total - sum((p for _, p in cells), Fraction(0))
    if rare:
        cells.append((total - sum(n for n, _ in cells), rare))
    return float(sum((n - p) ** 2 / p for n, p in cells)), len(cells) - 1


# ---- ways to the same set ----
def config(seed: int) -> Config:
    return Config(**{**vars(CONFIG), "seed": seed})


def add(model: Model, rows: Mapping[Id, Row]) -> None:
    model.add(matrix(list(rows.values()), 2), id_list(list(rows)))


def fitted(seed: int) -> Model:
    return fresh(SEVEN, config(seed))


def fitted_with_far_apart_seeds(seed: int) -> Model:
    return fitted(seed * 0x9E3779B97F4A7C15 % 2**64)


def fitted_with_one_seed_and_other_ids(number: int) -> Model:
    """The draws are keyed by the ids too, so they may vary instead."""
    return fresh({10 * number + id_: row for id_, row in SEVEN.items() if isinstance(id_, int)}, config(5))


def after_removals(seed: int) -> Model:
    model = fresh(SEVEN | OTHERS, config(seed))
    for id_ in OTHERS:
        model.remove(id_)
    return model


def after_additions(seed: int) -> Model:
    model = fresh({id_: SEVEN[id_] for id_ in (3, 6)}, config(seed))
    add(model, {id_: SEVEN[id_] for id_ in (7, 1, 4, 2, 5)})
    return model


def after_both(seed: int) -> Model:
    """Rows that were seeds go and come back."""
    model = fresh(SEVEN | OTHERS, config(seed))
    gone = [id_ for id_ in model.seeds() if id_ in SEVEN]
    model.remove(id_list([*gone, *OTHERS]))
    if gone:
        add(model, {id_: SEVEN[id_] for id_ in gone})
    return model


WAYS = [fitted, fitted_with_far_apart_seeds, fitted_with_one_seed_and_other_ids]
WAYS += [after_removals, after_additions, after_both]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def chosen(model: Model) -> Choice:
    """The seeds, by their ids in SEVEN."""
    return tuple(int(id_) % 10 for id_ in model.seeds())


# Trials of one draw and of several: see section 4.
SOME_TRIALS = (0, 1, 5)


def proposed(model: Model) -> tuple[Choice, Choice]:
    """What some trials of the rounds 1 and 2 proposed."""
    first, second = ([int(id_) % 10 for id_ in trials] for trials in model.proposals()[1:])
    assert len(first) == len(second) == oracle.TRIALS
    return tuple(first[trial] for trial in SOME_TRIALS), tuple(second[trial] for trial in SOME_TRIALS)


@cache
def outcomes(way: Callable[[int], Model]) -> list[tuple[Choice, tuple[Choice, Choice]]]:
    """Seeds and proposals of all draws."""
    return [(chosen(model), proposed(model)) for model in map(way, range(DRAWS))]


# ---- the laws ----
@each_way
def test_rounds_choose_as_greedy_k_means_plus_plus_does(way: Callable[[int], Model]) -> None:
    statistic, degrees = chi_square((seeds for seeds, _ in outcomes(way)), choices_of_three(SEVEN))
    assert statistic < CRITICAL[degrees]


@each_way
def test_trials_of_a_round_are_independent_draws(way: Callable[[int], Model]) -> None:
    at = integer_rows(SEVEN)
    chances: Chances = {}
    for first in at:
        p = proposal(at, (first,))
        for a, b, c in itertools.product(at, repeat=3):
            chances[first, a, b, c] = Fraction(1, len(at)) * p[a] * p[b] * p[c]
    statistic, degrees = chi_square(((seeds[0], *trials[0]) for seeds, trials in outcomes(way)), chances)
    assert statistic < CRITICAL[degrees]


@each_way
@pytest.mark.parametrize("trial", range(len(SOME_TRIALS)))
def test_trials_of_a_later_round_depend_on_what_was_chosen_alone(way: Callable[[int], Model], trial: int) -> None:
    at = integer_rows(SEVEN)
    chances: Chances = {}
    for first, second, third in itertools.product(at, repeat=3):
        p = choice(at, (first,))[second] * proposal(at, (first, second))[third]
        chances[first, second, third] = Fraction(1, len(at)) * p
    statistic, degrees = chi_square(((*seeds[:2], trials[1][trial]) for seeds, trials in outcomes(way)), chances)
    assert statistic < CRITICAL[degrees]


@pytest.mark.parametrize(("trials", "power"), [(1, 1), (3, 1), (6, 1), (8, 0), (8, 2)])
def test_the_comparison_would_notice_another_seeding(trials: int, power: int) -> None:
    """More or fewer trials, uniform proposals, squares of squared distances."""
    seen = (seeds for seeds, _ in outcomes(fitted))
    statistic, degrees = chi_square(seen, choices_of_three(SEVEN, trials, power))
    assert statistic > 2 * degrees > 100  # more than the quantile of so many degrees


def test_a_duplicate_of_a_seed_is_not_a_seed_while_others_are_left() -> None:
    corners: list[Row] = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.875]]
    rows: dict[Id, Row] = {id_: corners[id_ % 3] for id_ in range(6)}
    possible = {ids for ids, p in choices_of_three(rows).items() if p > 0}
    assert len(possible) == 6 * 4 * 2
    assert {tuple(fresh(rows, config(seed)).seeds()) for seed in range(40_000)} == possible
