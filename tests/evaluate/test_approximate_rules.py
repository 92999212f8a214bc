"""The rules of approximate unlearning, each on a case with a known answer."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from erase_core.errors import LLMError, ParameterError
from erase_core.evaluate.adapters.adapted_model import Encoded
from erase_core.evaluate.peers.approximate import selective_amnesia
from erase_core.evaluate.peers.approximate.dmm import change_of_outputs, margins, sketch
from erase_core.evaluate.peers.approximate.flat import DIVERGENCES, FLAT
from erase_core.evaluate.peers.approximate.frame import Steps
from erase_core.evaluate.peers.approximate.grad_diff import GradDiff
from erase_core.evaluate.peers.approximate.gradient_ascent import GradientAscent
from erase_core.evaluate.peers.approximate.guard import holds, phrases
from erase_core.evaluate.peers.approximate.iau import IAU, RestrictedLoss
from erase_core.evaluate.peers.approximate.laf import align_loss, apart_loss
from erase_core.evaluate.peers.approximate.npo import NPO, npo_loss
from erase_core.evaluate.peers.approximate.random_labels import RandomLabels, random_labels
from erase_core.evaluate.peers.approximate.selective_amnesia import SelectiveAmnesia, retain_weight
from erase_core.evaluate.peers.approximate.simnpo import SimNPO
from erase_core.evaluate.peers.approximate.ssd import SSD, dampened
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from unlearning_worlds import OPTIONS, Fixed, Toy, removal_of

F, N = 3, 7
STEP = 1e-6


def slopes(rule: Steps, losses: torch.Tensor, reference: torch.Tensor | None = None) -> np.ndarray:
    """Return the derivative of an objective by the loss of each example, by finite differences."""
    model = Fixed(losses if reference is None else reference)
    removal = removal_of(model, F, N)
    objective = rule.objective(removal)
    made = []
    for place in range(N):
        values = []
        for step in (-STEP, STEP):
            model.values = losses.clone()
            model.values[place] += step
            values.append(float(objective(removal.forgotten, removal.retained)))
        made.append((values[1] - values[0]) / (2 * STEP))
    return np.array(made)


@pytest.fixture
def losses() -> torch.Tensor:
    return torch.tensor([0.3, 1.7, 0.9, 0.2, 2.5, 1.1, 0.6], dtype=torch.float64)


def test_gradient_ascent_raises_the_forgotten_losses_alone(losses: torch.Tensor) -> None:
    np.testing.assert_allclose(slopes(GradientAscent(), losses), [-1 / 3] * 3 + [0] * 4, atol=1e-8)


def test_gradient_difference_raises_the_forgotten_and_lowers_the_retained_losses(losses: torch.Tensor) -> None:
    expected = [-0.5 / 3] * 3 + [2 / 4] * 4
    np.testing.assert_allclose(slopes(GradDiff(gamma=0.5, alpha=2), losses), expected, atol=1e-8)


def test_npo_begins_as_gradient_ascent_on_whole_answers(losses: torch.Tensor) -> None:
    # At p = p_ref the derivative of -(2/beta) log sigmoid(-beta r) by r is 2 sigmoid(0) = 1, whatever beta.
    lengths = np.array([1, 2, 3])  # of the answers 0, 1 and 2
    for beta in (0.1, 1.0):
        made = slopes(NPO(beta=beta, alpha=0.7), losses)
        np.testing.assert_allclose(made[:F], -lengths / 3, atol=1e-7)
        np.testing.assert_allclose(made[F:], 0.7 / 4, atol=1e-7)


def test_npo_weakens_as_answers_become_unlikely(losses: torch.Tensor) -> None:
    # The derivative by log p is 2 p^beta / (p^beta + p_ref^beta).
    rises, beta, lengths = np.array([0.5, 2.0, 9.0]), 0.4, np.array([1, 2, 3])
    later = losses.clone()
    later[:F] += torch.tensor(rises)
    ratios = np.exp(-beta * rises * lengths)  # p^beta / p_ref^beta of whole answers
    made = slopes(NPO(beta=beta, alpha=0), later, reference=losses)
    np.testing.assert_allclose(made[:F], -lengths / 3 * 2 * ratios / (1 + ratios), atol=1e-7)
    assert not made[F:].any()


def test_npo_at_the_reference_is_a_constant() -> None:
    log_p = torch.tensor([-3.0, -0.1], dtype=torch.float64)
    assert float(npo_loss(log_p, log_p, 0.25)) == pytest.approx(2 / 0.25 * log(2), abs=1e-12)


def test_simnpo_has_the_slope_of_its_sigmoid(losses: torch.Tensor) -> None:
    beta, delta, gamma = 2.0, 0.5, 0.25
    made = slopes(SimNPO(beta=beta, delta=delta, gamma=gamma, alpha=3), losses)
    expected = [-2 * gamma / 3 / (1 + exp(beta * (float(loss) - delta))) for loss in losses[:F]]
    np.testing.assert_allclose(made, [*expected, *[3 / 4] * 4], atol=1e-7)


def chi_square(labels: list[int]) -> float:
    expected = len(labels) / len(OPTIONS)
    return sum((labels.count(label) - expected) ** 2 / expected for label in range(len(OPTIONS)))


def test_random_labels_are_uniform() -> None:
    # A right implementation exceeds the bound for one seed in a million.
    bound = stats.chi2.isf(1e-6, len(OPTIONS) - 1)
    assert chi_square(random_labels(9000, len(OPTIONS), np.random.default_rng(5)).tolist()) < bound


def test_the_rule_of_random_labels_trains_on_uniform_ones(losses: torch.Tensor) -> None:
    model = Fixed(losses)
    removal = removal_of(model, F, N)
    objective = RandomLabels().objective(removal)
    for _ in range(1000):
        objective(removal.forgotten, removal.retained)
    bound = stats.chi2.isf(1e-6, len(OPTIONS) - 1)
    for example in removal.forgotten:  # whatever the right answer
        labels = [OPTIONS.index(each.output) for each in model.seen if each.id == example.id]
        assert len(labels) == 1000
        assert chi_square(labels) < bound
    assert {each.input for each in model.seen} == {each.input for each in removal.forgotten}


PROBABILITY = st.floats(0.01, 0.99)


@pytest.mark.parametrize("name", DIVERGENCES)
@given(wanted=PROBABILITY, unwanted=PROBABILITY)
def test_flat_raises_the_template_and_lowers_the_forgotten_answer(name: str, wanted: float, unwanted: float) -> None:
    loss = {str(key): value for key, value in DIVERGENCES.items()}[name]

    def value(p_e: float, p_f: float) -> float:
        return float(loss(torch.tensor(p_e, dtype=torch.float64), torch.tensor(p_f, dtype=torch.float64)))

    assert value(wanted + 1e-3, unwanted) < value(wanted, unwanted)
    assert value(wanted, unwanted + 1e-3) > value(wanted, unwanted)


@given(p=st.floats(0, 1))
def test_flat_by_total_variation_is_zero_at_equality(p: float) -> None:
    assert DIVERGENCES["tv"](torch.tensor(p), torch.tensor(p)) == 0


@pytest.mark.parametrize(("name", "p"), [("tv", 0.0), ("kl", 1.0), ("pearson", 0.0), ("js", 0.0)])
def test_flat_is_zero_where_its_formula_is(name: str, p: float) -> None:
    # -1 + exp(1 - 1), -0 + 0 + 0, and 2 ln 2 - 2 ln 2
    loss = {str(key): value for key, value in DIVERGENCES.items()}[name]
    assert float(loss(torch.tensor(p, dtype=torch.float64), torch.tensor(p, dtype=torch.float64))) == pytest.approx(0)


def test_flat_takes_four_divergences() -> None:
    with pytest.raises(ParameterError, match="must be one of tv, kl, pearson, js"):
        FLAT(divergence="hellinger")  # type: ignore[arg-type]


def test_dampening_leaves_all_bits_if_everything_is_forgotten() -> None:
    draws = torch.Generator().manual_seed(0)
    weight, importance = torch.randn(99, generator=draws), torch.rand(99, generator=draws)
    for alpha in (1.0, 1.5, 10.0):
        assert torch.equal(dampened(weight, importance, importance, alpha, 0.3), weight)


@pytest.mark.parametrize("lambda_", [1.0, 0.5])
def test_dampening_scales_a_weight_that_only_the_forgotten_use(lambda_: float) -> None:
    # Column 0 is of the two forgotten examples alone, so I_F = (40 / 2) I_D.
    draws = np.random.default_rng(1)
    rows = draws.normal(size=(40, 3))
    rows[2:, 0] = 0
    model = Toy(rows, draws.normal(size=40), np.array([2.0, -1.0, 0.5]))
    rule = SSD(alpha=10, lambda_=lambda_)
    kept = rule.prepare(removal_of(model, 0, 40))
    before = model.state()["w"]
    rule(removal_of(model, 2, 40, kept))
    after = model.state()["w"]
    assert float(after[0]) == pytest.approx(float(before[0]) * lambda_ * 2 / 40, rel=1e-12)
    assert torch.equal(after[1:], before[1:])


@given(seed=st.integers(0, 2**32))
def test_the_step_of_iau_goes_the_way_of_the_newton_removal(seed: int) -> None:
    draws = np.random.default_rng(seed)
    rows, targets = draws.normal(size=(30, 4)) * draws.uniform(0.3, 3, 4), draws.normal(size=30)
    fitted = np.linalg.lstsq(rows, targets)[0].astype(np.float64)
    refitted = np.linalg.lstsq(rows[5:], targets[5:])[0]  # for a quadratic, Newton's step is the refit
    model = Toy(rows, targets, fitted)
    IAU(rate=0.01)(removal_of(model, 5, 30))
    assert np.dot(model.state()["w"].numpy() - fitted, refitted - fitted) > 0


def test_the_gradient_restriction_is_differentiated_through() -> None:
    draws = np.random.default_rng(2)
    model = Toy(draws.normal(size=(6, 3)), draws.normal(size=6), draws.normal(size=3))
    batch = [model.encode(each, removal_of(model, 0, 6).task.template) for each in removal_of(model, 0, 6).retained]

    def by_hand(weights: np.ndarray) -> float:
        errors = model.rows.numpy() @ weights - model.targets.numpy()
        gradient = model.rows.numpy().T @ errors / 6
        return float((errors**2).mean() / 2 + 0.3 * np.sqrt((gradient**2).sum()))

    loss = RestrictedLoss(0.3)(model, batch)  # type: ignore[arg-type]
    loss.backward()
    weights = model.state()["w"].numpy()
    assert float(loss.detach()) == pytest.approx(by_hand(weights), rel=1e-12)
    for place, step in enumerate(np.eye(3) * STEP):
        slope = (by_hand(weights + step) - by_hand(weights - step)) / (2 * STEP)
        assert float(model.weights.grad[place]) == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize(
    ("change", "alpha"),
    # 0.3 * 6^change + 0.8: 1.1, 1.1005, 1.278, 1.535, 1.950, 2.236, 2.6
    [(-9, 1.2), (0, 1.2), (0.001, 1.2), (0.26, 1.3), (0.5, 1.5), (0.75, 2.0), (0.875, 2.2), (1, 2.3), (50, 2.3)],
)
def test_the_weight_of_retained_examples_follows_the_table(change: float, alpha: float) -> None:
    assert retain_weight(change) == alpha


class WithMLP(Toy):
    """Its weights are those of an MLP. Notes which rows each loss is of."""

    def __init__(self, rows: np.ndarray, targets: np.ndarray) -> None:
        super().__init__(rows, targets, np.array([0.4, -0.3]))
        self.asked: list[list[int]] = []
        self.network = SimpleNamespace(
            named_parameters=lambda: [("model.layers.0.mlp.w", self.weights)], parameters=lambda: [self.weights]
        )

    def losses(self, batch: Sequence[Encoded]) -> torch.Tensor:
        self.asked.append([each.tokens[0] for each in batch])
        return super().losses(batch)


def test_selective_amnesia_weighs_retained_examples_by_the_rise_of_their_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rise is that above the mean of the first pass, and the step is on weight * CE_R - CE_F."""
    draws = np.random.default_rng(0)
    rows, targets = draws.normal(size=(6, 2)), draws.normal(size=6)
    model, rises, seen = WithMLP(rows, targets), [], []

    def weight(rise: float) -> float:
        rises.append(rise)
        return 1.0 + len(rises)

    monkeypatch.setattr(selective_amnesia, "retain_weight", weight)
    model.weights.register_hook(lambda slope: seen.append((model.weights.detach().numpy().copy(), slope.numpy())))
    SelectiveAmnesia(passes=3, batch=2, rate=0.1)(removal_of(model, 4, 6))
    assert len(seen) == 6  # two batches of two in each pass
    losses = []
    for step, (weights, slope) in enumerate(seen):
        kept, gone = model.asked[2 * step : 2 * step + 2]
        assert (set(kept), len(gone)) == ({4, 5}, 2)
        errors = rows @ weights - targets
        each = rows * errors[:, None]
        np.testing.assert_allclose(slope, (2.0 + step) * each[kept].mean(0) - each[gone].mean(0), rtol=1e-10)
        losses.append((errors[kept] ** 2).mean() / 2)
    expected = [0, 0, *(loss - np.mean(losses[:2]) for loss in losses[2:])]
    np.testing.assert_allclose(rises, expected, rtol=1e-10)
    assert np.ptp(losses[:2]) > 0.01  # so the mean of the pass is neither of them


