"""Two studies: integer counts of sparse codes, and the corner of Miras in which subtraction is exact."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, get_args

import numpy as np
import pytest
from erase_core.evaluate.peers import miras, sauce
from erase_core.evaluate.peers.miras import UNIT_BITS, LinearMemory
from erase_core.evaluate.peers.peer import Entry, Tools
from erase_core.evaluate.peers.sauce import SaucePeer, SparseCoder, SparseIndex, public_words
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Template
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_stores import WordEmbedder

Vectors = NDArray[np.float32]
Integers = NDArray[np.int64]
Rule = Literal["sum", "decay", "delta"]
RULES: tuple[Rule, ...] = get_args(Rule)
# Of the memory, 2**-4 is lost at each step with decay.
DECAY_BITS = 4


def unit_rows(n: int, dim: int, seed: int) -> Vectors:
    made = np.random.default_rng(seed).normal(size=(n, dim))
    return np.asarray(made / np.linalg.norm(made, axis=1)[:, None], dtype=np.float32)


# ---- Miras ----
def pairs(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = np.rint(unit_rows(n, 6, seed) * 2.0**20).astype(np.int64)
    return keys, np.eye(3, dtype=np.int64)[np.random.default_rng(seed).integers(3, size=n)]


def write(memory: Integers, key: Integers, value: Integers, rule: Rule) -> Integers:
    """Return what a memory becomes when a pair is written.

    Parameters
    ----------
    memory : ndarray of int64 of shape (k, d)
    key : ndarray of int64 of shape (d,)
        In units of 2^-20, of unit norm.
    value : ndarray of int64 of shape (k,)
    rule : {"sum", "decay", "delta"}
        "sum": W + v k^T. "decay": the same, after W has lost a sixteenth. "delta": W + (v - W k) k^T, which stores what
        the memory does not recall already.

    Returns
    -------
    ndarray of int64 of shape (k, d)
        In units of 2^-20. Fractions are rounded down.
    """
    if rule == "delta":
        missing = (value << UNIT_BITS) - (memory @ key >> UNIT_BITS)
        return np.asarray(memory + (np.outer(missing, key) >> UNIT_BITS))
    kept = memory - (memory >> DECAY_BITS) if rule == "decay" else memory
    return np.asarray(kept + np.outer(value, key))


def forgets_by_subtraction(keys: Integers, values: Integers, place: int, rule: Rule) -> bool:
    """Whether subtracting what a pair added gives, to the bit, the memory that never had it.

    Parameters
    ----------
    keys : ndarray of int64 of shape (n, d)
    values : ndarray of int64 of shape (n, k)
        Written in this order.
    place : int
        Of the pair.
    rule : {"sum", "decay", "delta"}
    """
    whole = without = np.zeros((values.shape[1], keys.shape[1]), dtype=np.int64)
    added = whole
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        after = write(whole, key, value, rule)
        if i == place:
            added = after - whole
        else:
            without = write(without, key, value, rule)
        whole = after
    return bool(np.array_equal(whole - added, without))


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.data())
def test_the_sum_forgets_by_subtraction(n: int, seed: int, data: st.DataObject) -> None:
    keys, values = pairs(n, seed)
    assert forgets_by_subtraction(keys, values, data.draw(st.integers(0, n - 1)), "sum")


@pytest.mark.parametrize("rule", ["decay", "delta"])
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_decay_and_the_delta_rule_fail_the_same_test(rule: Rule, n: int, seed: int) -> None:
    keys, values = pairs(n, seed)
    # The first pair has changed all that was written after it.
    assert not forgets_by_subtraction(keys, values, 0, rule)


def test_rules_are_those_of_real_numbers_up_to_rounding() -> None:
    keys, values = pairs(5, 1)
    k, v = keys / 2.0**20, values.astype(float)
    found = {rule: np.zeros((3, 6), dtype=np.int64) for rule in RULES}
    expected = {rule: np.zeros((3, 6)) for rule in RULES}
    for i in range(5):
        for rule in RULES:
            found[rule] = write(found[rule], keys[i], values[i], rule)
        expected["sum"] = expected["sum"] + np.outer(v[i], k[i])
        expected["decay"] = 15 / 16 * expected["decay"] + np.outer(v[i], k[i])
        expected["delta"] = expected["delta"] @ (np.eye(6) - np.outer(k[i], k[i])) + np.outer(v[i], k[i])
    for rule in RULES:
        np.testing.assert_allclose(found[rule] / 2.0**20, expected[rule], atol=1e-4)


def test_delta_rule_recalls_the_newest_pair() -> None:
    keys, values = pairs(4, 2)
    memory = np.zeros((3, 6), dtype=np.int64)
    for key, value in zip(keys, values, strict=True):
        memory = write(memory, key, value, "delta")
    np.testing.assert_allclose(memory @ keys[-1] / 2.0**40, values[-1], atol=1e-4)


def test_memory_sums_the_cosines_of_each_answer() -> None:
    X, Q, labels = unit_rows(9, 6, 0), unit_rows(4, 6, 1), np.arange(9) % 4
    memory = LinearMemory(5)
    memory.fit(range(9), X, labels)
    expected = np.zeros((4, 5))
    for q, row in zip(Q, expected, strict=True):
        for x, label in zip(X, labels, strict=True):
            row[label] += float(q.astype(float) @ x.astype(float))
    np.testing.assert_allclose(memory.scores(Q), expected, atol=1e-4)


# ---- SAUCE ----
CODER = SparseCoder(unit_rows(300, 10, 7), n_features=24, n_active=5, n_steps=60)
X, LABELS = unit_rows(40, 10, 8), np.arange(40) % 3


def state(index: SparseIndex) -> tuple[bytes, list[list[int]], list[list[tuple[int, int]]]]:
    return index.counts.tobytes(), [index.top(feature, 3) for feature in range(24)], index._entries


@given(st.sets(st.integers(0, 39)), st.integers(0, 2**32 - 1))
def test_counts_and_lists_after_removals_are_those_of_a_fresh_fit(gone: set[int], seed: int) -> None:
    index, fresh = SparseIndex(3, CODER), SparseIndex(3, CODER)
    order = np.random.default_rng(seed).permutation(40).tolist()
    index.fit(order, X[order], LABELS[order])
    for id_ in np.random.default_rng(seed + 1).permutation(sorted(gone)).tolist():
        index.remove([int(id_)])
    left = [i for i in range(40) if i not in gone]
    fresh.fit(left, X[left], LABELS[left])
    assert state(index) == state(fresh)
    assert index.scores(X[:5]).tobytes() == fresh.scores(X[:5]).tobytes()


def test_counts_are_those_of_the_codes() -> None:
    index = SparseIndex(3, CODER)
    index.fit(range(40), X, LABELS)
    counted: Counter[tuple[int, int]] = Counter()
    strongest: dict[int, list[tuple[int, int]]] = {feature: [] for feature in range(24)}
    for id_, (vector, label) in enumerate(zip(X, LABELS.tolist(), strict=True)):
        features, levels = CODER.code(vector)
        assert 0 < len(features) <= 5
        assert levels.min() > 0
        counted.update((feature, label) for feature in features.tolist())
        for feature, level in zip(features.tolist(), levels.tolist(), strict=True):
            strongest[feature].append((level, -id_))
    for feature in range(24):
        assert [int(c) for c in index.counts[feature]] == [counted[feature, label] for label in range(3)]
        assert index.top(feature, 2) == [-id_ for _, id_ in sorted(strongest[feature], reverse=True)[:2]]


def test_score_is_the_weighted_mean_of_log_shares() -> None:
    index = SparseIndex(3, CODER)
    index.fit(range(40), X, LABELS)
    features, levels = CODER.code(X[0])
    expected = [
        sum(
            level / levels.sum() * np.log((index.counts[f, o] + 1) / (index.counts[f].sum() + 3))
            for f, level in zip(features, levels, strict=True)
        )
        for o in range(3)
    ]
    assert index.scores(X[:1])[0] == pytest.approx(expected, rel=1e-12)


def test_coder_has_learned_its_vectors_and_is_a_function_of_them() -> None:
    rows = unit_rows(300, 10, 7)

    def error(coder: SparseCoder) -> float:
        return float(np.mean([np.sum((coder.decode(*coder.code(row)) - row) ** 2) for row in rows]))

    untrained = SparseCoder(rows, n_features=24, n_active=5, n_steps=0)
    assert error(CODER) < 0.8 * error(untrained)
    again = SparseCoder(rows, n_features=24, n_active=5, n_steps=60)
    assert [part.tolist() for part in again.code(rows[0])] == [part.tolist() for part in CODER.code(rows[0])]


# ---- as peers ----
OPTIONS = ("yes", "no", "perhaps")
WORDS = ("parcel", "refund", "invoice", "broken", "late", "colour", "size", "address")
POOL = tuple(Example(i, f"{WORDS[i % 8]} {WORDS[i // 2 % 8]} {i}", OPTIONS[i % 3]) for i in range(30))
TASK = Task("some", POOL[:24], POOL[24:], OPTIONS, Template())


@pytest.mark.parametrize("entry", [*miras.PEERS, *sauce.PEERS], ids=lambda entry: entry.name)
def test_peers_forget_exactly(entry: Entry, small: TransformersLLM) -> None:
    unused: Any = None
    tools = Tools(small, WordEmbedder(), unused, unused)
    peer, fresh = entry.make(tools), entry.make(tools)
    assert entry.exactness == "exact"
    assert entry.kind == "index"
    for gone in ((3,), (0, 1, 5, 17), tuple(range(24))):
        world = World(TASK, tuple(range(24)), 1)
        peer.fit(world)
        before = peer.scores(TASK.test)
        peer.forget(gone)
        fresh.fit(world.without(gone))
        after = peer.scores(TASK.test)
        assert after.shape == (6, 3)
        assert after.tobytes() == fresh.scores(TASK.test).tobytes()
        assert after.tobytes() != before.tobytes()
        assert peer.kept_bytes() == fresh.kept_bytes()


def test_public_words_are_of_the_vocabulary_or_stop_words(small: TransformersLLM) -> None:
    words = public_words(small)  # its vocabulary is bytes
    assert len(words) > 300
    assert len(set(words)) == len(words)
    assert "the" in words
    assert public_words(small) == words


def test_coder_sees_nothing_but_public_words(small: TransformersLLM) -> None:
    unused: Any = None
    embedder = WordEmbedder()
    peer = SaucePeer(Tools(small, embedder, unused, unused), words=["red", "green", "blue", "black"])
    seen = list(embedder.texts)
    peer.fit(World(TASK, (0, 1, 2), 1))
    assert set(seen) == {"red", "green", "blue", "black"}
    assert embedder.texts[: len(seen)] == seen
