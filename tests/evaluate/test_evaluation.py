"""A whole evaluation on a tiny model: all cells, the report, the page; stopped and begun again; errors of users."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core.errors import ParameterError, StoreLockedError
from erase_core.evaluate.peers import approximate, classifiers, prompts, retraining, sisa
from erase_core.evaluate.peers.peer import Entry
from erase_core.evaluate.report.figures import rounded
from erase_core.evaluate.report.page import page_of
from erase_core.evaluate.report.writing import write_report
from erase_core.evaluate.running import run as running
from erase_core.evaluate.running import workers
from erase_core.evaluate.running.folder import Folder
from erase_core.evaluate.running.plan import Cell, Sizes, cells_of, ready
from erase_core.evaluate.running.run import Run
from erase_core.evaluate.running.setup import Setup
from erase_core.evaluate.tasks.task import Task
from erase_core.examples.example import Example
from erase_core.fs.locks import exclusive
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Template
from small_stores import WordEmbedder

SIZES = Sizes(seeds=2, trained_seeds=1, retrains=2, retained=3, removals=2, trained_removals=1)
NAMED = {"data": "tickets", "forget": "random"}
FORGOTTEN = (3, 8)
ANSWERS = ("refund", "parcel", "other")


def example(i: int) -> Example:
    answer = ANSWERS[i % 3]
    return Example(i, f"about {answer} number {i}", answer)


def broken(_: Any) -> Any:
    raise ValueError("a text of an example")


POOL, TEST = tuple(map(example, range(12))), tuple(map(example, range(100, 106)))
TASK = Task("tickets", POOL, TEST, ANSWERS, Template())
EVERY = [*prompts.PEERS, *classifiers.PEERS, *retraining.PEERS, *sisa.PEERS, *approximate.PEERS]
NAMES = ("none", "erase", "knn", "vote", "nearest-mean", "fine-tuned", "sisa-2")
APPROXIMATE = ("do-nothing", "npo")
BROKEN = Entry("broken", broken, "nowhere", "exact", "prompt")
PEERS = [*(entry for entry in EVERY if entry.name in NAMES + APPROXIMATE), BROKEN]


@pytest.fixture(scope="module")
def llm(folders: Callable[[str], Path]) -> Callable[[], TransformersLLM]:
    """Loads a tiny model anew: a network can have only one adapter."""
    return lambda: TransformersLLM(folders("llama"))


@pytest.fixture(scope="module")
def made(llm: Callable[[], TransformersLLM], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A finished evaluation, with its report."""
    folder = Folder(tmp_path_factory.mktemp("evaluation"))
    a_run(llm, folder).measure()
    write_report(folder, PEERS, lambda entry: 7)
    return folder


def a_setup(llm: Callable[[], TransformersLLM], folder: Folder, **changed: Any) -> Setup:
    given: dict[str, Any] = {"task": TASK, "forgotten": FORGOTTEN, "sizes": SIZES, **changed}
    return Setup(**given, llm=llm(), embedder=WordEmbedder(), folder=folder.checkpoints)


def a_run(llm: Callable[[], TransformersLLM], folder: Folder, **changed: Any) -> Run:
    return Run(a_setup(llm, folder, **changed), PEERS, folder, NAMED)


def report(folder: Folder) -> dict[str, Any]:
    found = json.loads((folder.path / "evaluation.json").read_text())
    assert isinstance(found, dict)
    return found


def without_costs(value: Any) -> Any:
    """What does not depend on the clock: scores, and figures that follow from them."""
    timed = {"fit", "forget", "query", "removals", "processor_seconds", "kept_bytes", "mean_seconds", "worst_seconds"}
    if isinstance(value, dict):
        return {name: without_costs(each) for name, each in value.items() if name not in timed}
    return [without_costs(each) for each in value] if isinstance(value, list) else value


# ---- a whole run ----
def test_every_cell_is_measured_or_says_why_not(made: Folder, llm: Callable[[], TransformersLLM]) -> None:
    cells = cells_of(PEERS, SIZES)
    records = {cell: made.read(cell) for cell in cells}
    assert {cell.peer for cell, record in records.items() if record and record["status"] == "failed"} == {"broken"}
    assert all(record is not None for record in records.values())
    assert len(made.records()) == len(cells)


def test_an_error_of_a_peer_becomes_a_line_without_texts(made: Folder) -> None:
    page = (made.path / "evaluation.md").read_text()
    assert "**broken** could not be measured: ValueError in test_evaluation.py" in page
    assert "a text of an example" not in page + json.dumps(made.records())