def test_selective_amnesia_needs_mlps() -> None:
    with pytest.raises(LLMError, match="Leave this peer out"):
        SelectiveAmnesia().weights({"layers.0.attention.q.weight": 0})


def test_label_agnostic_alignment_of_nothing_forgotten_keeps_representations() -> None:
    earlier = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, none = earlier.clone().requires_grad_(), torch.zeros(0, 8, dtype=torch.float64)
    loss = align_loss(now, earlier, none, none, 1.0)
    (slope,) = torch.autograd.grad(loss, now)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert float(slope.abs().max()) == pytest.approx(0, abs=1e-12)


def turned(rows: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    return (1 - share) * rows + share * other


def test_label_agnostic_losses_draw_the_retained_and_push_the_forgotten() -> None:
    draws = torch.Generator().manual_seed(1)
    kept, gone, other = (torch.randn(4, 8, generator=draws, dtype=torch.float64) for _ in range(3))

    def aligned(of_kept: float, of_gone: float) -> float:
        return float(align_loss(turned(kept, other, of_kept), kept, turned(gone, other, of_gone), gone, 0.5))

    def apart(of_kept: float, of_gone: float) -> float:
        return float(apart_loss(turned(kept, other, of_kept), kept, turned(gone, other, of_gone), gone))

    for loss in (aligned, apart):
        assert loss(0.3, 0.2) > loss(0.2, 0.2) > loss(0.2, 0.3)


@given(seed=st.integers(0, 2**32), n_gone=st.integers(1, 6))
def test_removal_from_a_ridge_regression_is_the_refit(seed: int, n_gone: int) -> None:
    draws = np.random.default_rng(seed)
    rows, targets, ridge = draws.normal(size=(20, 5)), draws.normal(size=20), 0.7
    gone = draws.choice(20, n_gone, replace=False)
    stay = np.setdiff1d(np.arange(20), gone)

    def fit(places: np.ndarray) -> np.ndarray:
        part = rows[places]
        return rows @ np.linalg.solve(part.T @ part + ridge * np.eye(5), part.T @ targets[places])

    outputs = fit(np.arange(20))
    change = change_of_outputs(rows, np.ones(20), targets - outputs, gone.tolist(), ridge)
    np.testing.assert_allclose(outputs + change, fit(stay), atol=1e-10)


def test_removal_with_curvatures_is_a_newton_step() -> None:
    draws = np.random.default_rng(3)
    rows, curvatures, residuals, gone = (
        draws.normal(size=(9, 4)),
        draws.uniform(0, 0.25, 9),
        draws.normal(size=9),
        [1, 6],
    )
    stay = np.setdiff1d(np.arange(9), gone)
    hessian = rows[stay].T @ np.diag(curvatures[stay]) @ rows[stay] + 0.2 * np.eye(4)
    expected = -rows @ np.linalg.inv(hessian) @ rows[gone].T @ residuals[gone]
    np.testing.assert_allclose(change_of_outputs(rows, curvatures, residuals, gone, 0.2), expected, atol=1e-12)


def test_margins_are_the_logits_of_probabilities() -> None:
    p = np.array([1e-6, 0.2, 0.5, 0.99])
    np.testing.assert_allclose(margins(torch.tensor(np.log(p))).numpy(), np.log(p / (1 - p)), atol=1e-12)
    assert bool(torch.isfinite(margins(torch.tensor([0.0, -1e9]))).all())


def test_sketches_are_linear_and_keep_inner_products_in_the_mean() -> None:
    draws = torch.Generator().manual_seed(4)
    one, other = ({"a": torch.randn(3, 9, generator=draws), "b": torch.randn(40, generator=draws)} for _ in range(2))
    both = {name: one[name] + other[name] for name in one}
    torch.testing.assert_close(sketch(both, 16, 0), sketch(one, 16, 0) + sketch(other, 16, 0))
    true = sum(float((one[name] * other[name]).sum()) for name in one)
    norms = [sum(float((each[name] ** 2).sum()) for name in each) for each in (one, other)]
    made = np.array([float(sketch(one, 16, seed) @ sketch(other, 16, seed)) for seed in range(400)])
    # The variance is at most 2 |a|^2 |b|^2 / width; six standard errors.
    assert abs(made.mean() - true) < 6 * np.sqrt(2 * norms[0] * norms[1] / 16 / 400)


WORDS = st.lists(st.sampled_from(["Ice", "is", "cold", "a", "b"]), max_size=8).map(" ".join)


@given(text=WORDS, length=st.integers(1, 4))
def test_a_text_holds_each_of_its_phrases(text: str, length: int) -> None:
    found = phrases(text, length)
    words = tuple(text.lower().split())
    assert found == ({words[i : i + length] for i in range(len(words) - length + 1)} or ({words} if words else set()))
    assert all(holds(f"so: {text.upper()}!", [each]) for each in found)


def test_phrases_are_of_whole_words() -> None:
    assert not holds("yesterday", phrases("yes", 1))
    assert not holds("ice or cold", phrases("ice cold", 2))
    assert not holds("", phrases("yes", 1))
    assert not holds("anything", phrases("", 3))
