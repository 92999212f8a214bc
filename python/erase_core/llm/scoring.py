"""Log-probabilities of continuations of a prompt, many in one run of the model.

The input is the rest of the prompt, followed by all continuations. A mask lets each continuation attend only to the
prompt and itself, and the positions of each begin at the end of the prompt. So nothing is padded and no keys are
copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch

from erase_core.llm.memory import Memory

# Most tokens of continuations in a run, and of the prompt before them. This limits the memory for logits and masks.
MAX_PACK = 256


def score(memory: Memory, rest: list[int], continuations: Sequence[list[int]], *, packed: bool) -> list[float]:
    """Return the mean log-probability per token of each continuation.

    Parameters
    ----------
    memory : Memory
        Goes on after the tokens before `rest`. This function adds `rest`.
    rest : list of int
        Tokens between the cache and the continuations, at least one.
    continuations : sequence of lists of int
        At least one token each.
    packed : bool
        Whether the model accepts a custom mask and positions. If not, each continuation takes a run of its own.
    """
    base = memory.length + len(rest)
    means: list[float] = []
    if len(rest) > MAX_PACK:
        memory.run(rest[:-1])
        rest = rest[-1:]
    first: Any = None
    # The last token of a continuation is predicted, but never an input.
    for pack in _packs([tokens[:-1] for tokens in continuations], MAX_PACK if packed else 0):
        head = rest if first is None else []
        logits = _run(memory, head, pack) if head or any(pack) else first[:0]
        memory.cut(base)
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
    """Yield the continuations in groups of at most `most` tokens, or of one continuation."""
    pack: list[list[int]] = []
    for tokens in fed:
        if pack and sum(map(len, pack)) + len(tokens) > most:
            yield pack
            pack = []
        pack.append(tokens)
    yield pack


def _run(memory: Memory, head: list[int], pack: list[list[int]]) -> Any:
    """Return the logits after the last token of the head, if there is one, and after each token of the pack."""
    tokens = [*head, *chain.from_iterable(pack)]
    rows = range(max(len(head) - 1, 0), len(tokens))
    if sum(map(bool, pack)) <= 1:  # an ordinary sequence needs no custom mask
        return memory.run(tokens, rows=rows)
    model, past = memory.model, memory.length
    # 0: the head, visible to all; i: the i-th continuation.
    owner = torch.tensor([0] * len(head) + [i for i, part in enumerate(pack, 1) for _ in part], device=model.device)
    seen = ((owner[:, None] == owner) | (owner == 0)).tril()
    mask = torch.zeros(len(tokens), past + len(tokens), dtype=model.dtype, device=model.device)
    mask[:, past:].masked_fill_(~seen, torch.finfo(model.dtype).min)
    places = [*range(len(head)), *(len(head) + i for part in pack for i in range(len(part)))]
    return memory.run(tokens, rows=rows, places=places, mask=mask[None, None])