def test_exact_peers_equal_a_fresh_fit_bit_for_bit(made: Folder) -> None:
    found = {peer["peer"]: (peer["compared"], peer["equal"]) for peer in report(made)["peers"]}
    assert [found.pop(name) for name in ("broken", *APPROXIMATE)] == [(0, 0)] * 3
    assert found == {name: (1, 1) if name in ("fine-tuned", "sisa-2") else (2, 2) for name in NAMES}


def test_a_difference_in_one_bit_is_seen(made: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.begin(made.setting())
    for record in made.records():
        cell = Cell(record["what"], record["peer"], record["seed"])
        if cell == Cell("fresh", "vote", 1):
            record["scores"]["test"][0][0] += 1e-9
        folder.write(cell, record)
    write_report(folder, PEERS, lambda entry: 7)
    found = {peer["peer"]: (peer["compared"], peer["equal"]) for peer in report(folder)["peers"]}
    assert (found["vote"], found["nearest-mean"]) == ((2, 1), (2, 2))


def test_training_costs_tokens_backward_and_prompts_do_not(made: Folder) -> None:
    rows = {row["peer"]: row for row in report(made)["rows"]}
    backward = {name for name, row in rows.items() if row["fit tokens backward"]["value"] > 0}
    # Approximate peers begin with the training of the fine-tuned one.
    assert backward == {"fine-tuned", "sisa-2", *APPROXIMATE}
    assert rows["fine-tuned"]["fit tokens backward"]["value"] > rows["fine-tuned"]["removal tokens backward"]["value"]
    assert rows["sisa-2"]["removal tokens backward"]["value"] < rows["fine-tuned"]["removal tokens backward"]["value"]


def test_the_worst_removal_costs_at_least_the_mean(made: Folder) -> None:
    rows = report(made)["rows"]
    assert rows
    assert all(row["removal worst"]["value"] >= row["removal"]["value"] for row in rows)


def test_the_page_has_the_floor_and_doing_nothing_beside_what_was_forgotten(made: Folder) -> None:
    states = [row["state"] for row in report(made)["forgetting"] if row["peer"] == "fine-tuned"]
    assert states == ["after", "nothing done", "floor"]


def test_doing_nothing_changes_no_answer_and_is_as_far_away_as_the_fine_tuned_peer_before(made: Folder) -> None:
    record = made.read(Cell("peer", "do-nothing", 0))
    base = made.read(Cell("peer", "fine-tuned", 0))
    assert record is not None
    assert base is not None
    assert record["before"] == base["before"] == record["after"]
    rows = {(row["peer"], row["state"]): row for row in report(made)["forgetting"]}
    assert rows["do-nothing", "after"]["test"] == rows["fine-tuned", "nothing done"]["test"]


def test_an_attack_on_a_world_that_was_not_changed_has_the_same_area(made: Folder) -> None:
    rows = [row for row in report(made)["attacks"] if row["peer"] == "do-nothing"]
    assert {row["attack"] for row in rows} == {"loss", "zlib", "Min-K", "Min-K++"}
    assert all(row["before"] == row["after"] for row in rows)
    exact = [row for row in report(made)["attacks"] if row["peer"] == "fine-tuned"]
    assert "LiRA, 4 shadow worlds" in {row["attack"] for row in exact}
    assert all(row["after"] == row["never had them"] and row["difference"]["value"] == 0 for row in exact)


def test_the_worst_case_stands_beside_the_mean(made: Folder) -> None:
    found = report(made)
    assert {"any row", "all exemplars"} <= {row["kind"] for row in found["dear removals"]}
    assert all(row["worst milliseconds"] >= row["milliseconds"] for row in found["dear removals"])
    assert found["hard set"]["size"] >= 1


def kl(first: list[list[float]], second: list[list[float]]) -> float:
    """The mean of KL(first || second) of the softmax of scores."""
    p, q = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True) for scores in map(np.array, (first, second)))
    return float((p * np.log(p / q)).sum(axis=1).mean())


def test_distances_are_from_retrains_with_other_seeds_to_the_peer(made: Folder) -> None:
    rows = {(row["peer"], row["state"]): row for row in report(made)["forgetting"]}
    fitted = {name: made.read(Cell("peer", name, 0)) or {} for name in ("npo", "fine-tuned")}
    never = [made.read(Cell("fresh", "fine-tuned", seed)) or {} for seed in range(2)]
    for part in ("forgotten", "retained", "test"):
        other = never[1]["scores"][part]
        for peer, state, key in (
            ("npo", "after", "after"),
            ("fine-tuned", "after", "after"),
            ("fine-tuned", "nothing done", "before"),
        ):
            found = rows[peer, state][part]["value"]
            assert found == pytest.approx(kl(other, fitted[peer][key][part]), rel=1e-6)
            assert found != pytest.approx(kl(fitted[peer][key][part], other), rel=1e-6)
        one = never[0]["scores"][part]
        floor = rows["fine-tuned", "floor"][part]["value"]
        assert floor == pytest.approx((kl(one, other) + kl(other, one)) / 2, rel=1e-6)


