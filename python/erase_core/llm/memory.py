"""What a language model in this process keeps of prompts between queries: keys and values of their demonstrations.

Two kinds are kept. A *prefix* is the shared part of a prompt, run as a whole. A *window* is one demonstration, run by
itself (Ratner et al., Parallel Context Windows, ACL 2023). The windows of a query do not see one another, so each is a
function of its demonstration alone. Both are kept up to a number of bytes. The least recently used are dropped first,
and all that is dropped is overwritten.

`Memory` owns what is kept, and every run of the model. The caller knows what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from erase_core.errors import LLMError
from erase_core.libraries import cache_keyword
from erase_core.llm.key_values import Block, KeyValues

__all__ = ["Memory", "Shown", "common_length"]


class Shown(NamedTuple):
    """Tokens of demonstrations, and the ids of the examples that they show.

    An id is None if it is unknown. What is kept of such tokens is dropped whenever an example is forgotten.
    """

    tokens: tuple[int, ...]
    ids: frozenset[int | str | None] = frozenset()


class Kept:
    """Keys and values that are kept, the examples that they show, and their size when they were last used."""

    def __init__(self, values: KeyValues | Block) -> None:
        self.values = values
        self.ids: frozenset[int | str | None] = frozenset()
        self.n_bytes = 0


class Used(NamedTuple):
    """What a query used: its key, and the ids that the query's demonstrations give it."""

    key: Hashable
    kept: Kept
    ids: frozenset[int | str | None]


