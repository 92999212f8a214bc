"""A language model with a LoRA adapter: the differentiable side of it. How it is trained is `training`'s.

One network is shared by all peers that fine-tune. What a peer has trained is a *state*, the adapter's weights, which is
loaded before it is used. Questions are scored by `TransformersLLM.choose`, as without an adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from erase_core.evaluate.cost import count_tokens_of
from erase_core.evaluate.task import Scores
from erase_core.examples.example import Example
from erase_core.libraries import quiet
from erase_core.llm.prompt import Prompt, Template
from erase_core.llm.transformers import TransformersLLM

__all__ = ["AdaptedModel", "Encoded", "State"]

# The adapter's weights by name.
State = dict[str, torch.Tensor]


class Encoded(NamedTuple):
    """Tokens of a question and its answer; the first `n_prompt` are the question's."""

    tokens: tuple[int, ...]
    n_prompt: int


class AdaptedModel:
    """A causal language model with one LoRA adapter (Hu et al., 2021; the package peft).

    Parameters
    ----------
    llm : TransformersLLM
        Its network gets the adapter, which is switched off except within `with model:`.
    rank, alpha : int, default=8, 16
    """

    def __init__(self, llm: TransformersLLM, *, rank: int = 8, alpha: int = 16) -> None:
        from peft import LoraConfig, get_peft_model

        self.llm = llm
        self.network = llm.network
        count_tokens_of(self.network)
        self.name = f"{llm.name}, LoRA rank {rank}, alpha {alpha}"
        with quiet(), torch.random.fork_rng():
            self._peft: Any = get_peft_model(self.network, LoraConfig(r=rank, lora_alpha=alpha, task_type="CAUSAL_LM"))
        self._peft.eval()
        self._adapter_layers(enabled=False)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return the adapter's weights by name."""
        return {name: weight for name, weight in self.network.named_parameters() if "lora_" in name}

    def reset(self, seed: int) -> None:
        """Make a new adapter, which changes no answer: A is drawn by the seed as in peft, B is zero."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.parameters().items():
                if "lora_A" in name:
                    bound = 1 / weight.shape[1] ** 0.5  # Kaiming's with a = sqrt(5)
                    weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
                else:
                    weight.zero_()

    def state(self) -> State:
        """Return a copy of the adapter's weights."""
        return {name: weight.detach().clone() for name, weight in self.parameters().items()}

    def load(self, state: State) -> None:
        """Take the weights of an adapter."""
        with torch.no_grad():
            for name, weight in self.parameters().items():
                weight.copy_(state[name])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Switch the adapter on within this context."""
        self._adapter_layers(enabled=True)
        try:
            yield
        finally:
            self._adapter_layers(enabled=False)

    def _adapter_layers(self, *, enabled: bool) -> None:
        # What the language model has kept of prompts was computed with other weights.
        self.llm.forget()
        for module in self.network.modules():
            if hasattr(module, "enable_adapters") and hasattr(module, "lora_A"):
                module.enable_adapters(enabled)

    def encode(self, example: Example, template: Template) -> Encoded:
        """Return the tokens of an example, as `TransformersLLM.choose` has them."""
        shared, (answer,) = self.llm.tokens(Prompt(template, (), example.input), [example.output])
        return Encoded((*shared, *answer), len(shared))

    def answer_logits(self, batch: Sequence[Encoded], *, backward: bool = False) -> list[torch.Tensor]:
        """Return the logits before each token of the answers, one tensor of shape (length, vocabulary) each.

        Parameters
        ----------
        batch : sequence of Encoded
            Padded to the longest one.
        backward : bool, default=False
            Not used: a run counts itself, and so does a gradient (`count_tokens_of`).
        """
        longest = max(len(each.tokens) for each in batch)
        tokens = torch.zeros(len(batch), longest, dtype=torch.long, device=self.network.device)
        mask = torch.zeros_like(tokens)
        for row, each in enumerate(batch):
            tokens[row, : len(each.tokens)] = torch.tensor(each.tokens)
            mask[row, : len(each.tokens)] = 1
        logits = self.network(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        return [logits[row, each.n_prompt - 1 : len(each.tokens) - 1] for row, each in enumerate(batch)]

    def losses(self, batch: Sequence[Encoded], *, backward: bool = False) -> torch.Tensor:
        """Return the mean negative log-probability per token of each answer, shape (n,)."""
        each = self.answer_logits(batch, backward=backward)
        return torch.stack(
            [
                torch.nn.functional.cross_entropy(logits, torch.tensor(encoded.tokens[encoded.n_prompt :]))
                for logits, encoded in zip(each, batch, strict=True)
            ]
        )

    def scores(self, questions: Sequence[Example], options: Sequence[str], template: Template) -> Scores:
        """Return the mean log-probability per token of each option, shape (n, k), with the adapter as it is."""
        rows = []
        with torch.no_grad():
            for question in questions:
                prompt = Prompt(template, (), question.input)
                chosen = self.llm.choose(prompt, options).scores
                rows.append([chosen[option] for option in options])
        return np.array(rows, dtype=np.float64).reshape(len(questions), len(options))
