"""A cache for the keys and values of the prompt's shared part, kept between queries and overwritten when dropped.

Owns the cache and every run of the model with it. The caller knows what the tokens mean.

All keys and values are written in place into one pair of buffers for each layer, so any part of a prompt can be
overwritten. Activations are in torch's memory: they are freed, but not overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from erase_core.errors import LLMError
from erase_core.libraries import cache_keyword

# Buffers grow in steps of this many tokens.
STEP = 256


class BufferLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer: buffers of shape (1, heads, capacity, size), in use up to `length`."""

    keys: Any
    values: Any

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def update(self, key_states: Any, value_states: Any, *args: object, **kwargs: object) -> tuple[Any, Any]:
        """Append the keys and values of new tokens. Return those of all tokens."""
        end = self.length + key_states.shape[-2]
        self.keys = _fitting(self.keys, key_states, self.length, end)
        self.values = _fitting(self.values, value_states, self.length, end)
        self.is_initialized = True
        self.keys[..., self.length : end, :] = key_states
        self.values[..., self.length : end, :] = value_states
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def get_seq_length(self) -> int:
        """Return the number of tokens in use."""
        return self.length

    def cut(self, length: int) -> None:
        """Overwrite all tokens from position `length` on."""
        if self.is_initialized:
            self.keys[..., length : self.length, :].zero_()
            self.values[..., length : self.length, :].zero_()
        self.length = min(self.length, length)


def _fitting(buffer: Any, states: Any, length: int, end: int) -> Any:
    """Return a buffer for `end` tokens with the first `length` tokens of this one. A replaced buffer is overwritten."""
    if buffer is not None and end <= buffer.shape[-2]:
        return buffer
    shape = [*states.shape[:-2], -(-end // STEP) * STEP, states.shape[-1]]
    larger = torch.zeros(shape, dtype=states.dtype, device=states.device)
    if buffer is not None:
        larger[..., :length, :] = buffer[..., :length, :]
        buffer.zero_()
    return larger


class PrefixCache:
    """Runs a causal language model, and keeps the keys and values of a shared prefix.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal model whose only state is the keys and values of its tokens.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._keyword = cache_keyword(model)
        self._shared: list[int] = []
        self._cache = Cache(layer_class_to_replicate=BufferLayer)

    @property
    def length(self) -> int:
        """Number of tokens whose keys and values are in the cache."""
        return int(self._cache.get_seq_length())

    @contextmanager
    def query(self, shared: list[int], ids: list[int]) -> Iterator[list[int]]:
        """Fill the cache with the shared part of a prompt, and cut it back to that part afterwards.

        Parameters
        ----------
        shared : list of int
            Tokens of the shared part, tokenised alone.
        ids : list of int
            Tokens of the whole prompt, at least one. At the end of the shared part they may differ from `shared`.

        Yields
        ------
        list of int
            The remaining tokens to run, at least one.
        """
        length = common_length(shared, ids[:-1])
        with torch.inference_mode():
            try:
                # A new prefix is always run as a whole, even if it begins like the last one: the last bits of keys and
                # values depend on the length of the run, and would reveal the demonstrations that followed.
                if shared != self._shared:
                    self.clear()
                    self._shared = list(shared)
                self.cut(length)
                if self.length < length:
                    self.run(ids[self.length : length])
                yield ids[length:]
            except BaseException:  # the layers may now hold different numbers of tokens
                self.clear()
                raise
            self.cut(length)

    def run(self, tokens: Sequence[int], *, rows: Sequence[int] = (-1,), **inputs: Any) -> Any:
        """Run the model over tokens, and add them to the cache.

        Parameters
        ----------
        tokens : sequence of int
        rows : sequence of int, default=(-1,)
            Positions in `tokens` whose logits are returned.
        **inputs
            Further inputs of the model: an attention mask, positions.

        Returns
        -------
        torch.Tensor of shape (len(rows), vocabulary), float32

        Raises
        ------
        LLMError
            The model does not use a cache of keys and values; recurrent models do not.
        """
        end = self.length + len(tokens)
        device = self.model.device
        kept = torch.tensor([row % len(tokens) for row in rows], device=device)
        ids = torch.tensor([tokens], device=device)
        inputs |= {self._keyword: self._cache, "use_cache": True, "logits_to_keep": kept, "return_dict": True}
        output = self.model(input_ids=ids, **inputs)
        if self.length != end:
            raise LLMError(
                f"a {self.model.config.model_type} model does not use a cache of keys and values. Use another model, "
                "or run it in a server and use OpenAILLM."
            )
        return output.logits[0].float()

    def cut(self, length: int) -> None:
        """Overwrite and drop the tokens from position `length` on."""
        for layer in self._cache.layers:
            layer.cut(length)

    def clear(self) -> None:
        """Overwrite the buffers, and release them."""
        with torch.inference_mode():
            for layer in self._cache.layers:
                if layer.is_initialized:
                    layer.keys.zero_()
                    layer.values.zero_()
        self._cache = Cache(layer_class_to_replicate=BufferLayer)
        self._shared = []


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the longest common prefix."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))
