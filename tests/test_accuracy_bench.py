"""The arithmetic of `make accuracy`: what is computed from measured scores, and which demonstrations a row shows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from accuracy import drop_cut_off_line, shares, work
from accuracy_cost import Query, Times, interleaved, relative
from accuracy_kept import SETTING, pack, unpack
from accuracy_report import Bootstrap, Kept, Report, chance, interval, normalised_score
from accuracy_rows import (
    CLASSIFIERS,
    ROWS,
    Calibration,
    Known,
    Row,
    Task,
    clustered,
    dealt,
    neighbours,
    routed,
    support_desk,
    with_tail,
)
from erase_core.calls.calibrating import prior
from erase_core.examples.example import Example
from erase_core.llm.prompt import Template

N_SHOTS = 3


def grouped(n_groups: int = 4, size: int = 6) -> Known:
    """Examples around orthogonal directions, each group with a label of its own."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_groups), size)
    X = np.eye(8)[groups] + 0.02 * rng.standard_normal((len(groups), 8))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return Known(list(range(len(X))), X.astype(np.float32), [f"label {group}" for group in groups])


def small_task() -> Task:
    """Two options, four questions whose right answers are a, a, a, b."""
    examples = [Example(i, f"example {i}", "ab"[i % 2]) for i in range(4)]
    questions = [Example(i, f"question {i}", answer) for i, answer in enumerate("aaab")]
    return Task("small", examples, questions, ("a", "b"), Template())


def test_a_prompt_that_prefers_an_option_whatever_is_asked_loses_that_preference() -> None:
    """The prior of three inputs is the log of the mean of their probabilities."""
    free = np.log([[0.8, 0.1], [0.6, 0.2], [0.7, 0.3]])
    assert prior(free) == pytest.approx(np.log([0.7, 0.2]))
    # Scores shifted by any preference of the prompt give the same calibrated scores, up to a constant.
    shifted = free + np.array([3.0, -2.0])
    assert prior(shifted) - prior(free) == pytest.approx([3.0, -2.0])
    assert prior(np.full((3, 2), -2000.0)) == pytest.approx([-2000.0, -2000.0])


def test_each_calibration_takes_its_own_prior() -> None:
    task = small_task()
    kept = Kept()
    scores = [[0.0, -1.0]] * 4
    kept.add({"row": "windows, 3", "seed": 0, "scores": scores, "prompts": [[0, 1]], "of": [0] * 4}, "small", 4)
    row = next(row for row in ROWS if row.name == "windows, 3")
    for prompt, probabilities in (((0, 1), (0.5, 0.5)), ((0,), (0.8, 0.1)), ((1,), (0.4, 0.3)), ((), (0.9, 0.1))):
        free = np.log([probabilities] * 3).tolist()
        kept.add({"context": "windows", "prompt": prompt, "free": free}, "small", 4)
    means: dict[Calibration, tuple[float, float]] = {"prompt": (0.5, 0.5), "blocks": (0.6, 0.2), "none": (0.9, 0.1)}
    for calibration, mean in means.items():
        found = kept.calibrated(task.name, row, 0, calibration)
        assert found == pytest.approx(scores - np.log(mean))
    del kept.free["small", "windows", (1,)]
    assert kept.calibrated(task.name, row, 0, "blocks") is None


def test_the_score_is_0_for_the_best_constant_answer_and_100_if_all_is_right() -> None:
    right = [0, 0, 0, 1, 2, 0, 1, 0]
    constant = np.array([np.mean(np.array(right) == option) for option in range(4)])
    assert chance(right, 4) == constant.max()
    scores = normalised_score(constant, chance(right, 4))
    assert scores.max() == 0
    assert normalised_score(np.array(1.0), chance(right, 4)) == 100


def test_the_bootstrap_has_the_variance_of_questions_and_of_seeds() -> None:
    """With p right of n independent answers the variance of the mean is p (1 - p) / n, along either axis."""
    bootstrap = Bootstrap({"task": 80}, n=20_000)
    answers = np.arange(80) < 20
    by_question = bootstrap.accuracies("task", np.tile(answers, (10, 1)))
    assert by_question.mean() == pytest.approx(0.25, abs=0.002)
    assert by_question.var() == pytest.approx(0.25 * 0.75 / 80, rel=0.05)
    low, high = interval(by_question)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 * 0.75 / 80) ** 0.5, rel=0.1)
    by_seed = bootstrap.accuracies("task", np.tile(answers[15:25], (80, 1)).T)
    assert by_seed.var() == pytest.approx(0.5 * 0.5 / 10, rel=0.05)


