"""Fine-tuning, SISA and S3T forget exactly: what is left is what training without the forgotten examples gives.

Fresh fits have a folder of their own, so that no adapter is read that the other fit has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from erase_core.errors import ParameterError
from erase_core.evaluate.adapters.adapted_model import AdaptedModel, State, layer_of
from erase_core.evaluate.adapters.checkpoints import Checkpoints
from erase_core.evaluate.adapters.seta import SeTa
from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.measures.cost import measured
from erase_core.evaluate.peers import retraining, s3t, sisa
from erase_core.evaluate.peers.peer import Peer, Tools
from erase_core.evaluate.peers.retraining import FineTuned
from erase_core.evaluate.peers.s3t import S3T, Orders, blocks
from erase_core.evaluate.peers.sisa import SISA, retrained, slice_passes, voted
from erase_core.evaluate.tasks.world import World
from erase_core.libraries import torch_threads
from fine_tuning import OPTIONS, TEMPLATE, adapted, same, task, tools, world
from scipy.special import log_softmax

SETTINGS = TrainingSettings(passes=1, batch=4)
PRUNED = TrainingSettings(passes=3, batch=4, pruning=SeTa(groups=3, window=1))

MakeTools = Callable[[], Tools]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AdaptedModel:
    return adapted(tmp_path_factory.mktemp("model"))


@pytest.fixture
def make_tools(model: AdaptedModel, tmp_path: Path) -> MakeTools:
    """Return tools with the same model and an empty folder of checkpoints."""
    numbers = count()
    return lambda: tools(model, tmp_path / str(next(numbers)))


def all_same(a: dict[int, list[State]], b: dict[int, list[State]]) -> bool:
    return a.keys() == b.keys() and all(len(a[key]) == len(b[key]) and all(map(same, a[key], b[key])) for key in a)


def ids_in(peer: SISA | S3T, place: tuple[int, int], of: World) -> list[int]:
    return [id_ for id_ in of.ids if (peer.place(id_, of) if isinstance(peer, SISA) else peer.place(id_)) == place]


# ---- all of them ----
ALL: dict[str, Callable[[Tools], Peer]] = {
    "fine-tuned": lambda tools: FineTuned(tools, SETTINGS),
    "fine-tuned-seta": lambda tools: FineTuned(tools, PRUNED),
    "sisa": lambda tools: SISA(tools, 2, 2, settings=SETTINGS),
    "sisa-strike": lambda tools: SISA(tools, 2, strike=True, settings=SETTINGS),
    "s3t": lambda tools: S3T(tools, 2, 2, 2, settings=SETTINGS),
}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_two_fits_have_the_same_scores_and_one_more_fit_drops_what_was(
    make: Callable[[Tools], Peer], make_tools: MakeTools
) -> None:
    first, second = make(make_tools()), make(make_tools())
    second.fit(world(8, seed=9))
    for peer in (first, second):
        peer.fit(world())
    scores = first.scores(task().test)
    assert scores.shape == (len(task().test), len(OPTIONS))
    assert np.array_equal(scores, second.scores(task().test))


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_ids_that_are_not_there_cost_nothing_and_the_last_example_can_go(
    make: Callable[[Tools], Peer], make_tools: MakeTools, model: AdaptedModel
) -> None:
    peer = make(make_tools())
    peer.fit(world())
    before, kept = peer.scores(task().test), peer.kept_bytes()
    with measured() as meter:
        peer.forget([77])
        peer.forget([])
    assert meter.cost.tokens_backward == 0
    assert np.array_equal(peer.scores(task().test), before)
    peer.forget(world().ids)
    np.testing.assert_allclose(peer.scores(task().test), model.scores(task().test, OPTIONS, TEMPLATE), atol=1e-4)
    assert peer.kept_bytes() < kept


def test_the_lists_have_unique_names_that_the_peers_have(make_tools: MakeTools) -> None:
    entries = [*retraining.PEERS, *sisa.PEERS]
    for entry in entries:
        peer = entry.make(make_tools())
        assert (peer.name, peer.exactness) == (entry.name, entry.exactness)
    names = [entry.name for entry in [*entries, *s3t.PEERS]]
    assert len(set(names)) == len(names)
    for entry in s3t.PEERS:  # which cut a model into more blocks than the tiny one has layers
        with pytest.raises(ParameterError, match="at most the number of the model's layers, 2, got 4"):
            entry.make(make_tools())


# ---- retraining ----
@pytest.mark.parametrize("settings", [SETTINGS, PRUNED], ids=["plain", "seta"])
def test_fine_tuning_forgets_to_the_bits_of_a_fresh_fit(settings: TrainingSettings, make_tools: MakeTools) -> None:
    peer, fresh = FineTuned(make_tools(), settings), FineTuned(make_tools(), settings)
    peer.fit(world())
    before = peer.state
    peer.forget([2, 5])
    peer.forget([7])
    fresh.fit(world().without([2, 5, 7]))
    assert same(peer.state, fresh.state)
    assert not same(peer.state, before)


# ---- SISA ----
@pytest.mark.parametrize("n_slices", [1, 2])
def test_sisa_forgets_to_the_bits_of_a_fresh_fit_and_leaves_other_shards(
    n_slices: int, make_tools: MakeTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several requests at once, for each slice of a shard: it is trained again once, from the first slice."""
    whole = world(20)
    peer, fresh = (SISA(make_tools(), 2, n_slices, settings=SETTINGS) for _ in range(2))
    peer.fit(whole)
    before = dict(peer.states)
    gone = [ids_in(peer, (1, slice_), whole)[0] for slice_ in range(n_slices)]
    gone.append(ids_in(peer, (1, n_slices - 1), whole)[1])
    trained: list[int] = []
    train = peer._train

    def noted(shard: int, done: list[State]) -> list[State]:
        trained.append(shard)
        return train(shard, done)

    monkeypatch.setattr(peer, "_train", noted)
    peer.forget(gone)
    assert trained == [1]
    fresh.fit(whole.without(gone))
    assert all_same(peer.states, fresh.states)
    assert peer.states[0] is before[0]
    assert np.array_equal(peer.scores(task().test), fresh.scores(task().test))


