"""Tasks: what the pool and the test have, which options there are, and what is refused."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.errors import ParameterError, SourceError
from erase_core.evaluate.tasks.loading import Limits, load_task
from erase_core.evaluate.tasks.near_twins import groups_of, near_twins
from erase_core.evaluate.tasks.task import Scale, Task, TaskReport
from hypothesis import given
from hypothesis import strategies as st

WORDS = [f"word{i}" for i in range(60)]
LABELS = ("one", "two", "three")


def rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of eight random words, so that hardly two are near twins."""
    draws = np.random.default_rng(seed)
    return [
        {"input": " ".join(draws.choice(WORDS, 8, replace=False)), "output": LABELS[i % len(LABELS)]} for i in range(n)
    ]


def written(folder: Path, content: list[dict[str, Any]], name: str = "task.jsonl") -> Path:
    file = folder / name
    file.write_text("\n".join(json.dumps(row) for row in content))
    return file


def big_bench(folder: Path, n: int, **keys: object) -> Path:
    examples = [
        {"input": row["input"], "target_scores": {label: float(label == row["output"]) for label in LABELS}}
        for row in rows(n)
    ]
    file = folder / "setup.json"
    file.write_text(json.dumps({"task_prefix": "Say one, two or three.", "examples": examples, **keys}))
    return file


def sides(task: Task) -> dict[str, str]:
    return {e.input: side for side, part in (("pool", task.pool), ("test", task.test)) for e in part}


def report_of(task: Task) -> TaskReport:
    assert task.report is not None
    return task.report


# ---- twins ----
def jaccard(a: str, b: str) -> float:
    first, second = set(a.split()), set(b.split())
    return len(first & second) / len(first | second) if first | second else 1.0


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6).map(" ".join), min_size=2, max_size=12))
def test_near_twins_are_the_pairs_above_the_threshold(texts: list[str]) -> None:
    texts = ["\n".join([text, "the same line"]) for text in texts]
    different = [text.splitlines()[0] for text in texts]
    if len(set(different)) == 1:  # then that line, too, stands everywhere
        return
    wanted = {(i, j) for i, j in combinations(range(len(texts)), 2) if jaccard(different[i], different[j]) >= 0.6}
    assert {(a, b) for a, b in near_twins(texts, 0.6).tolist()} == wanted


def test_case_and_punctuation_make_no_difference() -> None:
    assert near_twins(["Put it on, please!", "put it on please", "take it off"]).tolist() == [[0, 1]]


def test_groups_are_connected() -> None:
    assert sorted(groups_of(6, np.array([[0, 2], [2, 5], [3, 4]]))) == [[0, 2, 5], [1], [3, 4]]


# ---- the split ----
@given(seed=st.integers(0, 2**32), at=st.integers(0, 79))
def test_the_split_is_decided_by_content(tmp_path_factory: pytest.TempPathFactory, seed: int, at: int) -> None:
    folder = tmp_path_factory.mktemp("tasks")
    content = rows(80, seed % 1000)
    for i in range(0, 40, 2):  # pairs of near twins
        content[i + 1]["input"] = " ".join([*content[i]["input"].split()[1:], "new"])
    whole = load_task(written(folder, content), limits=Limits(seed=seed))
    less = load_task(written(folder, [*content[:at], *content[at + 1 :]][::-1]), limits=Limits(seed=seed))
    twins = {i for i, j in near_twins([row["input"] for row in content]).tolist() if j == at}
    twins |= {j for i, j in near_twins([row["input"] for row in content]).tolist() if i == at}
    excepted = {content[place]["input"] for place in {at, *twins}}
    assert {k: v for k, v in sides(whole).items() if k not in excepted} == {
        k: v for k, v in sides(less).items() if k not in excepted
    }