def share_in_order(answers: dict[str, list[list[float]]]) -> float:
    """The share of pairs of a member and another in which the member's right option has the higher score; ties half."""
    right = {
        part: [row[label] for row, label in zip(answers[part], TASK.labels(examples).tolist(), strict=True)]
        for part, examples in (("forgotten", TASK.examples(FORGOTTEN)), ("test", TEST))
    }
    pairs = [(a > b) + (a == b) / 2 for a in right["forgotten"] for b in right["test"]]
    return float(np.mean(pairs))


def test_an_attack_is_beside_the_same_on_the_world_that_never_had_the_examples(made: Folder, tmp_path: Path) -> None:
    """With members that rank first, last, and as they do in the three worlds, so that no two are alike."""
    folder = Folder(tmp_path)
    folder.begin(made.setting())
    worlds: dict[str, dict[str, list[list[float]]]] = {}
    for record in made.records():
        cell = Cell(record["what"], record["peer"], record["seed"])
        if cell == Cell("peer", "npo", 0):
            for state, shift in (("before", 9.0), ("after", 0.0)):
                record[state]["forgotten"] = (np.array(record[state]["forgotten"]) + shift).tolist()
                worlds[state] = record[state]
        if cell == Cell("fresh", "fine-tuned", 0):
            record["scores"]["forgotten"] = (np.array(record["scores"]["forgotten"]) - 9.0).tolist()
            worlds["never had them"] = record["scores"]
        folder.write(cell, record)
    write_report(folder, PEERS, lambda entry: 7)
    (row,) = [row for row in report(folder)["attacks"] if (row["peer"], row["attack"]) == ("npo", "loss")]
    expected = {state: share_in_order(answers) for state, answers in worlds.items()}
    assert 1 == expected["before"] > expected["after"] > expected["never had them"] == 0
    assert {state: row[state]["value"] for state in expected} == pytest.approx(expected)
    assert row["difference"]["value"] == pytest.approx(expected["after"])


# ---- the page and its JSON ----
def numbers(value: Any) -> Iterator[str]:
    """All numbers of a report as a page writes them."""
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield rounded(value)
        yield str(value)


def in_tables(page: str) -> list[str]:
    """The numbers in the rows of tables, without those of names, sources and versions."""
    rows = [re.sub(r"`[^`]*`", "", row) for row in page.splitlines() if row.startswith("|")]
    plain = [row for row in rows if not re.search(r"versions|model|\.py", row)]
    return re.findall(r"(?<![\w.-])-?\d+(?: \d{3})*(?:\.\d+)?(?:e-\d+)?(?![\w-])", "\n".join(plain))


def test_every_number_in_a_table_of_the_page_is_in_the_json(made: Folder) -> None:
    found = report(made)
    for peer in found["peers"]:  # their sources have years and sections
        peer["source"] = peer["not reproduced"] = ""
    known = set(numbers(found)) | {"95"}
    shown = [number.strip() for number in in_tables(page_of(found))]
    assert len(shown) > 200
    assert [number for number in shown if number not in known] == []


def test_a_number_that_is_not_in_the_json_is_found() -> None:
    assert in_tables("| erase | 0.123 (0.1 to 2e-05); n=4 |") == ["0.123", "0.1", "2e-05", "4"]


def test_near_twins_are_on_the_page(made: Folder) -> None:
    found = report(made)
    assert "| near twins | none |" in page_of(found)
    found["run"]["near twins"] = {"examples": 7, "groups": 3, "largest group": 4, "questions left out": 2}
    page = page_of(found)
    assert "| near twins | 7 examples in 3 groups, the largest of 4. Each" in page
    assert "2 test questions with a twin in the pool were left out" in page


def test_the_report_is_a_function_of_the_files(made: Folder) -> None:
    before = [(made.path / name).read_bytes() for name in ("evaluation.json", "evaluation.md")]
    write_report(made, PEERS, lambda entry: 7)
    assert [(made.path / name).read_bytes() for name in ("evaluation.json", "evaluation.md")] == before


