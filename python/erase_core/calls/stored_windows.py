"""Windows from the store's files: given to the language model before a query, so that it need not compute them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from erase_core.calls.open_store import OpenStore
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt
from erase_core.store.key_file import KeyGoneError
from erase_core.store.window_files import WindowKey

__all__ = ["with_windows"]


def with_windows(opened: OpenStore, prompt: Prompt) -> Prompt:
    """Give the language model the windows of a prompt that it does not keep and the store has. Return the prompt.

    Parameters
    ----------
    opened : OpenStore
    prompt : Prompt
        Made from a state of the store that `OpenStore.read` has followed. Its context is not "auto".
    """
    llm = opened.backends.llm
    if prompt.context != "windows" or not isinstance(llm, TransformersLLM):
        return prompt
    missing = llm.missing_windows(prompt) if opened.store.windows.exist else []
    if not missing:
        return prompt
    labels, contents = llm.window_labels(prompt), dict[int, NDArray[np.uint8]]()
    keys = _keys(opened, [prompt.demonstrations[place].id for place in missing])
    try:
        for place in missing:
            key = keys.get(prompt.demonstrations[place].id)
            content = None if key is None else opened.store.windows.read(key, labels[place])
            if content is not None:
                contents[place] = content
        if contents:
            llm.take_windows(prompt, contents)
    finally:
        for content in contents.values():
            content.fill(0)
    return prompt


def _keys(opened: OpenStore, ids: list[int | str]) -> dict[int | str, WindowKey]:
    """Return the keys of the windows of examples that are still there.

    Not by `OpenStore.read`: it would note that what others have forgotten is dropped from memory, before the prompts of
    this call, which may show it, are read. The next call notes it.
    """
    keys = {}
    with opened.store.reading() as reads:
        for id_ in ids:
            with suppress(KeyGoneError):
                for row in reads.rows_of([id_]):
                    (key,) = opened.store.keys.of([row.slot])
                    keys[id_] = WindowKey.of(row.slot, key)
    return keys