class Memory:
    """Runs a causal language model, and keeps the keys and values of demonstrations.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal model whose only state is the keys and values of its tokens.
    budget : int
        Most bytes to keep between queries. What the last query used is kept even if it is larger.
    window_dtype : torch.dtype or None, default=None
        Type in which windows are kept. None: the model's.
    """

    def __init__(self, model: Any, budget: int, window_dtype: Any = None) -> None:
        self.model = model
        self._keyword = cache_keyword(model)
        self._budget, self._window_dtype = budget, window_dtype
        # The least recently used first.
        self._kept: dict[Hashable, Kept] = {}
        self._joined = KeyValues()
        # Those that a run extends.
        self._values = self._joined

    @property
    def length(self) -> int:
        """Number of tokens that the next token sees."""
        return len(self._values)

    @property
    def n_bytes(self) -> int:
        """Size of what is kept."""
        return sum(kept.n_bytes for kept in self._kept.values())

    @property
    def n_tokens(self) -> int:
        """Number of tokens that are kept."""
        return sum(len(kept.values) for kept in self._kept.values())

    @property
    def buffers(self) -> list[Any]:
        """All tensors with keys and values."""
        return [
            buffer
            for values in (self._joined, *(kept.values for kept in self._kept.values()))
            for buffer in values.buffers
        ]

    @contextmanager
    def after_prefix(self, prefix: Shown, ids: Sequence[int]) -> Iterator[list[int]]:
        """Go on after the shared part of a prompt, and keep that part.

        Parameters
        ----------
        prefix : Shown
            The shared part, tokenised alone.
        ids : sequence of int
            Tokens of the whole prompt, at least one. At the end of the shared part they may differ from `prefix`.

        Yields
        ------
        list of int
            The remaining tokens to run, at least one.
        """
        key = (None, prefix.tokens)
        length = common_length(prefix.tokens, ids[:-1])
        kept = self._kept.get(key) or Kept(KeyValues())
        values = cast("KeyValues", kept.values)
        with self._running(values):
            try:
                # A prefix is always run as a whole, even if it begins like another: the last bits of keys and values
                # depend on the length of the run, and would reveal the demonstrations that followed.
                values.cut(length)
                if self.length < length:
                    self.run(ids[self.length : length])
                yield list(ids[length:])
            except BaseException:  # the layers may now hold different numbers of tokens
                self._drop(key)
                values.clear()
                raise
            values.cut(length)
        self._keep([Used(key, kept, prefix.ids)])

    @contextmanager
    def after_windows(self, head: Shown, windows: Sequence[Shown], ids: list[int]) -> Iterator[list[int]]:
        """Go on after windows that are beside one another, and keep each of them.

        All begin at the position after the head, which all of them see. What follows begins after the longest one.

        Parameters
        ----------
        head : Shown
            What comes before every window; may have no tokens.
        windows : sequence of Shown
        ids : list of int
            Tokens after the windows, at least one.

        Yields
        ------
        list of int
            The same tokens, to run.
        """
        used: list[Used] = []
        try:
            first = self._block((), head) if head.tokens else None
            used += [Used(((), head.tokens), first, head.ids)] if first else []
            known: dict[Hashable, Kept] = {}
            for window in windows:
                key = (head.tokens, window.tokens)
                if key not in known:  # two examples may have the same words
                    known[key] = self._block(head.tokens, window, first)
                used.append(Used(key, known[key], window.ids))
            with self._running(self._joined):
                try:
                    self._join(each.kept for each in used)
                    longest = max((len(window.tokens) for window in windows), default=0)
                    self._joined.position = len(head.tokens) + longest
                    yield ids
                finally:
                    self._joined.cut(0)
        finally:  # after an error, too: what is not kept could not be overwritten when its example goes
            self._keep(used)

    @property
    def window_dtype(self) -> Any:
        """Type in which windows are kept."""
        return self._window_dtype or self.model.dtype

    def has_prefix(self, prefix: Shown) -> bool:
        """Whether the shared part of a prompt is kept."""
        return (None, prefix.tokens) in self._kept

    def has_window(self, head: Shown, window: Shown) -> bool:
        """Whether a window is kept."""
        return (head.tokens, window.tokens) in self._kept

    def window(self, head: Shown, window: Shown) -> NDArray[np.uint8]:
        """Return the bytes of a window's keys and values, which is computed if it is not kept."""
        first = self._block((), head) if head.tokens else None
        kept = self._block(head.tokens, window, first)
        used = [Used(((), head.tokens), first, head.ids)] if first else []
        self._keep([*used, Used((head.tokens, window.tokens), kept, window.ids)])
        with torch.inference_mode():
            return cast("Block", kept.values).to_bytes()

    def take_windows(self, head: Shown, windows: Sequence[Shown], contents: Mapping[int, NDArray[np.uint8]]) -> None:
        """Keep windows by their bytes, as `window` returns them. All those of a query are kept together.

        Parameters
        ----------
        head : Shown
        windows : sequence of Shown
            All windows of the query.
        contents : mapping from int to ndarray
            The bytes of some of them, by their places.

        Raises
        ------
        ValueError
            Bytes are none of a window of this model.
        """
        used = []
        try:
            for place, window in enumerate(windows):
                key = (head.tokens, window.tokens)
                kept = self._kept.get(key)
                if kept is None and place in contents:
                    with torch.inference_mode():
                        block = Block.of_bytes(contents[place], self.window_dtype, self.model.device)
                    if len(block) != len(window.tokens):
                        block.clear()
                        raise ValueError("a window has another number of tokens")
                    kept = Kept(block)
                if kept is not None:
                    used.append(Used(key, kept, window.ids))
        finally:
            self._keep(used)

    def _block(self, head: tuple[int, ...], window: Shown, after: Kept | None = None) -> Kept:
        """Return the keys and values of a window, after its head. Those that are not kept are computed."""
        kept = self._kept.get((head, window.tokens))
        if kept is not None:
            return kept
        with self._running(self._joined):
            try:
                self._join([after] if after else [])
                start = self.length
                self.run(window.tokens)
                return Kept(Block.copied(self._joined, start, self._window_dtype))
            finally:
                self._joined.cut(0)

    def _join(self, blocks: Iterable[Kept]) -> None:
        for block in blocks:
            self._joined.append(cast("Block", block.values), self.model.dtype)

    @contextmanager
    def _running(self, values: KeyValues) -> Iterator[None]:
        self._values = values
        try:
            with torch.inference_mode():
                yield
        finally:
            self._values = self._joined

    def run(
        self,
        tokens: Sequence[int],
        *,
        rows: Sequence[int] = (-1,),
        places: Sequence[int] | None = None,
        mask: Any = None,
    ) -> Any:
        """Run the model over tokens, and add them to those that the next token sees.

        Parameters
        ----------
        tokens : sequence of int
        rows : sequence of int, default=(-1,)
            Positions in `tokens` whose logits are returned.
        places : sequence of int or None, default=None
            Position of each token, from the next position on. None: one after the other.
        mask : torch.Tensor or None, default=None
            Mask of attention, shape (1, 1, len(tokens), length + len(tokens)). None: a token sees all before it.

        Returns
        -------
        torch.Tensor of shape (len(rows), vocabulary), float32

        Raises
        ------
        LLMError
            The model does not use a cache of keys and values; recurrent models do not.
        """
        end, position = self.length + len(tokens), self._values.position
        self._values.fit(end)
        device = self.model.device
        inputs: dict[str, Any] = {} if mask is None else {"attention_mask": mask}
        if places is not None or position != self.length:  # some models take no positions
            own = range(len(tokens)) if places is None else places
            inputs["position_ids"] = torch.tensor([[position + place for place in own]], device=device)
        output = self.model(
            input_ids=torch.tensor([list(tokens)], device=device),
            use_cache=True,
            logits_to_keep=torch.tensor([row % len(tokens) for row in rows], device=device),
            return_dict=True,
            **{self._keyword: self._values.cache},
            **inputs,
        )
        if self.length != end:
            raise LLMError(
                f"a {self.model.config.model_type} model does not use a cache of keys and values. Use another model, "
                "or run it in a server and use OpenAILLM."
            )
        return output.logits[0].float()

    def cut(self, length: int) -> None:
        """Overwrite and drop the tokens from position `length` on."""
        self._values.cut(length)

    def forget(self, ids: Collection[int | str] | None = None) -> None:
        """Overwrite and drop what shows one of these examples, or examples without a known id. None: everything."""
        gone = None if ids is None else {None, *ids}
        for key in [key for key, kept in self._kept.items() if gone is None or not gone.isdisjoint(kept.ids)]:
            self._drop(key)
        self._joined.clear()

    def _keep(self, used: Sequence[Used]) -> None:
        """Keep what a query used, and drop what exceeds the budget."""
        for key, kept, ids in used:
            self._kept.pop(key, None)
            kept.ids |= ids
            kept.n_bytes = kept.values.n_bytes
            self._kept[key] = kept
        total, n_used = self.n_bytes, len({each.key for each in used})
        for key in list(self._kept)[: len(self._kept) - n_used]:
            if total <= self._budget:
                break
            total -= self._drop(key)

    def _drop(self, key: Hashable) -> int:
        """Overwrite and drop what is kept, and return its size."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return 0
        kept.values.clear()
        return kept.n_bytes


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the longest common prefix."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))
