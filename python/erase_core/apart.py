"""Calls in a thread of their own, so that what a library keeps for each thread goes when they end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["apart"]

T = TypeVar("T")


def apart(call: Callable[[], T]) -> T:
    """Return the result of a call, made in a thread that ends with it.

    Tokenizers keep the words that a thread has seen for as long as the thread lives (tokenizers 0.23).
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()
