"""Keys and values of tokens, written in place into buffers that can be extended, cut and overwritten.

There is one pair of buffers for each layer, so any part of a prompt can be overwritten. Activations are in torch's
memory: they are freed, but not overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["Block", "KeyValues"]

# Buffers grow in steps of this many tokens.
STEP = 256
# What is before the values in the content of a block: layers, tokens, and for each tensor its heads and their size.
HEAD = np.dtype("<u4")
ALIGNED = 64


class BufferLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer: buffers of shape (1, heads, capacity, size), in use up to `length`."""

    keys: Any
    values: Any
    is_initialized: bool

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def update(self, key_states: Any, value_states: Any, *args: object, **kwargs: object) -> tuple[Any, Any]:
        """Append the keys and values of new tokens. Return those of all tokens."""
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.keys, self.values = (_zeros(states, end) for states in (key_states, value_states))
            self.is_initialized = True
        elif end > self.keys.shape[-2]:
            self.fit(end)
        self.keys[..., self.length : end, :] = key_states
        self.values[..., self.length : end, :] = value_states
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def fit(self, end: int) -> None:
        """Give the buffers the size that they have for `end` tokens if nothing was in them before."""
        if self.is_initialized and self.keys.shape[-2] != _rounded(end):
            self.keys, self.values = (self._moved(buffer, end) for buffer in (self.keys, self.values))

    def _moved(self, buffer: Any, end: int) -> Any:
        moved = _zeros(buffer, end)
        moved[..., : self.length, :] = buffer[..., : self.length, :]
        buffer.zero_()
        return moved

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


def _rounded(n_tokens: int) -> int:
    return -(-n_tokens // STEP) * STEP


def _zeros(states: Any, n_tokens: int) -> Any:
    shape = [*states.shape[:-2], _rounded(n_tokens), states.shape[-1]]
    return torch.zeros(shape, dtype=states.dtype, device=states.device)


class Block:
    """A copy of the keys and values of some tokens.

    Parameters
    ----------
    layers : list of (torch.Tensor, torch.Tensor)
        Keys and values of each layer, of shape (1, heads, tokens, size).
    """

    def __init__(self, layers: list[tuple[Any, ...]]) -> None:
        self.layers = layers

    @classmethod
    def copied(cls, values: KeyValues, start: int, dtype: Any = None) -> Block:
        """Copy keys and values from the token at position `start` on. A dtype of None is the model's."""
        return cls(
            [
                tuple(
                    buffer[..., start : layer.length, :].to(dtype or buffer.dtype, copy=True)
                    for buffer in layer.buffers
                )
                for layer in values.cache.layers
            ]
        )

    @classmethod
    def of_bytes(cls, content: NDArray[np.uint8], dtype: Any, device: Any) -> Block:
        """Return the block that `to_bytes` has made these bytes of, as a copy.

        Raises
        ------
        ValueError
            The bytes are none of a block of this type.
        """
        head = content[: len(content) // HEAD.itemsize * HEAD.itemsize].view(HEAD)
        if len(head) < 2 or len(head) < 2 + 4 * int(head[0]):
            raise ValueError("the content of a block is too short")
        n_layers, n_tokens = (int(number) for number in head[:2])
        sizes = [int(number) for number in head[2 : 2 + 4 * n_layers]]
        shapes = [(1, heads, n_tokens, size) for heads, size in zip(sizes[::2], sizes[1::2], strict=True)]
        parts = list(_parts(shapes, dtype))
        if not parts or parts[-1].stop != len(content):
            raise ValueError("the content of a block has another length")
        tensors = [
            torch.from_numpy(content[part]).view(dtype).view(shape).to(device, copy=True)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        return cls(list(zip(tensors[::2], tensors[1::2], strict=True)))

    def to_bytes(self) -> NDArray[np.uint8]:
        """Return the shapes, then the keys and values of all layers, as bytes in an array of their own."""
        tensors = self.buffers
        parts = list(_parts([tensor.shape for tensor in tensors], tensors[0].dtype))
        content = np.zeros(parts[-1].stop, dtype=np.uint8)
        sizes = [tensor.shape[place] for tensor in tensors for place in (1, 3)]
        head = np.array([len(self.layers), len(self), *sizes], dtype=HEAD).view(np.uint8)
        content[: len(head)] = head
        for part, tensor in zip(parts, tensors, strict=True):
            torch.from_numpy(content[part]).view(tensor.dtype).view(tensor.shape).copy_(tensor)
        return content

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

    def fit(self, end: int) -> None:
        """Give the buffers the size for `end` tokens. The last bits of a run depend on it."""
        for layer in self.cache.layers:
            layer.fit(end)

    def cut(self, length: int) -> None:
        """Overwrite and drop the tokens after the first `length`."""
        for layer in self.cache.layers:
            layer.cut(length)
        if not length:
            self._offset = 0

    def clear(self) -> None:
        """Overwrite and drop everything."""
        _overwrite(self.buffers)
        self.cache = Cache(layer_class_to_replicate=BufferLayer)
        self._offset = 0


def _parts(shapes: list[Any], dtype: Any) -> Iterator[slice]:
    """Yield where the tensors of these shapes are in the content of a block."""
    head = HEAD.itemsize * (2 + 2 * len(shapes))
    end = -(-head // ALIGNED) * ALIGNED
    for shape in shapes:
        start, end = end, end + prod(shape) * dtype.itemsize
        yield slice(start, end)


def _size(buffers: list[Any]) -> int:
    return sum(buffer.numel() * buffer.element_size() for buffer in buffers)


def _overwrite(buffers: list[Any]) -> None:
    with torch.inference_mode():
        for buffer in buffers:
            buffer.zero_()
