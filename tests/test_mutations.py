"""The suite notices a broken certificate: each mutation of the core makes its contract tests or golden vectors fail.

Each mutation is a text that occurs once in a source file, and what it is replaced by.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

MUTATIONS = {
    "upper end of a cell, off by one": ("lloyd.rs", "shift.limit - 1 - v", "shift.limit - v"),
    "lower end of a cell, off by one": ("lloyd.rs", "signs | v |", "signs | (v + 1) |"),
    "denominator left as it was": ("lloyd.rs", "den: new.den(after) - old.den(before)", "den: 0"),
    "width of the cell left as it was": (
        "lloyd.rs",
        "limit: i64::from(new.pitch) * new.den(after)",
        "limit: i64::from(new.pitch) * old.den(before)",
    ),
    "balance correction left as it was": ("lloyd.rs", "lack: new.lack(after) - old.lack(before)", "lack: 0"),
    "change of the balance overlooked": ("lloyd.rs", "if old.balance == new.balance {", "if true {"),
    "stop rule: equal losses go on": ("lloyd.rs", "loss >= before)", "loss > before)"),
    "stop rule: losses not updated": (
        "certificate.rs",
        "let loss = step.summary.loss + delta.loss();",
        "let loss = step.summary.loss;",
    ),
    "which step is kept not checked": ("certificate.rs", "(!was_last || other_kept)", "!was_last"),
    "rows of moved centres not looked at": ("replay.rs", "if has_moved[usize::from(own)] {", "if false {"),
    "ties in a replay to the row's own cluster": (
        "replay.rs",
        "stay.min(centres.nearest_among(moved.iter().copied(), row)).1",
        "{ let m = centres.nearest_among(moved.iter().copied(), row); if m.0 < stay.0 { m.1 } else { own } }",
    ),
    "added rows never win the race": ("seed.rs", "*broken = self.beats(candidate, proposal);", "*broken = false;"),
    "potentials not followed": (
        "seed.rs",
        "sign * i64::from(distance.min(weight))",
        "0 * sign * i64::from(distance.min(weight))",
    ),
    "weights of later rounds not narrowed": ("seed.rs", "weight.min(to_chosen) };", "to_chosen };"),
    "other choices of a round overlooked": (
        "seed.rs",
        "if updated[round].chosen() != rounds[round].chosen() {",
        "if false {",
    ),
    "coarser scale without a new alignment": ("rows.rs", "Ordering::Greater => true", "Ordering::Greater => false"),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutations") / "workspace"
    for name in ("Cargo.toml", "Cargo.lock", "rust", "benches", "tests/vectors"):
        source, target = REPOSITORY / name, folder / name
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
    file, old, new = MUTATIONS[name]
    path = workspace / "rust/core/src" / file
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
    for file, old, _ in MUTATIONS.values():
        assert (REPOSITORY / "rust/core/src" / file).read_text().count(old) == 1, (file, old)