def test_places_do_not_depend_on_other_examples(make_tools: MakeTools) -> None:
    peer = SISA(make_tools(), 4, 4)
    whole, part = world(40), World(task(40), (3, 11, 17), 3)
    assert [peer.place(id_, part) for id_ in part.ids] == [peer.place(id_, whole) for id_ in part.ids]
    sizes = np.bincount([peer.place(id_, World(task(1), (), 0))[0] for id_ in range(4000)])
    # Binomial: 1000 each, with a standard deviation of 27.
    assert np.abs(sizes - 1000).max() < 4 * (4000 * 1 / 4 * 3 / 4) ** 0.5


def test_a_removal_trains_again_from_the_slice_of_its_example(make_tools: MakeTools, model: AdaptedModel) -> None:
    """The tokens that it costs are those of the stages that saw the example, without it."""
    passes, all_of = 2, world(16)
    peer = SISA(make_tools(), 1, 3, settings=TrainingSettings(passes=passes, batch=4))
    for stage in range(3):
        peer.fit(all_of)
        before = peer.states[0]
        gone = ids_in(peer, (0, stage), all_of)[0]
        with measured() as meter:
            peer.forget([gone])
        assert all(peer.states[0][earlier] is before[earlier] for earlier in range(stage))
        assert not any(map(same, peer.states[0][stage:], before[stage:]))
        left = all_of.without([gone])
        sizes = [len(ids_in(peer, (0, slice_), left)) for slice_ in range(3)]
        lengths = [len(model.encode(each, TEMPLATE).tokens) for each in left.examples]
        expected = retrained(sizes, stage, passes)
        assert expected * min(lengths) <= meter.cost.tokens_backward <= expected * max(lengths)


@pytest.mark.parametrize("n_slices", [1, 2, 4, 10, 50])
def test_expected_cost_by_slices_is_that_of_the_paper(n_slices: int) -> None:
    """A random example of equal slices: (2/3 + 1/(3R)) of training the whole shard."""
    passes, size = 3, 10_000
    sizes = [size] * n_slices
    n = size * n_slices
    whole = retrained(sizes, 0, passes)
    # Each stage is rounded to a whole example.
    assert abs(whole - passes * n) <= n_slices / 2
    mean = sum(retrained(sizes, first, passes) for first in range(n_slices)) / n_slices
    assert mean == pytest.approx((2 / 3 + 1 / (3 * n_slices)) * passes * n, abs=n_slices / 2)
    assert slice_passes(passes, 1) == passes


