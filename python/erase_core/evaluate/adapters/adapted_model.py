"""A language model with a LoRA adapter: the differentiable side of it. How it is trained is `training`'s.

One network is shared by all peers that fine-tune. What a peer has trained is a *state*, the adapter's weights, which is
loaded before it is used. Scores are those of `TransformersLLM.choose`, up to rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from erase_core.errors import LLMError
from erase_core.evaluate.adapters import packing
from erase_core.evaluate.measures.cost import count_tokens_of
from erase_core.evaluate.tasks.task import Scores
from erase_core.examples.example import Example
from erase_core.libraries import quiet
from erase_core.llm.prompt import Prompt, Template
from erase_core.llm.protocol import check_room
from erase_core.llm.transformers import TransformersLLM

__all__ = ["AdaptedModel", "Encoded", "State", "layer_of"]

# Most tokens of questions in a row, which limits the memory for logits and masks.
ROW = 256

# The adapter's weights by name.
State = dict[str, torch.Tensor]


def layer_of(name: str) -> int:
    """Return the number of the layer that a weight is of, by its name: peft adapts numbered layers only."""
    return next(int(part) for part in name.split(".") if part.isdigit())


class Encoded(NamedTuple):
    """Tokens of a question and its answer; the first `n_prompt` are the question's."""

    tokens: tuple[int, ...]
    n_prompt: int


class AdaptedModel:
    """A causal language model with one LoRA adapter (Hu et al., 2021; the package peft).

    Parameters
    ----------
    llm : TransformersLLM
        Its network gets the adapter, which is switched off except within `active`.
    rank, alpha : int, default=8, 16

    Raises
    ------
    LLMError
        peft does not know which layers of such a model to adapt.
    """

    def __init__(self, llm: TransformersLLM, *, rank: int = 8, alpha: int = 16) -> None:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        from transformers.pytorch_utils import Conv1D

        self.llm = llm
        self.network = llm.network
        count_tokens_of(self.network)
        self.name = f"{llm.name}, LoRA rank {rank}, alpha {alpha}"
        kind = self.network.config.model_type
        if kind not in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
            raise LLMError(
                f"{llm.name} cannot be fine-tuned: peft does not know which layers of a {kind} model to adapt. "
                "Use another model, or leave out the peers that fine-tune."
            )
        # GPT-2 and its like keep the weights of a layer the other way round.
        transposed = any(isinstance(module, Conv1D) for module in self.network.modules())
        config = LoraConfig(r=rank, lora_alpha=alpha, task_type="CAUSAL_LM", fan_in_fan_out=transposed)
        with quiet(), torch.random.fork_rng():
            inject_adapter_in_model(config, self.network)
        self.network.eval()
        self._trained: frozenset[int] | None = None
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

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers of the network's layers that are adapted, ascending: the last one is the top."""
        return tuple(sorted({layer_of(name) for name in self.parameters()}))

    @contextmanager
    def only_layers(self, layers: Collection[int] | None) -> Iterator[None]:
        """Train only the weights of some layers within this context, around `active`. None: of all."""
        before, self._trained = self._trained, None if layers is None else frozenset(layers)
        try:
            yield
        finally:
            self._trained = before

    def _adapter_layers(self, *, enabled: bool) -> None:
        # What the language model has kept of prompts was computed with other weights.
        self.llm.forget()
        for module in self.network.modules():
            if hasattr(module, "enable_adapters") and hasattr(module, "lora_A"):
                module.enable_adapters(enabled)  # which also decides on gradients, of all layers
        for name, weight in self.parameters().items():
            weight.requires_grad_(enabled and (self._trained is None or layer_of(name) in self._trained))

    def encode(self, example: Example, template: Template) -> Encoded:
        """Return the tokens of an example, as `TransformersLLM.choose` has them."""
        shared, (answer,) = self.llm.tokens(Prompt(template, (), example.input), [example.output])
        check_room(len(shared), len(answer), self.llm.context_length)
        return Encoded((*shared, *answer), len(shared))

    def answer_logits(self, batch: Sequence[Encoded]) -> list[torch.Tensor]:
        """Return the logits before each token of the answers, one tensor of shape (length, vocabulary) each.

        Logits of other tokens are not computed. They take a fifth of the time of a small model with a large vocabulary.

        Parameters
        ----------
        batch : sequence of Encoded
            One after the other in one row behind a block mask, or padded if the model does not take one.
        """
        asked = [range(each.n_prompt - 1, len(each.tokens) - 1) for each in batch]
        if self.llm.takes_masks:
            return packing.packed(self.network, [packing.sequence(each.tokens) for each in batch], asked)
        return packing.padded(self.network, [each.tokens for each in batch], asked)

    def losses(self, batch: Sequence[Encoded]) -> torch.Tensor:
        """Return the mean negative log-probability per token of each answer, shape (n,)."""
        each = self.answer_logits(batch)
        return torch.stack(
            [
                torch.nn.functional.cross_entropy(
                    logits.float(), torch.tensor(encoded.tokens[encoded.n_prompt :], device=logits.device)
                )
                for logits, encoded in zip(each, batch, strict=True)
            ]
        )

    def scores(self, questions: Sequence[Example], options: Sequence[str], template: Template) -> Scores:
        """Return the mean log-probability per token of each option, shape (n, k), with the adapter as it is.

        These are the scores of `TransformersLLM.choose` up to rounding. Several questions are in one row, and the
        options of each are beside one another, unless the model takes no block mask.
        """
        if not self.llm.takes_masks:
            return self._chosen(questions, options, template)
        found: list[list[float]] = []
        with torch.inference_mode(), quiet():
            encoded = [self.llm.tokens(Prompt(template, (), each.input), options) for each in questions]
            for shared, continuations in encoded:
                check_room(len(shared), max(map(len, continuations)), self.llm.context_length)
            trees = [packing.tree(shared, continuations) for shared, continuations in encoded]
            for start, stop in packing.groups([len(tree.tokens) for tree in trees], ROW):
                group = trees[start:stop]
                asked = [range(tree.branches.count(0) - 1, len(tree.tokens)) for tree in group]
                each = packing.packed(self.network, group, asked)
                found += map(packing.means, each, (continuations for _, continuations in encoded[start:stop]))
        return np.array(found, dtype=np.float64).reshape(len(questions), len(options))

    def _chosen(self, questions: Sequence[Example], options: Sequence[str], template: Template) -> Scores:
        """Return the scores of `TransformersLLM.choose`, shape (n, k)."""
        found = []
        with torch.no_grad():
            for question in questions:
                prompt = Prompt(template, (), question.input)
                chosen = self.llm.choose(prompt, options).scores
                found.append([chosen[option] for option in options])
        return np.array(found, dtype=np.float64).reshape(len(questions), len(options))
