"""Draws that depend on a seed and a name alone: what is drawn for one example does not depend on the others."""

from __future__ import annotations

import hashlib

__all__ = ["derived", "part_of"]


def derived(seed: int, *names: int | str) -> int:
    """Return a seed for one purpose, from 0 to 2**63 - 1."""
    hashed = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(hashed[:8], "big") >> 1


def part_of(seed: int, purpose: str, id_: int | str | None, n_parts: int) -> int:
    """Return which of `n_parts` parts an example is in. It never moves when others come or go."""
    return derived(seed, purpose, repr(id_)) % n_parts
