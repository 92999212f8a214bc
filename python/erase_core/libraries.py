"""The model libraries (transformers and others): versions and how they differ, output, threads, and what they cache.

Differences are detected by looking at the library itself (a signature, an attribute), never by its version number.
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
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

__all__ = ["cache_keyword", "gguf_progress", "in_fresh_thread", "quiet", "torch_threads", "version_of"]

LOGGERS = ("accelerate", "gguf", "huggingface_hub", "sentence_transformers", "transformers")
# Warnings of these modules are hidden: users can do nothing about them.
MODULES = r"(erase_core|accelerate|gguf|huggingface_hub|sentence_transformers|tokenizers|torch|transformers)(\.|$)"

T = TypeVar("T")

_lock = threading.Lock()
_depth = 0
_shown = ExitStack()


def cache_keyword(model: Any) -> str:
    """Return the name of the argument in which a transformers model receives its cache of keys and values.

    transformers 5.24 renamed ``past_key_values`` to ``cache``. Code that comes with a model may still use the old name.
    """
    parameters = inspect.signature(model.forward).parameters
    return "past_key_values" if "past_key_values" in parameters and "cache" not in parameters else "cache"


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads within this context. The last bits of results depend on the number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_fresh_thread(call: Callable[[], T]) -> T:
    """Return the result of a call that runs in a new thread, which then ends.

    Tokenizers keep the words that a thread has seen for as long as the thread lives (tokenizers 0.23).
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars, log lines and warnings of the libraries within this context.

    Several threads may enter it at once; the last one to leave restores the original state. Warnings are not hidden if
    the user has configured them with ``-W`` or PYTHONWARNINGS.
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
    """Hide all three. Closing the stack restores them."""
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
    # Another thread may have left `warnings.catch_warnings` meanwhile, which removes the filter.
    with suppress(ValueError):
        warnings.filters.remove(ours)  # type: ignore[attr-defined]


@contextmanager
def gguf_progress(bar: Callable[[int], Any]) -> Iterator[None]:
    """Replace the progress bar that transformers shows during the conversion of a GGUF file.

    That bar cannot be switched off: the module uses tqdm directly and ignores the setting of transformers.

    Parameters
    ----------
    bar : callable
        Called with the number of tensors. Returns a context manager, which yields the function that advances the bar.
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
