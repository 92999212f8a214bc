"""LAF, label-agnostic forgetting: representations are pushed apart by auto-encoders, then aligned with the old ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from erase_core.evaluate.adapters.adapted_model import AdaptedModel, Encoded
from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.peers.approximate.frame import Removal, Steps, descend, entry
from erase_core.examples.example import Example

__all__ = ["LAF", "PEERS", "align_loss", "apart_loss"]


class AutoEncoder(torch.nn.Module):  # type: ignore[misc]
    """A variational auto-encoder of representations, with one hidden layer on each side."""

    def __init__(self, width: int, hidden: int, latent: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encode = torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.ReLU())
        self.code = torch.nn.Linear(hidden, 2 * latent)
        self.decode = torch.nn.Sequential(
            torch.nn.Linear(latent, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, width)
        )
        self.generator = generator
        with torch.no_grad():
            for weight in self.parameters():
                bound = 1 / weight.shape[-1] ** 0.5
                weight.uniform_(-bound, bound, generator=generator)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the reconstructions, shape (n, d), and the divergence of the codes from the prior, shape ()."""
        mean, log_variance = self.code(self.encode(values)).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=self.generator) if self.training else 0
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        return self.decode(mean + noise * (log_variance / 2).exp()), divergence


def apart_loss(
    retained: torch.Tensor, of_retained: torch.Tensor, forgotten: torch.Tensor, of_forgotten: torch.Tensor
) -> torch.Tensor:
    """Return sum over R of e(x) - sum over F of e(x), e = exp(m / (m + 1)), m the squared error of reconstruction.

    Parameters
    ----------
    retained, of_retained, forgotten, of_forgotten : Tensor of shape (n, d)
        Representations, and their reconstructions by the auto-encoder of their set.
    """

    def errors(values: torch.Tensor, reconstructed: torch.Tensor) -> torch.Tensor:
        squared = ((values - reconstructed) ** 2).sum(1)
        return torch.exp(squared / (squared + 1)).sum()

    return errors(retained, of_retained) - errors(forgotten, of_forgotten)


def align_loss(
    retained: torch.Tensor,
    earlier_retained: torch.Tensor,
    forgotten: torch.Tensor,
    earlier_forgotten: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return sum over R of log(exp(d(x)) / sum over F of exp(d(x) / temperature)), d = 1 - cosine to the earlier one.

    So retained representations are drawn to the earlier ones and forgotten ones pushed away. With no forgotten
    examples it is the sum of d, whose gradient is zero where nothing has changed.

    Parameters
    ----------
    retained, earlier_retained, forgotten, earlier_forgotten : Tensor of shape (n, d)
    temperature : float
    """
    near = 1 - torch.cosine_similarity(retained, earlier_retained)
    if not len(forgotten):
        return near.sum()
    far = 1 - torch.cosine_similarity(forgotten, earlier_forgotten)
    return (near - torch.logsumexp(far / temperature, 0)).sum()


@dataclass(frozen=True)
class LAF(Steps):
    """Pushes the forgotten examples' representations out of the distribution of the rest, without labels.

    The representation is the last layer's state at the last token of the question, from which the answer begins,
    divided by the mean size of a component. Each pass makes steps on `apart_loss`, then steps on `align_loss`; the
    authors' code alternates at each batch.

    Parameters
    ----------
    passes, batch, rate : int, int, float, default=2, 8, 1e-4
    temperature : float, default=1.0
    hidden, latent, encoder_steps, prior : int, int, int, float, default=128, 16, 200, 0.025
        Of the auto-encoders: sizes, steps of Adam on all representations, and the weight of the prior. Our own.
    """

    passes: int = 2
    rate: float = 1e-4
    temperature: float = 1.0
    hidden: int = 128
    latent: int = 16
    encoder_steps: int = 200
    prior: float = 0.025

    def __call__(self, removal: Removal) -> None:
        """Fit the auto-encoders, then make the steps."""
        if not removal.retained:
            return
        with removal.model.active(), torch.no_grad():
            earlier = {
                example.id: row
                for part in (removal.retained, removal.forgotten)
                for example, row in zip(part, _in_batches(removal, part, self.batch), strict=True)
            }
        scale = torch.stack(list(earlier.values())).abs().mean()
        encoders = [
            self._encoder(torch.stack([earlier[each.id] for each in part]) / scale, removal.seed)
            for part in (removal.retained, removal.forgotten)
        ]

        def apart(forgotten: Sequence[Example], retained: Sequence[Example]) -> torch.Tensor:
            values = [represented(removal, part) / scale for part in (retained, forgotten)]
            made = [encoder(rows)[0] for encoder, rows in zip(encoders, values, strict=True)]
            return apart_loss(values[0], made[0], values[1], made[1])

        def align(forgotten: Sequence[Example], retained: Sequence[Example]) -> torch.Tensor:
            before = [torch.stack([earlier[each.id] for each in part]) for part in (retained, forgotten)]
            values = [represented(removal, part) for part in (retained, forgotten)]
            return align_loss(values[0], before[0], values[1], before[1], self.temperature)

        once = TrainingSettings(1, self.batch, self.rate)
        for turn in range(self.passes):
            for objective in (apart, align):
                descend(removal, objective, once, removal.seed + turn)

    def _encoder(self, rows: torch.Tensor, seed: int) -> AutoEncoder:
        """Return an auto-encoder fitted to representations, shape (n, d)."""
        encoder = AutoEncoder(rows.shape[1], self.hidden, self.latent, torch.Generator().manual_seed(seed))
        optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
        for _ in range(self.encoder_steps):
            optimiser.zero_grad()
            made, divergence = encoder(rows)
            (((made - rows) ** 2).sum(1).mean() + self.prior * divergence).backward()
            optimiser.step()
        encoder.eval().requires_grad_(False)
        return encoder


def represented(removal: Removal, examples: Sequence[Example]) -> torch.Tensor:
    """Return the last layer's state at the last token of each question, shape (n, d)."""
    return _states(removal.model, removal.encode(examples))


def _in_batches(removal: Removal, examples: Sequence[Example], batch: int) -> list[torch.Tensor]:
    return [
        row for start in range(0, len(examples), batch) for row in represented(removal, examples[start : start + batch])
    ]


def _states(model: AdaptedModel, batch: Sequence[Encoded]) -> torch.Tensor:
    device = model.network.device
    tokens = torch.zeros(len(batch), max(each.n_prompt for each in batch), dtype=torch.long, device=device)
    mask = torch.zeros_like(tokens)
    for row, each in enumerate(batch):
        tokens[row, : each.n_prompt] = torch.tensor(each.tokens[: each.n_prompt])
        mask[row, : each.n_prompt] = 1
    made = model.network(input_ids=tokens, attention_mask=mask, use_cache=False, output_hidden_states=True)
    return torch.stack([made.hidden_states[-1][row, each.n_prompt - 1] for row, each in enumerate(batch)])


PEERS = [
    entry(
        "laf",
        LAF(),
        "Shen et al., Label-Agnostic Forgetting, ICLR 2024 (2404.00506), losses as in the authors' code",
        "on a LoRA adapter of a language model instead of an image classifier; sizes and steps of the auto-encoders "
        "are our own; the two losses alternate by pass, not by batch; without the repair of the classifier by labels",
    )
]
