"""Runs of a causal network over several sequences at once: one after the other in one row, or padded.

In one row, a mask lets each token see only those before it in its own sequence, and positions begin anew with each
sequence. So nothing is padded. Beside that, a sequence may branch: options of a question see the question, but not one
another, as in `erase_core.llm.scoring`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

__all__ = ["Branched", "groups", "means", "packed", "padded", "sequence", "tree"]


class Branched(NamedTuple):
    """A sequence that may branch: its tokens, the position of each, and the branch of each.

    Branch 0 is the trunk, which all tokens after it see. The others see the trunk and themselves.
    """

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    branches: tuple[int, ...]


def sequence(tokens: Sequence[int]) -> Branched:
    """Return a sequence without branches."""
    return Branched(tuple(tokens), tuple(range(len(tokens))), (0,) * len(tokens))


def tree(shared: Sequence[int], continuations: Sequence[Sequence[int]]) -> Branched:
    """Return shared tokens with a branch for each continuation, without its last token, which is never an input."""
    tokens, places, branches = list(shared), list(range(len(shared))), [0] * len(shared)
    for branch, continuation in enumerate(continuations, 1):
        tokens += continuation[:-1]
        places += range(len(shared), len(shared) + len(continuation) - 1)
        branches += [branch] * (len(continuation) - 1)
    return Branched(tuple(tokens), tuple(places), tuple(branches))


def groups(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of consecutive groups with at most `most` tokens in sum, or of one longer sequence."""
    start = total = 0
    for place, length in enumerate(lengths):
        if place > start and total + length > most:
            yield start, place
            start, total = place, 0
        total += length
    if lengths:
        yield start, len(lengths)


def packed(network: Any, batch: Sequence[Branched], asked: Sequence[range]) -> list[torch.Tensor]:
    """Return the logits after the tokens that are asked for of each sequence, run one after the other in one row.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        Takes a mask of shape (1, 1, length, length) and positions.
    batch : sequence of Branched
    asked : sequence of range
        Places in each sequence.

    Returns
    -------
    list of torch.Tensor of shape (len(asked[i]), vocabulary)
    """
    starts = [0]
    for each in batch:
        starts.append(starts[-1] + len(each.tokens))
    device = network.device
    owner = torch.tensor([i for i, each in enumerate(batch) for _ in each.tokens], device=device)
    branch = torch.tensor([b for each in batch for b in each.branches], device=device)
    seen = (owner[:, None] == owner) & ((branch[:, None] == branch) | (branch == 0))
    mask = torch.zeros(seen.shape, dtype=network.dtype, device=device)
    mask.masked_fill_(~seen.tril(), torch.finfo(network.dtype).min)
    logits = network(
        input_ids=torch.tensor([[token for each in batch for token in each.tokens]], device=device),
        position_ids=torch.tensor([[place for each in batch for place in each.places]], device=device),
        attention_mask=mask[None, None],
        logits_to_keep=torch.tensor(
            [start + place for start, places in zip(starts, asked, strict=False) for place in places], device=device
        ),
        use_cache=False,
    ).logits[0]
    return list(logits.split([len(places) for places in asked]))


def padded(network: Any, batch: Sequence[Sequence[int]], asked: Sequence[range]) -> list[torch.Tensor]:
    """Return the logits after the tokens that are asked for of each sequence, padded to the longest one.

    Parameters and result are those of `packed`, for sequences of tokens.
    """
    longest = max(map(len, batch))
    tokens = torch.zeros(len(batch), longest, dtype=torch.long, device=network.device)
    mask = torch.zeros_like(tokens)
    for row, each in enumerate(batch):
        tokens[row, : len(each)] = torch.tensor(each)
        mask[row, : len(each)] = 1
    wanted = sorted({place for places in asked for place in places})
    logits = network(
        input_ids=tokens,
        attention_mask=mask,
        logits_to_keep=torch.tensor(wanted, device=network.device),
        use_cache=False,
    ).logits
    first = {place: column for column, place in enumerate(wanted)}
    return [
        logits[row, first[places[0]] : first[places[0]] + len(places)] if places else logits[row, :0]
        for row, places in enumerate(asked)
    ]


def means(logits: torch.Tensor, continuations: Sequence[Sequence[int]]) -> list[float]:
    """Return the mean log-probability per token of each continuation of a `tree`.

    Parameters
    ----------
    logits : torch.Tensor of shape (n, vocabulary)
        After the last shared token, and after each token of the branches.
    continuations : sequence of sequence of int
        As they were given to `tree`.
    """
    after = logits.float().log_softmax(1)
    found, start = [], 1
    for continuation in continuations:
        places = [0, *range(start, start + len(continuation) - 1)]
        found.append(float(after[places, list(continuation)].mean()))
        start += len(continuation) - 1
    return found
