"""The arithmetic of `make scale`: times that follow from costs, and what is written into the page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scale_page import END, START, Check, duration, page, power, put_between, size
from scale_times import HERE, Assumed, Costs, Simulation

FREE: dict[str, Any] = dict.fromkeys(Costs.__dataclass_fields__, 0)
NOTHING = Costs(**FREE | {"panel": 100})
IDEAL = Assumed(bandwidth=float("inf"), latency=0.0, disk=float("inf"), straggler=1.0)


def of(n: int, workers: int, assumed: Assumed = IDEAL, **costs: Any) -> Simulation:
    return Simulation(replace(NOTHING, **costs), assumed, n, workers)


def test_passes_are_divided_among_workers_and_wait_for_the_slowest() -> None:
    assert of(1000, 4, load=2.0, smallest=3.0, assign=5.0).fit == 2500
    assert of(1001, 4, load=2.0, smallest=3.0, assign=5.0).fit == 2510
    assert of(1000, 4, replace(IDEAL, straggler=1.5), load=2.0, smallest=3.0, assign=5.0).fit == 3750
    assert of(1000, 4, panel_fit=7.0).fit == of(10, 1, panel_fit=7.0).fit == 7


def test_a_slow_disk_counts_instead_of_the_reading() -> None:
    slow = replace(IDEAL, disk=4.0)
    assert of(1000, 1, slow, load=2.0, stored=40).fit == 10_000
    assert of(1000, 1, slow, load=11.0, stored=40).fit == 11_000


def test_the_coordinator_takes_candidates_of_all_workers() -> None:
    # The panel has 100 rows, which one worker sends too.
    assert of(1000, 1, candidate=1.0).fit == 0
    assert of(1000, 4, candidate=1.0).fit == 300
    # Workers with fewer rows than the panel send what they have.
    assert of(200, 4, candidate=1.0).fit == 100
    assert of(1000, 4, row=10).candidates == 4000
    assert of(1000, 4, replace(IDEAL, bandwidth=8.0), row=10).fit == pytest.approx(500)


def test_a_trip_has_one_latency_and_a_message_for_each_further_worker() -> None:
    here = of(1000, 5, replace(IDEAL, latency=1.0, bandwidth=10.0), trip=2.0, message=0.25, byte=0.4)
    assert here.trip() == pytest.approx(2 + 1 + 4 * 0.25)
    assert here.trip(20) == pytest.approx(4 + 5 * 20 * (0.4 + 0.1))


def test_a_removal_off_the_panel_does_not_depend_on_the_rows() -> None:
    costs: dict[str, Any] = {
        "off": 1.0,
        "trip": 2.0,
        "message": 0.5,
        "merge": 0.125,
        "again": 9.0,
        "on": 9.0,
        "moved": 1.0,
    }
    assert of(10**4, 3, **costs).off == of(10**10, 3, **costs).off == 1 + 2 + 2 * 0.5 + 2 * 0.125


def test_a_removal_on_the_panel_has_a_pass_if_centres_move() -> None:
    assert of(1000, 2, on=3.0, again=4.0, moved=0.0).on == 3
    assert of(1000, 2, on=3.0, again=4.0, moved=0.25).on == 3 + 0.25 * 500 * 4
    assert of(1000, 2, trip=1.0, moved=1.0).on == 2


def test_the_mean_has_the_panels_share() -> None:
    assert of(1000, 1, off=10.0, on=90.0).mean == pytest.approx(10 + 0.1 * 90)
    # All rows are on the panel.
    assert of(50, 1, off=10.0, on=90.0).mean == pytest.approx(100)


def test_memory_is_that_of_the_fullest_worker() -> None:
    simulated = of(1001, 2, replace(IDEAL, memory=5010.0), held=10)
    assert simulated.memory == 5010
    assert simulated.fits
    assert not of(1003, 2, replace(IDEAL, memory=5010.0), held=10).fits


def test_comparing_ids_sends_eight_bytes_of_each() -> None:
    assert of(1000, 2, replace(IDEAL, bandwidth=4.0)).comparing == 2000
    assert of(1000, 2, sort=1.0).comparing == 1000 + 500


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00012, "0.1 ms"), (0.0123, "12 ms"), (1.26, "1.3 s"), (59.0, "59 s"), (90.0, "1.5 min"), (7200.0, "2.0 h")],
)
def test_times_have_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_and_powers() -> None:
    assert (size(2**30 / 2), size(31 * 2.0**30)) == ("0.5 GiB", "31 GiB")
    assert (power(10**7), power(12)) == ("10^7", "12")


def test_the_page_shows_ratios_and_what_does_not_fit() -> None:
    costs = replace(NOTHING, load=1e-6, held=1000, row=10)
    made = page(costs, Assumed(), [Check(50, "fit", 3.0, 2.0)], "on a test")
    assert "| 50 | fit | 3.0 s | 2.0 s | 1.50 |" in made
    lines = [line for line in made.splitlines() if line.startswith("| 10^10 |")]
    # 10^10 rows of 1000 bytes are 93 GiB for each of 100 workers.
    assert lines[0].endswith(" min) |")
    assert lines[1].endswith(" 93 GiB |")
    assert put_between(f"a\n{START}\nold\n{END}\nb", made).count(made) == 1


def test_only_what_is_between_the_markers_changes() -> None:
    text = f"before\n{START}\nolder\n{END}\nafter\n"
    once = put_between(text, "made")
    assert once == f"before\n{START}\n\nmade\n{END}\nafter\n"
    assert put_between(once, "made") == once


def test_here_there_is_no_network() -> None:
    assert Simulation(NOTHING, HERE, 1000, 2).trip(10**9) == 0
