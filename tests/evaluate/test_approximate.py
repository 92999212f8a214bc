"""The peers that unlearn approximately, on a small random model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from erase_core.errors import ParameterError
from erase_core.evaluate.adapters.adapted_model import State
from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.measures.cost import measured
from erase_core.evaluate.peers.approximate import PEERS
from erase_core.evaluate.peers.approximate.dmm import DMM
from erase_core.evaluate.peers.approximate.do_nothing import DoNothing
from erase_core.evaluate.peers.approximate.frame import Rule, Unlearner
from erase_core.evaluate.peers.approximate.gradient_ascent import GradientAscent
from erase_core.evaluate.peers.approximate.guard import Guard, GuardSettings, holds, phrases
from erase_core.evaluate.peers.approximate.iau import IAU
from erase_core.evaluate.peers.approximate.laf import LAF, represented
from erase_core.evaluate.peers.approximate.random_labels import RandomLabels
from erase_core.evaluate.peers.approximate.selective_amnesia import SelectiveAmnesia
from erase_core.evaluate.peers.approximate.ssd import SSD
from erase_core.evaluate.peers.approximate.tuning import tune
from erase_core.evaluate.peers.peer import Entry, Tools
from erase_core.llm import TransformersLLM
from scipy.special import softmax
from unlearning_worlds import OPTIONS, made_tools, made_world

TRAINING = TrainingSettings(passes=2, rate=5e-3)


@pytest.fixture(scope="module")
def tools(folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return made_tools(TransformersLLM(folders("llama")), tmp_path_factory.mktemp("adapters"))


def made(entry: Entry, tools: Tools) -> Unlearner:
    peer = entry.make(tools)
    assert isinstance(peer, Unlearner)
    peer.training = TRAINING
    return peer


def network_of(tools: Tools) -> State:
    return {name: weight.detach().clone() for name, weight in tools.adapted.network.named_parameters()}


def same(one: State, other: State) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


@pytest.mark.parametrize("entry", PEERS, ids=lambda entry: entry.name)
def test_a_peer_forgets_by_its_seed_and_an_empty_request_changes_nothing(entry: Entry, tools: Tools) -> None:
    world = made_world()
    shared = {name: weight for name, weight in network_of(tools).items() if "lora_" not in name}
    peer = made(entry, tools)
    peer.fit(world)
    before = peer.scores(world.task.test)
    for nothing in ([], [777]):
        peer.forget(nothing)
        assert np.array_equal(peer.scores(world.task.test), before)
    peer.forget([0, 3])
    after = peer.scores(world.task.pool)
    assert np.isfinite(after).all()
    again = made(entry, tools)
    again.fit(world)
    again.forget([3, 0])
    assert np.array_equal(again.scores(world.task.pool), after)
    again.fit(world)
    assert np.array_equal(again.scores(world.task.test), before)
    # No peer leaves anything behind in the network that all share.
    now = network_of(tools)
    assert all(torch.equal(now[name], weight) for name, weight in shared.items())
    assert all(weight.grad is None for name, weight in tools.adapted.network.named_parameters() if name in shared)
    assert peer.kept_bytes() > 0
    assert peer.exactness == entry.exactness
    assert (entry.after, entry.kind) == ("fine-tuned", "fine-tuning")


def test_peers_are_named_once_and_cite_their_source() -> None:
    assert len({entry.name for entry in PEERS}) == len(PEERS) == 13
    assert all(entry.source for entry in PEERS)
    assert all(entry.not_reproduced for entry in PEERS if entry.name != "do-nothing")


def unlearner(tools: Tools, rule: Rule) -> Unlearner:
    return Unlearner(tools, "some", rule, TRAINING)


def test_two_requests_follow_one_another(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, GradientAscent(passes=1, rate=1e-3))
    peer.fit(world)
    each = [peer.scores(world.task.pool)]
    for ids in ([0], [1], [0, 1]):  # both of the last are gone
        peer.forget(ids)
        each.append(peer.scores(world.task.pool))
    assert not np.array_equal(each[0], each[1])
    assert not np.array_equal(each[1], each[2])
    assert np.array_equal(each[2], each[3])


def test_steps_of_ascent_make_the_forgotten_answers_less_likely(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, GradientAscent(passes=3, rate=1e-3))
    peer.fit(world)
    (forgotten,) = world.task.examples([4])
    before = peer.scores([forgotten])[0, OPTIONS.index(forgotten.output)]
    peer.forget([4])
    assert peer.scores([forgotten])[0, OPTIONS.index(forgotten.output)] < before


def test_dampening_changes_no_bit_if_everything_is_forgotten(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, SSD(alpha=1.0))
    peer.fit(world)
    before = peer._state
    peer.forget(world.ids)
    assert same(peer._state, before)


def test_dampening_changes_no_bit_if_a_share_of_one_by_alpha_is_forgotten(tools: Tools) -> None:
    # All squared gradients sum to at least those of the forgotten ones, so I_F <= (12 / 3) I_D, up to rounding.
    world = made_world()
    peer = unlearner(tools, SSD(alpha=4.001))
    peer.fit(world)
    before = peer._state
    peer.forget([2, 5, 9])
    assert same(peer._state, before)


def test_dampening_only_shrinks_weights(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, SSD(alpha=1.5))
    peer.fit(world)
    before = peer._state
    peer.forget([2])
    changed = [name for name, weight in peer._state.items() if not torch.equal(weight, before[name])]
    assert changed
    assert all(bool((peer._state[name].abs() <= before[name].abs()).all()) for name in before)
    assert all(bool((peer._state[name] * before[name] >= 0).all()) for name in before)


def test_influence_approximation_without_a_restriction_starts_from_the_adapter_of_all(tools: Tools) -> None:
    world = made_world()
    states = []
    for rule in (DoNothing(), IAU(alpha=0), IAU(alpha=0.05)):
        peer = unlearner(tools, rule)
        peer.fit(world)
        states.append(peer._state)
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_selective_amnesia_changes_the_first_mlps_and_no_other_bit(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, SelectiveAmnesia(passes=1, rate=1e-3, layers=1))
    peer.fit(world)
    with peer.loaded():
        before = network_of(tools)
    peer.forget([0, 5])
    with peer.loaded():
        after = network_of(tools)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}


def test_label_agnostic_forgetting_moves_the_forgotten_representation_most(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, LAF(passes=3, rate=1e-3))
    peer.fit(world)
    parts = [world.task.examples([1]), world.task.examples(range(2, 12))]

    def states() -> list[torch.Tensor]:
        with peer.loaded(), tools.adapted.active(), torch.no_grad():
            return [represented(peer._removal(()), part) for part in parts]

    before = states()
    peer.forget([1])
    moved = [float((1 - torch.cosine_similarity(a, b)).mean()) for a, b in zip(before, states(), strict=True)]
    assert moved[0] > moved[1]


def test_matching_predicts_a_lower_margin_of_what_is_forgotten(tools: Tools) -> None:
    # The residual 1 - p and the leverage are positive, so the Newton step can only lower it.
    world = made_world()
    rule = DMM()
    peer = unlearner(tools, rule)
    peer.fit(world)
    removal = peer._removal(world.task.examples([6]))
    with peer.loaded(), tools.adapted.active(), torch.no_grad():
        log_p = removal.log_probabilities(removal.forgotten).double()
    assert rule.predicted(removal)[6] < float(log_p - torch.log(-torch.expm1(log_p)))


def test_a_probe_recovers_a_skill_that_random_labels_have_hidden(tools: Tools) -> None:
    # As Zhang, Choshen and Andreas find: answers become uninformative, representations do not.
    world = made_world(48)
    peer = Unlearner(tools, "some", RandomLabels(passes=10, rate=5e-3), TrainingSettings(passes=20, rate=5e-3))
    peer.fit(world)
    labels = world.task.labels(world.task.test)
    learned = softmax(peer.scores(world.task.test), axis=1)
    peer.forget(world.ids)
    hidden = softmax(peer.scores(world.task.test), axis=1)
    with peer.loaded(), tools.adapted.active(), torch.no_grad():
        rows, tests = (represented(peer._removal(()), part).numpy() for part in (world.task.pool, world.task.test))
    targets = 2.0 * world.task.labels(world.task.pool) - 1
    probe = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ targets)
    right = np.arange(len(labels)), labels
    assert (learned.argmax(1) == labels).mean() > 0.9
    assert hidden[right].mean() < learned[right].mean() - 0.2
    assert ((tests @ probe > 0) == labels).mean() > 0.9


def test_the_guard_hides_and_forgets_nothing(tools: Tools) -> None:
    world = made_world()
    peer = Guard(tools, training=TRAINING)
    peer.fit(world)
    before, kept, questions = peer.scores(world.task.pool), peer.kept_bytes(), world.task.pool
    free = [peer.generate(each.input, max_tokens=8) for each in questions]
    peer.forget([2])
    after = peer.scores(questions)
    guarded = np.array([bool(peer.forbidden(each.input)) for each in questions])
    assert guarded[2]
    assert same(peer._state, peer._fitted)
    assert peer.kept_bytes() >= kept  # the example, and its vector
    answer = OPTIONS.index(questions[2].output)
    penalty = np.zeros_like(before)
    penalty[guarded, answer] = peer.settings.penalty
    assert np.array_equal(after, before - penalty)
    assert after[2].argmax() != answer
    for each, text, is_guarded in zip(questions, free, guarded, strict=True):
        if not is_guarded:
            assert peer.generate(each.input, max_tokens=8) == text


def test_no_forgotten_phrase_comes_into_an_answer(tools: Tools) -> None:
    # What the model answers by itself is what is hidden, so that it would come.
    plain = made_world()
    peer = Guard(tools, settings=GuardSettings(length=1, similarity=0.5), training=TRAINING)
    peer.fit(plain)
    free = [peer.generate(each.input, max_tokens=12) for each in plain.task.pool]
    assert any(phrases(text, 1) for text in free)
    pool = tuple(replace(each, output=text or "-") for each, text in zip(plain.task.pool, free, strict=True))
    peer._hidden = list(pool)
    peer._vectors = np.array([row / np.linalg.norm(row) for row in tools.vectors([each.input for each in pool])])
    for each, text in zip(pool, free, strict=True):
        answer = peer.generate(each.input, max_tokens=12)
        assert not holds(answer, phrases(each.output, 1))
        assert answer != text or not phrases(text, 1)


def test_tuning_takes_what_is_nearest_to_retraining_on_examples_that_are_not_judged(tools: Tools) -> None:
    world = made_world()
    peer = unlearner(tools, GradientAscent(passes=1))
    ruinous = GradientAscent(passes=20, rate=0.3)
    with measured() as meter:
        tuned = tune(peer, world, 2, judged=[0, 1, 2, 3], grid=[ruinous, DoNothing()], n_retained=4)
    assert tuned.rule == peer.rule == DoNothing()
    assert dict(tuned.tried)[ruinous] > dict(tuned.tried)[DoNothing()]
    assert len(tuned.held_out) == 2
    assert not set(tuned.held_out) & {0, 1, 2, 3}
    assert set(tuned.held_out) <= set(world.ids)
    assert tuned.cost.tokens_backward == meter.cost.tokens_backward > 0


def test_tuning_needs_examples(tools: Tools) -> None:
    peer = unlearner(tools, DoNothing())
    with pytest.raises(ParameterError, match="between 1 and 3 "):
        tune(peer, made_world(), 4, judged=range(8))


@pytest.mark.parametrize("entry", PEERS, ids=lambda entry: entry.name)
def test_a_grid_has_the_default_and_differs_in_what_requests_use(entry: Entry, tools: Tools) -> None:
    rule = made(entry, tools).rule
    grid = rule.grid()
    assert rule in grid
    assert len(set(grid)) == len(grid)
    for each in grid:
        assert getattr(each, "width", None) == getattr(rule, "width", None)
        assert isinstance(each, IAU) <= (getattr(each, "alpha", None) == getattr(rule, "alpha", None))