def test_rows_are_compared_on_the_same_resampled_questions() -> None:
    """A row that is right on one question more is never worse, and a row equals itself exactly."""
    bootstrap = Bootstrap({"task": 30})
    answers = np.arange(30) < 10
    worse, same = (bootstrap.accuracies("task", answers[None]) for _ in range(2))
    better = bootstrap.accuracies("task", (np.arange(30) < 11)[None])
    assert (worse == same).all()
    assert (better >= worse).all()
    assert (better > worse).any()


def test_the_table_has_the_rows_that_were_measured_and_a_score_only_of_all_tasks() -> None:
    task = small_task()
    kept = Kept()
    for name, scores in (("none", [[0, -1]] * 4), ("knn", [[0, -1]] * 3 + [[-1, 0]])):
        kept.add({"row": name, "seed": 0, "scores": scores, "prompts": [[]], "of": [0] * 4}, "small", 4)
    report = Report(kept, [task], 4)
    none, knn = report.find("none"), report.find("knn")
    assert none is not None
    assert knn is not None
    assert (none.score, knn.score) == (0, 100)
    assert "| knn |  | 1.00 | 100.0 " in report.table({})
    assert "| 100% | 1 |  |" in report.table({})
    two = Report(kept, [task, Task("other", task.examples, task.questions, task.options, task.template)], 4)
    assert [line.scores for line in two.lines] == [None, None]


def test_shots_are_dealt_in_turn_the_largest_labels_first() -> None:
    counts = Counter(a=5, b=1, c=9, d=5)
    for seed in range(5):
        first, second, third, last = dealt(counts, 6, seed).items()
        assert (first, last) == (("c", 2), ("b", 1))
        # Four are dealt in the first turn, and two more in the second: to c, and to a or d, which are of one size.
        assert {second[0], third[0]} == {"a", "d"}
        assert (second[1], third[1]) == (2, 1)
        assert list(dealt(counts, 1, seed).items()) == [("c", 1)]
        assert dealt(counts, 100, seed) == counts
    assert len({tuple(dealt(counts, 2, seed)) for seed in range(20)}) == 2


def test_a_routed_query_is_shown_the_examples_nearest_to_its_centre_the_nearest_last() -> None:
    known = grouped()
    fitted = routed(4, True, known, 0, N_SHOTS)
    centres = clustered(known, 4, 0).cluster_centers_
    for query in (*np.eye(8, dtype=np.float32)[:4], *known.X):
        centre = centres[np.linalg.norm(centres - query, axis=1).argmin()]
        (members,) = np.nonzero(
            np.array(known.labels) == known.labels[int(np.linalg.norm(known.X - centre, axis=1).argmin())]
        )
        order = np.argsort(np.linalg.norm(known.X[members] - centre, axis=1))
        assert fitted.select(query) == tuple(members[order][:N_SHOTS][::-1].tolist())
    assert len(set(fitted.warm)) == 4
    assert {prompt[::-1] for prompt in routed(4, False, known, 0, N_SHOTS).warm} == set(fitted.warm)


def test_neighbours_are_shown_the_nearest_last_and_a_tail_is_not_in_its_head() -> None:
    known = grouped()
    query = known.X[7]
    nearest = np.argsort(np.linalg.norm(known.X - query, axis=1))
    assert neighbours(4, True, known, 0, N_SHOTS).select(query) == tuple(nearest[:4][::-1])
    assert len(neighbours(None, True, known, 0, N_SHOTS).select(query)) == N_SHOTS
    shown = with_tail(3, known, 0, N_SHOTS).select(query)
    assert shown[-3:] == tuple(nearest[:3][::-1])
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_shows_examples_that_are_there_and_none_that_was_removed(row: Row) -> None:
    known = grouped()
    without = known.without(7)
    for query in known.X[::5]:
        shown = row.fit(without, 1, N_SHOTS).select(query)
        assert set(shown) <= set(without.ids)
        assert len(set(shown)) == len(shown)
        assert row.fit(without, 1, N_SHOTS).select(query) == shown


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_that_are_far_apart_need_no_language_model(name: str) -> None:
    known = grouped()
    options = sorted(set(known.labels), reverse=True)
    found = CLASSIFIERS[name](known, options)(known.X).argmax(axis=1)
    assert [options[place] for place in found] == known.labels


def test_a_tie_of_votes_goes_to_the_nearer_label() -> None:
    angles = np.array([0.1, 0.2, 0.25, 0.5])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    votes = CLASSIFIERS["vote of 8 neighbours (no language model)"](
        Known([0, 1, 2, 3], X, ["a", "b", "b", "a"]), ["b", "a"]
    )
    assert votes(np.array([[1, 0]], dtype=np.float32)).argmax(axis=1) == [1]


