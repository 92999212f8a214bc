"""Log-probabilities of continuations of a prompt, many of them in one run of the model.

The continuations stand one behind the other after what is left of the prompt; a mask lets each see the prompt and
itself only, and their positions all begin where the prompt ends. So nothing is padded and no keys are copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch

from erase_core.llm.prefix_cache import PrefixCache

# Most tokens of continuations in a run, and of the prompt before them: bounds the memory for logits and masks.
MAX_PACK = 256


def score(cache: PrefixCache, rest: list[int], continuations: Sequence[list[int]], *, packed: bool) -> list[float]:
    """Return the mean log-probability a token of every continuation.

    Parameters
    ----------
    cache : PrefixCache
        Holds what comes before `rest`; afterwards `rest` has been added.
    rest : list of int
        Tokens between the cache and the continuations, at least one.
    continuations : sequence of lists of int
        At least one token each.
    packed : bool
        Whether the model heeds a mask and positions that are not its own. If not, there is a run for each continuation.
    """
    base = cache.length + len(rest)
    means: list[float] = []
    if len(rest) > MAX_PACK:
        cache.run(rest[:-1])
        rest = rest[-1:]
    first: Any = None
    # A continuation's last token is predicted, but never fed.
    for pack in _packs([tokens[:-1] for tokens in continuations], MAX_PACK if packed else 0):
        head = rest if first is None else []
        logits = _run(cache, head, pack) if head or any(pack) else first[:0]
        cache.cut(base)
        if first is None:
            first, logits = logits[:1], logits[1:]
        for fed in pack:
            whole = continuations[len(means)]
            own = torch.cat([first, logits[: len(fed)]])
            logits = logits[len(fed) :]
            at_tokens = own.gather(1, torch.tensor(whole, device=own.device)[:, None])[:, 0]
            means.append(float((at_tokens - own.logsumexp(1)).mean()))
    return means


def _packs(fed: list[list[int]], most: int) -> Iterator[list[list[int]]]:
    """Split into runs of at most `most` tokens, or of one continuation."""
    pack: list[list[int]] = []
    for tokens in fed:
        if pack and sum(map(len, pack)) + len(tokens) > most:
            yield pack
            pack = []
        pack.append(tokens)
    yield pack


def _run(cache: PrefixCache, head: list[int], pack: list[list[int]]) -> Any:
    """Return the logits after the head's last token, if there is a head, and after every token of the pack."""
    tokens = [*head, *chain.from_iterable(pack)]
    rows = range(max(len(head) - 1, 0), len(tokens))
    if sum(map(bool, pack)) <= 1:  # an ordinary sequence, which any causal model can run
        return cache.run(tokens, rows=rows)
    model, past = cache.model, cache.length
    # 0 is the head, which all see; i the i-th continuation.
    owner = torch.tensor([0] * len(head) + [i for i, part in enumerate(pack, 1) for _ in part], device=model.device)
    seen = ((owner[:, None] == owner) | (owner == 0)).tril()
    mask = torch.zeros(len(tokens), past + len(tokens), dtype=model.dtype, device=model.device)
    mask[:, past:].masked_fill_(~seen, torch.finfo(model.dtype).min)
    places = [*range(len(head)), *(len(head) + i for part in pack for i in range(len(part)))]
    positions = torch.tensor([places], device=model.device) + past
    return cache.run(tokens, rows=rows, attention_mask=mask[None, None], position_ids=positions)
