"""Peers that unlearn approximately: all but the guard change the fine-tuned adapter by a rule of a few lines."""

from erase_core.evaluate.peers.approximate import (
    dmm,
    do_nothing,
    flat,
    grad_diff,
    gradient_ascent,
    guard,
    iau,
    laf,
    npo,
    random_labels,
    selective_amnesia,
    simnpo,
    ssd,
)

__all__ = ["PEERS"]

PEERS = [
    entry
    for module in (
        do_nothing,
        gradient_ascent,
        grad_diff,
        npo,
        simnpo,
        random_labels,
        flat,
        ssd,
        iau,
        selective_amnesia,
        laf,
        dmm,
        guard,
    )
    for entry in module.PEERS
]