def test_first_seeds_come_first(llm: Callable[[], TransformersLLM], tmp_path: Path) -> None:
    folder, said = Folder(tmp_path), list[str]()
    cheap = [entry for entry in PEERS if entry.name in ("none", "erase", "vote")]
    Run(a_setup(llm, folder, sizes=replace(SIZES, shadows=0)), cheap, folder, NAMED, said.append).measure()
    seeds = [found[1] for line in said if (found := re.search(r"seed (\d)", line))]
    assert set(seeds) == {"0", "1"}
    assert seeds == sorted(seeds)


# ---- stopped and begun again ----
def test_a_stopped_run_goes_on_and_finds_the_same(
    made: Folder, llm: Callable[[], TransformersLLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Cell] = []
    real = workers.measured_here

    def stopping(*given: Any) -> tuple[Cell, Any]:
        if len(measured) == 9:
            raise KeyboardInterrupt
        measured.append(given[0].cell)
        return real(*given)

    def counting(*given: Any) -> tuple[Cell, Any]:
        measured.append(given[0].cell)
        return real(*given)

    monkeypatch.setattr(running, "measured_here", stopping)
    folder = Folder(tmp_path)
    # Fewer peers: what a cell finds does not depend on the others.
    some = [entry for entry in PEERS if entry.name in ("erase", "vote", "fine-tuned", "do-nothing", "broken")]

    def a_run_of_some() -> Run:
        return Run(a_setup(llm, folder, sizes=replace(SIZES, shadows=0)), some, folder, NAMED)

    with pytest.raises(KeyboardInterrupt):
        a_run_of_some().measure()
    first = list(measured)
    assert len(folder.records()) == 9
    measured.clear()
    monkeypatch.setattr(running, "measured_here", counting)
    a_run_of_some().measure()
    # What has failed is tried again.
    assert {cell for cell in first if cell in measured} <= {c for c in first if c.peer == "broken"}
    cells = [cell for cell in cells_of(some, SIZES) if cell.what != "shadows"]
    assert len(folder.records()) == len(cells)
    assert without_costs([folder.read(cell) for cell in cells]) == without_costs([made.read(cell) for cell in cells])


def test_more_seeds_measure_what_is_missing_only(llm: Callable[[], TransformersLLM], tmp_path: Path) -> None:
    folder, entries = Folder(tmp_path), [entry for entry in PEERS if entry.name == "vote"]
    lines: list[str] = []
    for seeds in (1, 2):
        sizes = Sizes(seeds=seeds, retrains=1, retained=3, removals=2)
        Run(a_setup(llm, folder, sizes=sizes), entries, folder, NAMED, lines.append).measure()
    assert [line for line in lines if "cells to measure" in line][1].startswith("2 of 4 cells")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"forgotten": (3, 9)}, "forget set"),
        ({"task": Task("tickets", POOL, TEST[:5], ANSWERS, Template())}, "labels"),
        ({"task": Task("tickets", POOL, TEST, ANSWERS, Template(instruction="Sort."))}, "task"),
        ({"sizes": Sizes(retained=4, removals=2)}, "labels"),
    ],
    ids=["forget set", "questions", "template", "sizes"],
)
def test_another_setting_is_refused_and_nothing_changes(
    made: Folder, llm: Callable[[], TransformersLLM], changed: dict[str, Any], named: str
) -> None:
    before = {file: file.read_bytes() for file in made.path.rglob("*.json")}
    with pytest.raises(ParameterError, match=f"another {named}.*--out, or delete"):
        a_run(llm, made, **changed).measure()
    assert {file: file.read_bytes() for file in made.path.rglob("*.json")} == before


def test_two_runs_in_one_folder_are_refused(llm: Callable[[], TransformersLLM], tmp_path: Path) -> None:
    with exclusive(tmp_path, 0), pytest.raises(StoreLockedError, match="Wait for it"):
        a_run(llm, Folder(tmp_path)).measure()


# ---- the plan ----
def test_what_shares_a_checkpoint_waits_for_the_first() -> None:
    entries = {entry.name: entry for entry in EVERY}
    cells = cells_of([entries["fine-tuned"], entries["sisa-4"], entries["sisa-4-strike"], entries["knn"]], SIZES)

    def may_begin(cell: Cell, finished: Callable[[Cell], bool]) -> bool:
        return ready(cell, [each for each in cells if not finished(each)], entries)

    strike, sisa_4, base = (Cell("peer", name, 0) for name in ("sisa-4-strike", "sisa-4", "fine-tuned"))
    assert may_begin(base, lambda cell: False)
    assert may_begin(Cell("peer", "knn", 0), lambda cell: False)
    assert not may_begin(sisa_4, lambda cell: False)
    assert may_begin(sisa_4, lambda cell: cell == base)
    assert not may_begin(strike, lambda cell: cell == base)
    assert may_begin(strike, lambda cell: cell in (base, sisa_4))
