"""Keys and values of tokens, written in place into buffers that can be extended, cut and overwritten.

There is one pair of buffers for each layer, so any part of a prompt can be overwritten. Activations are in torch's
memory: they are freed, but not overwritten.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["Block", "KeyValues"]

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

    @property
    def buffers(self) -> tuple[Any, ...]:
        """The buffers; none before the first token."""
        return (self.keys, self.values) if self.is_initialized else ()

    def get_seq_length(self) -> int:
        """Return the number of tokens in use."""
        return self.length

    def cut(self, length: int) -> None:
        """Overwrite all tokens from position `length` on."""
        for buffer in self.buffers:
            buffer[..., length : self.length, :].zero_()
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


class Block:
    """A copy of the keys and values of some tokens.

    Parameters
    ----------
    values : KeyValues
    start : int
        The first of the tokens. All from there on are copied.
    dtype : torch.dtype or None, default=None
        Type of the copy. None: the model's.
    """

    def __init__(self, values: KeyValues, start: int, dtype: Any = None) -> None:
        self.layers = [
            tuple(buffer[..., start : layer.length, :].to(dtype or buffer.dtype, copy=True) for buffer in layer.buffers)
            for layer in values.cache.layers
        ]

    def __len__(self) -> int:
        return int(self.layers[0][0].shape[-2])

    @property
    def buffers(self) -> list[Any]:
        """All tensors of the copy."""
        return [buffer for layer in self.layers for buffer in layer]

    @property
    def n_bytes(self) -> int:
        """Size of the copy."""
        return _size(self.buffers)

    def clear(self) -> None:
        """Overwrite the copy."""
        _overwrite(self.buffers)


class KeyValues:
    """Keys and values of a sequence of tokens, for all layers of a model.

    Attributes
    ----------
    cache : transformers.Cache
        What the model reads and extends.
    """

    def __init__(self) -> None:
        self.cache = Cache(layer_class_to_replicate=BufferLayer)
        self._offset = 0

    def __len__(self) -> int:
        return int(self.cache.get_seq_length())

    @property
    def position(self) -> int:
        """Position of the next token: the number of tokens, or less if some are beside one another."""
        return len(self) + self._offset

    @position.setter
    def position(self, position: int) -> None:
        self._offset = position - len(self)

    @property
    def buffers(self) -> list[Any]:
        """All tensors with keys and values."""
        return [buffer for layer in self.cache.layers for buffer in layer.buffers]

    @property
    def n_bytes(self) -> int:
        """Size of the buffers."""
        return _size(self.buffers)

    def append(self, block: Block, dtype: Any) -> None:
        """Append the keys and values of a block, in the model's type."""
        while len(self.cache.layers) < len(block.layers):
            self.cache.layers.append(BufferLayer())
        for layer, (keys, values) in zip(self.cache.layers, block.layers, strict=True):
            layer.update(keys.to(dtype), values.to(dtype))

    def cut(self, length: int) -> None:
        """Overwrite and drop the tokens after the first `length`."""
        for layer in self.cache.layers:
            layer.cut(length)

    def clear(self) -> None:
        """Overwrite and drop everything."""
        _overwrite(self.buffers)
        self.cache = Cache(layer_class_to_replicate=BufferLayer)
        self._offset = 0


def _size(buffers: list[Any]) -> int:
    return sum(buffer.numel() * buffer.element_size() for buffer in buffers)


def _overwrite(buffers: list[Any]) -> None:
    with torch.inference_mode():
        for buffer in buffers:
            buffer.zero_()
