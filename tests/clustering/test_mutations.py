"""The suite notices a broken certificate: with each mutation of the core, some of its tests or vectors fail.

Each mutation is a text that occurs once in a source file, and what it is replaced by.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT

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
        "i64::from(cluster.new.pitch_after(cluster.t)) * cluster.new.den(cluster.after)",
        "i64::from(cluster.new.pitch_after(cluster.t)) * cluster.old.den(cluster.before)",
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
    "pitch of another update": ("core", "lloyd.rs", "ValidParams::graded(self.pitch, t + 1)", "self.pitch"),
    "pitch not graded": ("core", "params.rs", "(grade * pitch).min(1 << UNIT_BITS)", "pitch"),
    "losses of the panel left as they were": ("core", "lloyd.rs", "self.loss += change.delta.loss;", ""),
    "losses from before the update decide": (
        "core",
        "certificate.rs",
        "certificate.losses.push(step.summary.loss + delta.loss);",
        "certificate.losses.push(step.summary.loss);",
    ),
    "rows that go stay in the loss": (
        "core",
        "replay.rs",
        "pass.loss += old.summary.loss - self.loss_of_removed(old);",
        "pass.loss += old.summary.loss;",
    ),
    "the last centres are kept at an equal loss": ("core", "fit.rs", "last.1 < first.1", "last.1 <= first.1"),
    "the last centres are always kept": ("core", "fit.rs", ".filter(|last| last.1 < first.1)", ""),
    "other kept centres overlooked": (
        "core",
        "derived.rs",
        "plan.as_mut().and_then(|plan| plan.kept.take())",
        "plan.as_mut().filter(|plan| plan.first.is_some()).and_then(|plan| plan.kept.take())",
    ),
    "pitch of few dimensions not held": ("core", "params.rs", "self.dim().max(PITCH_DIM)", "self.dim()"),
    "digest without the losses": (
        "core",
        "digest.rs",
        "update_numbers(&mut hasher, &[first.summary.loss, last.summary.loss]);",
        "",
    ),
    "a list that is too short is nearest": ("core", "exemplar.rs", "list.len() < wanted", "list.is_empty()"),
    "nearest rows beside too few": ("core", "exemplar.rs", "Self { depth: count,", "Self { depth: DEPTH,"),
    "loss of the result left as it was": ("core", "last.rs", "step.summary.loss += loss;", ""),
    "counts of the result left as they were": (
        "core",
        "last.rs",
        "step.summary.counts[usize::from(label)] += 1;",
        "",
    ),
    "exemplars of moved centres kept": (
        "core",
        "last.rs",
        "self.stale = (0..summary.counts.len()).map(|j| touched[j] || moved(j)).collect();",
        "self.stale = (0..summary.counts.len()).map(|j| touched[j]).collect();",
    ),
    "labels of slots that change places left": (
        "core",
        "last.rs",
        "step.labels.swap(a as usize, b as usize);",
        "",
    ),
    "exemplars of slots that change places left": ("core", "last.rs", "self.exemplars.swap(a, b);", ""),
    "keys of slots that change places left": (
        "core",
        "scores.rs",
        "(0..clusters).for_each(|j| self.keys.swap(place(a, j), place(b, j)));",
        "",
    ),
    "rows of one place too many are next": (
        "core",
        "panel.rs",
        "let needed = size + leaving.len() - self.size;",
        "let needed = (size + leaving.len() - self.size).min(1);",
    ),
    "a row that is removed comes onto the panel": (
        "core",
        "panel.rs",
        "if removed.binary_search(&row.1).is_err() {",
        "if true {",
    ),
    "a row that comes never pushes one off": (
        "core",
        "panel.rs",
        "new.retain(|row| row.0 <= largest);",
        "new.clear();",
    ),
    "the panel has the largest places": ("core", "panel.rs", "a.0.cmp(&b.0)", "b.0.cmp(&a.0)"),
    "the reserve says that it holds all": (
        "core",
        "panel.rs",
        "bound: Some(bound), passed: 0 };\n            sort(",
        "bound: Some(u64::MAX), passed: 0 };\n            sort(",
    ),
    "the reserve is not told of rows pushed off": (
        "core",
        "model.rs",
        "held.enter(keyed, last);",
        "",
    ),
    "the reserve is not told of rows that come": (
        "core",
        "model.rs",
        "held.enter(keyed, slot);",
        "",
    ),
    "the reserve keeps rows that came onto the panel": (
        "core",
        "model.rs",
        "held.leave(keyed, from);",
        "",
    ),
    "the reserve keeps rows that have gone": (
        "core",
        "holding.rs",
        "self.leave(keyed, slot);",
        "",
    ),
    "the reserve keeps old slots of rows that move": (
        "core",
        "holding.rs",
        "self.rename(keyed, last, slot);",
        "",
    ),
    "the reserve keeps old slots of rows that make room": (
        "core",
        "model.rs",
        "held.rename(keyed, to, from);",
        "",
    ),
    "rows that are to go are lost sight of": (
        "core",
        "model.rs",
        "gone.iter_mut().filter(|slot| **slot == to).for_each(|slot| *slot = from);",
        "",
    ),
    "rows left in the hash of all rows": (
        "core",
        "holding.rs",
        "sum.count(&self.rows, slot as usize, self.ids.get(slot), -1);",
        "",
    ),
    "rows that come left out of the hash of all rows": (
        "core",
        "holding.rs",
        "sum.count(&self.rows, slot, self.ids.get(slot_number(slot)), 1);",
        "",
    ),
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
    "added rows never win the race": ("core", "seed.rs", "*broken |= best != Some(proposal);", ""),
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
    "distances to proposals of a slot that moved not taken along": (
        "core",
        "field.rs",
        "self.values[to + column * LANES] = self.values[from + column * LANES];",
        "",
    ),
    "distances of added rows to proposals not computed": (
        "core",
        "field.rs",
        "self.values[lane + column * LANES] = distance(key, square);",
        "",
    ),
    "distances of rows about to come not computed": (
        "core",
        "field.rs",
        "distances(&population.block(b), proposed, &mut values[LANES..]);",
        "",
    ),
    "distances kept though all is run again": (
        "core",
        "field.rs",
        "if proposed.is_none() || self.values.len()",
        "if self.slots.len() != columns || self.values.len()",
    ),
    "distances copied from where others are about to be": (
        "core",
        "field.rs",
        ".filter(|&from| !given(from) || wanted.contains(&(from, slot)))",
        "",
    ),
    "proposals of a slot that moved not renamed": (
        "core",
        "field.rs",
        "self.slots.iter_mut().filter(|other| **other == last).for_each(|other| *other = slot);",
        "",
    ),
    "seeds whose distances are known left out of the weights": (
        "core",
        "seed.rs",
        "kernel::least(weights, &columns[column * LANES..][..LANES]);",
        "",
    ),
    "a trial's old proposal taken for its new one": (
        "core",
        "seed.rs",
        ".filter(|(old, _)| old.slot == *slot)",
        "",
    ),
    "rows of a slot that moved read where another was": (
        "core",
        "flat.rs",
        "self.values.swap_remove_record(slot as usize, self.width);",
        "let len = self.values.len() - self.width; self.values.truncate(len); let _ = slot;",
    ),
    "rows that came not taken in": ("core", "flat.rs", "self.values.extend_from_slice(&row);", ""),
    "next centre of a cluster that moved taken from before": (
        "core",
        "lloyd.rs",
        "Arc::ptr_eq(&own[j], &others[j]) && self.centres.centre(j) == other.centres.centre(j)",
        "Arc::ptr_eq(&own[j], &others[j])",
    ),
    "distances of the centres kept from another largest cluster": (
        "core",
        "last.rs",
        "!apart.is_of(&step.summary)",
        "false",
    ),
    "distances of the centres kept though they moved": (
        "core",
        "last.rs",
        "self.apart = OnceLock::new();\n                *old",
        "*old",
    ),
    "coarser scale without a new alignment": (
        "core",
        "rows.rs",
        "self.exponents[slot] < exponent && self.squares[slot] > 0",
        "false",
    ),
    "a far row listed as the next": ("core", "exemplar.rs", "place < list.len() || complete", "true"),
    "the rows of one part alone are counted": (
        "core",
        "part.rs",
        "rows: self.rows.checked_add(other.rows).ok_or_else(too_many)?,",
        "rows: self.rows.max(other.rows),",
    ),
    "the scale of one part alone": (
        "core",
        "part.rs",
        "exponent: self.exponent.max(other.exponent),",
        "exponent: self.exponent,",
    ),
    "the hash of one part alone": (
        "core",
        "part.rs",
        ".map(|(sum, other)| sum.merge(&other))",
        ".map(|(sum, _)| sum)",
    ),
    "the loss of one part alone": (
        "core",
        "part.rs",
        "loss: self.loss.checked_add(other.loss).ok_or_else(too_many)?,",
        "loss: self.loss.max(other.loss),",
    ),
    "nearest rows of parts in any order": ("core", "part.rs", "list.sort_unstable();", ""),
    "parts of two frames merge": (
        "core",
        "part.rs",
        "(Assigned::To(own), Assigned::To(others)) if own.frame == others.frame",
        "(Assigned::To(own), Assigned::To(others)) if own.counts.len() == others.counts.len()",
    ),
    "candidates before those of the panel": (
        "core",
        "coordinator.rs",
        "pool.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));",
        "",
    ),
    "rows that are pushed off stay with the coordinator": (
        "core",
        "coordinator.rs",
        "leaving.extend(pool[size..].iter().filter_map(|row| row.2.ok()));",
        "",
    ),
    "the row in the last place is no candidate": (
        "core",
        "shard.rs",
        "slots.retain(|&slot| mark.is_none_or(|mark| placed(slot) <= mark.key()));",
        "slots.retain(|&slot| mark.is_none_or(|mark| placed(slot) < mark.key()));",
    ),
    "the reserve of a shard is not told of rows that come": ("core", "shard.rs", "self.held.enter(keyed, slot);", ""),
    "rows of a shard keep their old centres": (
        "core",
        "shard.rs",
        "if self.frame == Some(id) {",
        "if self.frame.is_some() {",
    ),
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


# Sources that are for shards alone: their mutations are for the tests of shards, which are slower.
FOR_SHARDS = ("part.rs", "shard.rs", "coordinator.rs")
CONTRACT, SHARDS = ("--lib", "--test", "contract"), ("--test", "shards")


def run_suite(workspace: Path, suite: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(workspace.parent / "target"),
        "PROPTEST_CASES": "2000" if suite == SHARDS else "20000",
        "RUST_BACKTRACE": "0",
    }
    command = ["cargo", "test", "--quiet", "--package", "erase-core", *suite, "--no-fail-fast"]
    # Mutants that the compiler can tell are dead code are none the less wanted.
    environment["RUSTFLAGS"] = "--cap-lints=allow"
    return subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("suite", [CONTRACT, SHARDS])
def test_the_suite_passes_without_a_mutation(workspace: Path, suite: tuple[str, ...]) -> None:
    result = run_suite(workspace, suite)
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
        result = run_suite(workspace, SHARDS if file in FOR_SHARDS else CONTRACT)
    finally:
        path.write_text(original)
    # A failure of the tests, not of the compiler.
    assert "test result: FAILED" in result.stdout, result.stdout + result.stderr


def test_every_mutation_still_applies() -> None:
    for crate, file, old, _ in MUTATIONS.values():
        assert (ROOT / "rust" / crate / "src" / file).read_text().count(old) == 1, (file, old)
