"""Model libraries: what differs between their supported versions, how they are kept quiet, and what they keep.

Differences are found by looking at the library itself (a signature, an attribute), never by its version number.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

__all__ = ["cache_keyword", "gguf_progress", "in_fresh_thread", "quiet"]

LOGGERS = ("accelerate", "gguf", "huggingface_hub", "sentence_transformers", "transformers")
# Whose warnings a user can do nothing about. A deprecated call of ours is reported as a warning in our own code.
MODULES = r"(erase_core|accelerate|gguf|huggingface_hub|sentence_transformers|tokenizers|torch|transformers)(\.|$)"

T = TypeVar("T")

_lock = threading.Lock()
_depth = 0
_shown = ExitStack()


def cache_keyword(model: Any) -> str:
    """Return the name of the argument by which a model of transformers takes its keys and values.

    transformers 5.24 renamed ``past_key_values`` to ``cache``; code that comes with a model may still have the old one.
    """
    parameters = inspect.signature(model.forward).parameters
    return "past_key_values" if "past_key_values" in parameters and "cache" not in parameters else "cache"


def in_fresh_thread(call: Callable[[], T]) -> T:
    """Return the result of a call, made in a thread that ends with it.

    Tokenizers keep the words that a thread has seen for as long as the thread lives (tokenizers 0.23).
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars, log lines and warnings off the terminal while this lasts.

    It may be entered by several threads at once: the last one to leave restores what was. Warnings are left alone where
    the user has asked for them, by ``-W`` or PYTHONWARNINGS.
    """
    global _depth
    with _lock:
        if _depth == 0:
            _hide(_shown)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _shown.close()


def _hide(stack: ExitStack) -> None:
    """Hide all three; closing the stack shows them again."""
    from transformers.utils import logging as bars

    if bars.is_progress_bar_enabled():
        bars.disable_progress_bar()
        stack.callback(bars.enable_progress_bar)
    for logger in map(logging.getLogger, LOGGERS):
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=MODULES)
        stack.callback(_drop_filter, warnings.filters[0])


def _drop_filter(ours: Any) -> None:
    # Another thread may have left `warnings.catch_warnings` meanwhile, and taken it out.
    with suppress(ValueError):
        warnings.filters.remove(ours)  # type: ignore[attr-defined]


@contextmanager
def gguf_progress(bar: Callable[[int], Any]) -> Iterator[None]:
    """Show the conversion of a GGUF file's tensors on a bar of ours, in place of the one of transformers.

    That one cannot be switched off: the module uses tqdm directly, and not the switch of transformers.

    Parameters
    ----------
    bar : callable
        Called with the number of tensors. Returns a context manager, which yields what advances the bar.
    """
    from transformers import modeling_gguf_pytorch_utils as module

    theirs = getattr(module, "tqdm", None)
    if theirs is None:
        yield
        return

    def ours(tensors: Any, **_: Any) -> Iterator[Any]:
        with bar(len(tensors)) as advance:
            for tensor in tensors:
                yield tensor
                advance(1)

    module.tqdm = ours
    try:
        yield
    finally:
        module.tqdm = theirs