@given(seed=st.integers(0, 2**32))
def test_near_twins_are_on_one_side(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    content = rows(60)
    # Chains of three: the first and the last are twins only by the one between them.
    for i in range(0, 30, 3):
        words = content[i]["input"].split()
        content[i + 1]["input"] = " ".join([*words[1:], "new1"])
        content[i + 2]["input"] = " ".join([*words[2:], "new1", "new2"])
    task = load_task(written(tmp_path_factory.mktemp("tasks"), content), limits=Limits(seed=seed, test_share=0.4))
    side = sides(task)
    for i in range(0, 30, 3):
        assert len({side[content[i + j]["input"]] for j in range(3)}) == 1
    report = report_of(task)
    assert (report.n_twins, report.n_groups, report.largest_group) == (30, 10, 3)


def test_large_groups_are_tested_as_often_as_small_ones(tmp_path: Path) -> None:
    content = rows(90)
    words = content[0]["input"].split()
    for i in range(8):  # one group of eight
        content[i]["input"] = " ".join([*words[:7], f"new{i}"])
    file = written(tmp_path, content)
    n = 300
    tested = sum(sides(load_task(file, limits=Limits(seed=seed)))[content[0]["input"]] == "test" for seed in range(n))
    assert abs(tested / n - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5


def test_the_test_has_about_its_share(tmp_path: Path) -> None:
    task = load_task(written(tmp_path, rows(1000)), limits=Limits(test_share=0.3, n_test=None))
    assert abs(len(task.test) / 1000 - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5


def test_limits_keep_the_same_examples_when_others_go(tmp_path: Path) -> None:
    content = rows(200)
    limits = Limits(n_pool=40, n_test=20)
    task = load_task(written(tmp_path, content), limits=limits)
    assert (len(task.pool), len(task.test), report_of(task).n_unused) == (40, 20, 140)
    gone = task.pool[7].input
    less = load_task(written(tmp_path, [row for row in content if row["input"] != gone]), limits=limits)
    assert {e.input for e in task.pool} - {gone} < {e.input for e in less.pool}
    assert [e.input for e in less.test] == [e.input for e in task.test]


def test_each_input_is_used_once(tmp_path: Path) -> None:
    content = rows(40)
    task = load_task(written(tmp_path, [*content, {**content[3], "output": "two"}]))
    assert (report_of(task).n_read, report_of(task).n_repeated) == (41, 1)
    kept = next(e for e in (*task.pool, *task.test) if e.input == content[3]["input"])
    assert (kept.id, kept.output) == (3, content[3]["output"])


def test_questions_of_their_own_have_no_twin_in_the_pool(tmp_path: Path) -> None:
    content = rows(60)
    twin = {**content[0], "input": content[0]["input"].upper()}
    asked = written(tmp_path, [*content[40:], content[1], twin], "asked.jsonl")
    task = load_task(written(tmp_path, content[:40]), questions=asked)
    assert {e.input for e in task.pool} == {row["input"] for row in content[:40]}
    assert {e.input for e in task.test} == {row["input"] for row in content[40:]}
    assert report_of(task).n_left_out == 2


def test_the_packaged_task() -> None:
    task = load_task()
    assert (task.name, len(task.options)) == ("support desk", 10)
    assert all(e.subject for e in task.pool)
    assert len({e.id for e in task.pool}) == len(task.pool) == 320
    assert not {e.input for e in task.pool} & {e.input for e in task.test}


# ---- options, template, scale ----
def test_a_bigbench_task_brings_options_template_and_scale(tmp_path: Path) -> None:
    task = load_task(big_bench(tmp_path, 60, low_score=0.2, high_score=0.9, example_input_prefix="In: "))
    assert task.options == tuple(sorted(LABELS))
    assert (task.template.instruction, task.template.input_prefix) == ("", "In: ")
    assert task.scale == Scale(0.2, 0.9, "file")


def test_the_scale_is_from_chance_without_the_files_own(tmp_path: Path) -> None:
    for file in (big_bench(tmp_path, 60), written(tmp_path, rows(60))):
        assert load_task(file).scale == Scale(1 / 3, 1.0, "chance")
    assert load_task(big_bench(tmp_path, 60, high_score=0.8)).scale == Scale(1 / 3, 0.8, "file")


def test_a_scale_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="low_score"):
        load_task(big_bench(tmp_path, 60, low_score=1, high_score=1))


def test_the_normalised_score_is_linear_from_0_to_100() -> None:
    scale = Scale(0.25, 0.75)
    assert [scale.normalised(raw) for raw in (0.25, 0.5, 0.75, 0.0)] == [0, 50, 100, -50]


# ---- what is refused ----
def test_data_without_a_task_in_them_are_refused(tmp_path: Path) -> None:
    same = [{**row, "output": "one"} for row in rows(40)]
    free = [{**row, "output": f"answer {i}"} for i, row in enumerate(rows(40))]
    twins = [{**row, "input": f"always the very same eight words as before {i}"} for i, row in enumerate(rows(40))]
    for content, words in (
        (rows(10), "10 examples"),
        (same, "the same answer"),
        (free, "40 different answers"),
        (twins, "the largest group has 40"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            load_task(written(tmp_path, content))
        assert "\n" not in str(caught.value)
        assert not any(row["input"] in str(caught.value) for row in content)


@pytest.mark.parametrize("wrong", [{"test_share": 0.0}, {"twins": 2.0}, {"n_pool": 1}, {"seed": -1}], ids=str)
def test_limits_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Limits(**wrong)