def test_one_shard_without_slices_is_fine_tuning(make_tools: MakeTools) -> None:
    shared = make_tools()
    whole, shard = FineTuned(shared, SETTINGS), SISA(shared, 1, settings=SETTINGS)
    whole.fit(world())
    shard.fit(world())
    assert same(whole.state, shard.states[0][-1])
    assert len(list(shared.checkpoints.folder.glob("*.safetensors"))) == 1  # so it was trained once


def test_strike_drops_a_shard_for_nothing_and_trains_again_when_all_are_dropped(make_tools: MakeTools) -> None:
    peer, fresh = (SISA(make_tools(), 2, strike=True, settings=SETTINGS) for _ in range(2))
    peer.fit(world())
    before = dict(peer.states)
    first, second = (ids_in(peer, (shard, 0), world()) for shard in range(2))
    with measured() as meter:
        peer.forget([first[0]])
        peer.forget([first[1]])
    assert meter.cost.tokens_backward == 0
    assert peer.states == {1: before[1]}
    fresh.fit(world().without(first))  # a fit without the whole shard
    assert all_same(peer.states, fresh.states)
    peer.forget([second[0]])
    fresh.fit(world().without([*first[:2], second[0]]))
    assert all_same(peer.states, fresh.states)


def test_shards_together_have_the_mean_or_the_vote() -> None:
    shards = log_softmax(np.random.default_rng(0).normal(size=(5, 40, 3)), axis=2)
    np.testing.assert_allclose(voted(shards, "mean"), sum(shards) / 5)
    scores = voted(shards, "majority")
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1)
    ties = 0
    for question in range(40):
        votes = [sum(shard[question].argmax() == option for shard in shards) for option in range(3)]
        best = [option for option in range(3) if votes[option] == max(votes)]
        ties += len(best) > 1
        assert scores[question].argmax() == max(best, key=lambda option: shards[:, question, option].mean())
    assert ties


@pytest.mark.parametrize("bad", [(0, 1), (1, 0)])
def test_sisa_refuses_numbers_out_of_range(bad: tuple[int, int], make_tools: MakeTools) -> None:
    with pytest.raises(ParameterError, match="n_s"):
        SISA(make_tools(), *bad)


# ---- S3T ----
@pytest.mark.parametrize("n_orders", [1, 2, 3, 6])
def test_expected_random_deletions_until_a_service_is_dead(n_orders: int) -> None:
    """The last of m B first slices is hit: m L H(m B), since each of m L slices is as likely at each deletion."""
    m, length, runs = 5, 6, 1500
    draws = np.random.default_rng(n_orders)
    lives = []
    for _ in range(runs):
        orders = Orders(m, length, n_orders)
        n = 0
        for slice_ in draws.integers(m * length, size=1000).tolist():  # more than any service lives
            n += 1
            orders.delete(*divmod(slice_, length))
            if orders.dead:
                break
        assert orders.dead
        lives.append(n)
    # With k first slices to go, the next is hit after a geometric number of deletions, with p = k / (m L).
    chances = [k / (m * length) for k in range(1, m * n_orders + 1)]
    expected = m * length * sum(1 / k for k in range(1, m * n_orders + 1))
    error = (sum((1 - p) / p**2 for p in chances) / runs) ** 0.5
    assert round(expected, 1) == {1: 68.5, 2: 87.9, 3: 99.5, 6: 119.8}[n_orders]
    assert abs(np.mean(lives) - expected) < 4 * error


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_with_all_rotations_all_but_one_slice_can_be_deleted(length: int) -> None:
    for seed in range(20):
        orders = Orders(1, length, length)
        order = np.random.default_rng(seed).permutation(length).tolist()
        for n, slice_ in enumerate(order):
            assert not orders.dead
            best = orders.best(0)
            assert best is not None
            alive = orders.slices(best)[: orders.left[0, best]]
            assert alive
            assert not set(alive) & set(order[:n])
            orders.delete(0, slice_)
        assert orders.dead
        assert orders.best(0) is None


