"""The suite notices a broken certificate: each mutation of the core makes its contract tests or golden vectors fail.

Each mutation is a text that occurs once in a source file, and what it is replaced by.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import ROOT

MUTATIONS = {
    "upper end of a cell, off by one": ("kernel", "portable.rs", "v | (limit - 1 - v)", "v | (limit - v)"),
    "lower end of a cell, off by one": ("kernel", "portable.rs", "v | (limit - 1 - v)", "(v + 1) | (limit - 1 - v)"),
    "cells cut above their remainder": (
        "kernel",
        "portable.rs",
        "let is_above = rest < 0;",
        "let is_above = rest <= 0;",
    ),
    "denominator left as it was": (
        "core",
        "lloyd.rs",
        "difference(self.old.den(self.before), self.new.den(self.after))",
        "0",
    ),
    "width of the cell left as it was": (
        "core",
        "lloyd.rs",
        "i64::from(cluster.new.pitch) * cluster.new.den(cluster.after)",
        "i64::from(cluster.new.pitch) * cluster.old.den(cluster.before)",
    ),
    "balance correction left as it was": (
        "core",
        "lloyd.rs",
        "difference(self.old.lack(self.before), self.new.lack(self.after))",
        "0",
    ),
    "change of the balance overlooked": (
        "core",
        "lloyd.rs",
        "if change.old.balance == change.new.balance {",
        "if true {",
    ),
    "cells of a replay left where they were": (
        "core",
        "lloyd.rs",
        "change.delta.of(j).is_none() && lacks == [0, 0]",
        "change.delta.of(j).is_none()",
    ),
    "stop rule: equal losses go on": ("core", "lloyd.rs", "|before| loss < before", "|before| loss <= before"),
    "stop rule: losses not updated": (
        "core",
        "certificate.rs",
        "let loss = step.summary.loss + delta.loss();",
        "let loss = step.summary.loss;",
    ),
    "which step is kept not checked": ("core", "certificate.rs", "(!was_last || other_kept)", "!was_last"),
    "scores of moved centres not shifted": (
        "core",
        "scores.rs",
        "approach.shifts.push(shift);",
        "",
    ),
    "scores of far centres not computed": ("core", "scores.rs", "approach.places.push(j);", "approach.places.pop();"),
    "scores of a slot that moved not taken along": (
        "core",
        "scores.rs",
        "self.keys[place(slot, j)] = self.keys[place(last, j)];",
        "",
    ),
    "scores of added rows not computed": (
        "core",
        "scores.rs",
        "self.centres.row_keys(&row, &mut keys);",
        "",
    ),
    "added rows never win the race": ("core", "seed.rs", "part.broken[number][trial] |= best != Some(proposal);", ""),
    "potentials not followed": (
        "core",
        "seed.rs",
        "sign * i64::from(distance.min(weight))",
        "0 * sign * i64::from(distance.min(weight))",
    ),
    "weights of later rounds not narrowed": (
        "core",
        "seed.rs",
        "weight = weight.min(to_chosen);",
        "weight = to_chosen;",
    ),
    "other choices of a round overlooked": (
        "core",
        "seed.rs",
        "if updated[number].chosen() != old.chosen() {",
        "if false {",
    ),
    "coarser scale without a new alignment": (
        "core",
        "rows.rs",
        "Ordering::Greater => true",
        "Ordering::Greater => false",
    ),
    "a far row listed as the next": ("core", "exemplar.rs", "place < list.len() || complete", "true"),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutations") / "workspace"
    for name in ("Cargo.toml", "Cargo.lock", "rust", "benches", "tests/vectors"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return folder


def run_suite(workspace: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(workspace.parent / "target"),
        "PROPTEST_CASES": "20000",
        "RUST_BACKTRACE": "0",
    }
    command = ["cargo", "test", "--quiet", "--package", "erase-core", "--lib", "--test", "contract", "--no-fail-fast"]
    # Mutants that the compiler can tell are dead code are none the less wanted.
    environment["RUSTFLAGS"] = "--cap-lints=allow"
    return subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_suite_passes_without_a_mutation(workspace: Path) -> None:
    result = run_suite(workspace)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_the_suite_fails_with(workspace: Path, name: str) -> None:
    crate, file, old, new = MUTATIONS[name]
    path = workspace / "rust" / crate / "src" / file
    original = path.read_text()
    assert original.count(old) == 1
    try:
        path.write_text(original.replace(old, new))
        result = run_suite(workspace)
    finally:
        path.write_text(original)
    # A failure of the tests, not of the compiler.
    assert "test result: FAILED" in result.stdout, result.stdout + result.stderr


def test_every_mutation_still_applies() -> None:
    for crate, file, old, _ in MUTATIONS.values():
        assert (ROOT / "rust" / crate / "src" / file).read_text().count(old) == 1, (file, old)