def test_all_shipped_questions_are_asked_and_none_is_among_the_examples() -> None:
    task = support_desk()
    assert (len(task.examples), len(task.questions)) == (320, 140)
    assert {e.input for e in task.examples}.isdisjoint(q.input for q in task.questions)
    assert {q.output for q in task.questions} <= set(task.options)


def test_the_parts_have_about_equal_shares_and_a_group_is_never_divided() -> None:
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 5, size=200).tolist()
    groups = rng.integers(60, size=200).tolist()
    owners = shares(groups, seconds, 3)
    load = np.bincount(owners, weights=seconds, minlength=3)
    assert load.max() - load.min() <= np.bincount(groups, weights=seconds).max()
    assert len(set(zip(groups, owners, strict=True))) == len(set(groups))
    assert shares(groups, seconds, 1) == [0] * 200


def test_the_first_seed_of_all_tasks_comes_first() -> None:
    items = list(work([small_task(), support_desk()], 3))
    assert [item.seed for item in items] == sorted(item.seed for item in items)
    assert len({item.key for item in items}) == len(items)
    assert len(items) == 2 * (len(ROWS) + 2 * sum(row.drawn for row in ROWS))


def test_a_line_that_was_cut_off_is_not_read_and_dropped_before_more_is_written(tmp_path: Path) -> None:
    task = small_task()
    record = {"data": task.digest, "row": "none", "seed": 0, "scores": [[0, -1]] * 4, "prompts": [[]], "of": [0] * 4}
    file = tmp_path / "part.jsonl"
    file.write_text(json.dumps(record) + "\n" + json.dumps(record | {"seed": 1})[:40])
    assert list(Kept.read(tmp_path, [task], 4).runs) == [("small", "none", 0)]
    drop_cut_off_line(file)
    assert file.read_text() == json.dumps(record) + "\n"


def test_what_was_measured_on_other_data_or_fewer_questions_is_not_used(tmp_path: Path) -> None:
    task = small_task()
    record = {"data": task.digest, "row": "none", "seed": 0, "scores": [[0, -1]] * 3, "prompts": [[]], "of": [0] * 3}
    lines = [record, record | {"data": "other", "seed": 1}]
    (tmp_path / "part.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(Kept.read(tmp_path, [task], 3).runs) == [("small", "none", 0)]
    assert list(Kept.read(tmp_path, [task], 4).runs) == []


def test_costs_are_medians_of_ratios_in_one_round_and_a_first_call_is_not_counted() -> None:
    calls: list[str] = []

    def query(name: str, seconds: float) -> Query:
        def call(text: str) -> Times:
            calls.append(name)
            # A machine that is ten times as slow during a question changes no ratio.
            slow = 10.0 if text == "slow" else 1.0
            return Times(seconds * slow, seconds * slow / 2)

        return call

    queries = {"none": query("none", 1.0), "other": query("other", 3.0)}
    times = interleaved(queries, ["a", "slow", "c"])
    assert calls == ["none", "other"] * 2 + ["none", "other", "other", "none"] + ["none", "other"] * 2
    calls.clear()
    interleaved(queries, ["a"], cold={"other"})
    assert calls == ["none", "none", "other"]
    assert relative(times, "none") == {
        "none": {"ratio": 1.0, "model ratio": 1.0},
        "other": {"ratio": 3.0, "model ratio": 3.0},
    }


# ---- rows in the repository ----
def test_rows_of_the_repository_begin_a_folder_of_results(tmp_path: Path) -> None:
    kept, folder, other = tmp_path / "rows.xz", tmp_path / "results", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    unpack(other, kept)
    assert not [*other.iterdir()]  # there are none yet

    (folder / SETTING).write_text('{"llm": "small", "shots": 8}')
    (folder / "part-1.jsonl").write_text('{"row": "b"}\n{"row": "a"}\n{"row": "cut of')
    (folder / "part-2.jsonl").write_text('{"row": "a"}\n')
    pack(folder, kept)
    unpack(other, kept)
    assert (other / "kept.jsonl").read_text() == '{"row": "a"}\n{"row": "b"}\n'
    assert json.loads((other / SETTING).read_text()) == {"llm": "small", "shots": 8}

    (other / "part-1.jsonl").write_text('{"row": "c"}\n')
    pack(other, kept)
    unpack(folder, kept)  # it has rows already
    assert not (folder / "kept.jsonl").exists()
    (folder / SETTING).unlink()
    unpack(folder, kept)
    assert (folder / "kept.jsonl").read_text().count("\n") == 3