@pytest.mark.parametrize(("length", "n_orders"), [(6, 1), (6, 2), (6, 4), (6, 6)])
def test_orders_are_rotations_with_different_first_slices(length: int, n_orders: int) -> None:
    orders = Orders(2, length, n_orders)
    all_of = [orders.slices(order) for order in range(n_orders)]
    assert len({slices[0] for slices in all_of}) == n_orders
    for slices in all_of:
        assert slices == tuple((slices[0] + place) % length for place in range(length))
        for slice_ in range(length):
            cut = Orders(2, length, n_orders)
            cut.delete(1, slice_)
            for order in range(n_orders):
                assert cut.left[1, order] == cut.slices(order).index(slice_)
                assert cut.left[0, order] == length  # another shard


def test_blocks_are_all_layers_from_the_top() -> None:
    assert blocks(range(7), 3) == [(6, 5, 4), (3, 2), (1, 0)]
    assert blocks((0, 1), 2) == [(1,), (0,)]
    with pytest.raises(ParameterError, match="n_slices must be at most the number of the model's layers, 2"):
        blocks((0, 1), 3)


def test_s3t_cuts_to_the_bits_of_training_only_up_to_there(make_tools: MakeTools, model: AdaptedModel) -> None:
    peer = S3T(make_tools(), 1, 2, 2, settings=SETTINGS)
    peer.fit(world())
    before = dict(peer.states)
    assert [peer.orders.slices(order) for order in range(2)] == [(0, 1), (1, 0)]
    with measured() as meter:
        peer.forget([ids_in(peer, (0, 1), world())[0]])
    assert meter.cost.tokens_backward == 0
    assert peer.states.keys() == {(0, 0)}  # the order that began with the slice is dropped
    cut = peer.states[0, 0]
    # Without the second stage, and with no example of its slice there.
    fresh = S3T(make_tools(), 1, 2, 2, settings=SETTINGS)
    fresh.world = world().without(ids_in(peer, (0, 1), world()))
    seed, stages = fresh.stages(0, 0)
    (expected,) = Checkpoints(make_tools().checkpoints.folder).stages(model, TEMPLATE, seed, stages[:1])
    assert same(cut, expected)
    for name, weight in before[0, 0].items():
        stays = layer_of(name) == 1  # the top block
        assert np.array_equal(weight.numpy().view("i4"), cut[name].numpy().view("i4")) == stays
    model.load(expected)
    with model.active():
        scores = model.scores(task().test, OPTIONS, TEMPLATE)
    assert np.array_equal(peer.scores(task().test), scores)


def test_blocks_are_trained_on_the_slices_so_far_of_their_shard(make_tools: MakeTools) -> None:
    peer = S3T(make_tools(), 2, 2, 2, settings=SETTINGS)
    peer.world = world()
    for shard, order in peer.orders.left:
        slices = peer.orders.slices(order)
        _, stages = peer.stages(shard, order)
        assert [stage.layers for stage in stages] == [(1,), (0,)]
        for n, stage in enumerate(stages, 1):
            wanted = {id_ for slice_ in slices[:n] for id_ in ids_in(peer, (shard, slice_), world())}
            assert {each.id for each in stage.examples} == wanted


def test_s3t_trains_again_when_all_orders_are_dead(make_tools: MakeTools) -> None:
    peer, fresh = (S3T(make_tools(), 1, 2, 2, settings=SETTINGS) for _ in range(2))
    peer.fit(world())
    gone = [ids_in(peer, (0, slice_), world())[0] for slice_ in range(2)]
    peer.forget(gone[:1])
    with measured() as meter:
        peer.forget(gone[1:])
    assert meter.cost.tokens_backward
    fresh.fit(world().without(gone))
    assert peer.orders.left == fresh.orders.left
    assert peer.states.keys() == fresh.states.keys()
    assert all(same(peer.states[key], fresh.states[key]) for key in fresh.states)


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 2, 0), (1, 2, 3)])
def test_s3t_refuses_numbers_out_of_range(bad: tuple[int, int, int], make_tools: MakeTools) -> None:
    with pytest.raises(ParameterError, match="n_"):
        S3T(make_tools(), *bad)
