"""Do nothing: the row that every approximate peer has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from erase_core.evaluate.peers.approximate.frame import Removal, Rule, entry

__all__ = ["PEERS", "DoNothing"]


@dataclass(frozen=True)
class DoNothing(Rule):
    """Leaves the model as it is."""

    def __call__(self, removal: Removal) -> None:
        """Change nothing."""


PEERS = [entry("do-nothing", DoNothing(), "the baseline", "")]
