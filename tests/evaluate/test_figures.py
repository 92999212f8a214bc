"""Figures and their intervals, how a page writes them, and how results come into the documentation."""

from __future__ import annotations

import numpy as np
import pytest
from erase_core.evaluate.report.audit_tables import share
from erase_core.evaluate.report.figures import figure, of_correct, of_costs, rounded, shown
from erase_core.evaluate.tasks.task import Scale
from evaluation_page import BEGIN, END, with_results


def test_an_accuracy_is_the_mean_of_all_answers_and_its_score_a_line_through_chance_and_one() -> None:
    correct = np.array([[1, 0, 1, 1], [1, 1, 1, 0]])
    found, score = of_correct(correct), of_correct(correct, Scale(0.25))
    assert (found["value"], found["n"]) == (0.75, 8)
    assert score["value"] == pytest.approx(100 * (0.75 - 0.25) / 0.75)
    assert found["low"] is not None
    assert score["low"] == pytest.approx(100 * (found["low"] - 0.25) / 0.75)


def test_the_interval_of_an_accuracy_is_about_that_of_a_binomial() -> None:
    draws = np.random.default_rng(0)
    found = of_correct(draws.random((1, 400)) < 0.7)
    half = 1.96 * (found["value"] * (1 - found["value"]) / 400) ** 0.5
    assert found["low"] == pytest.approx(found["value"] - half, abs=0.01)
    assert found["high"] == pytest.approx(found["value"] + half, abs=0.01)


def test_equal_measurements_have_an_interval_of_no_width_and_one_has_none() -> None:
    assert of_costs([2.0, 2.0, 2.0]) == figure(2.0, 2.0, 2.0, 3)
    assert of_costs([2.0]) == figure(2.0)
    assert shown(of_costs([2.0])) == "2.0; n=1"


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 12)])
def test_wilsons_interval_solves_its_equation(k: int, n: int) -> None:
    """A bound b is where (p - b)^2 = z^2 b (1 - b) / n (Wilson, 1927)."""
    found = share(k, n)
    for bound in (found["low"], found["high"]):
        assert bound is not None
        assert (k / n - bound) ** 2 == pytest.approx(1.959963984540054**2 * bound * (1 - bound) / n, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.5, "0.50"),
        (12.345, "12"),
        (1234.5, "1 234"),
        (0.0123, "0.012"),
        (3e-7, "3e-07"),
        (-0.02, "-0.020"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert rounded(value) == text


def test_bounds_that_are_infinite_or_missing_are_said() -> None:
    assert shown(figure(5.0, 2.0, float("inf"), 4)) == "5.0 (2.0 to ∞); n=4"
    assert shown(None) == "-"


def test_results_replace_the_ones_before_one_level_lower() -> None:
    page = f"# Page\n\nwords\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n"
    made = with_results(page, "# Results\n\n## Cost\n\n| a |\n")
    assert made == f"# Page\n\nwords\n\n{BEGIN}\n\n## Results\n\n### Cost\n\n| a |\n\n{END}\n\nafter\n"
    assert with_results(made, "# Results\n\n## Cost\n\n| a |\n") == made
    with pytest.raises(SystemExit):
        with_results("# Page\n", "# Results\n")
