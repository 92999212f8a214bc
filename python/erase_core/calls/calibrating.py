"""Calibration of choices: what a prompt makes a language model prefer, whatever is asked, is taken out.

Contextual calibration (Zhao et al., ICML 2021): the probability of each option is divided by its mean over inputs
without content, after the same prompt. So it is a function of the prompt alone, and is kept for the next query.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from erase_core.llm import LLM, Choice
from erase_core.llm.prompt import Prompt

__all__ = ["CONTENT_FREE", "Priors", "prior"]

# Inputs without content, as in the paper.
CONTENT_FREE = ("N/A", "[MASK]", "none")
# Prompts to keep the priors of. The least recently used are let go first.
MOST = 4096

Key = tuple[tuple[int | str | None, ...], tuple[str, ...]]


class Priors:
    """The log-probabilities of options after prompts without a query, kept until an example that is shown goes."""

    def __init__(self) -> None:
        # Empty where a model does not tell the probabilities of all options.
        self._kept: dict[Key, NDArray[np.float64]] = {}
        # Held while a prior is computed, so that several queries at a time compute it once.
        self._lock = Lock()

    def calibrated(self, llm: LLM, prompt: Prompt, options: Sequence[str]) -> Choice:
        """Return a language model's choice, calibrated if its scores are log-probabilities.

        The first choice after a prompt takes four calls of the model, later ones one.
        """
        choice = llm.choose(prompt, options)
        if not _has_logs(choice, options) or len(options) == 1:
            return choice
        prior = self._of(llm, prompt, tuple(options), choice.found_by)
        if not len(prior):
            return choice
        scores = {option: choice.scores[option] - float(prior[i]) for i, option in enumerate(options)}
        return replace(choice, option=max(options, key=scores.__getitem__), scores=scores, calibrated=True)

    def _of(self, llm: LLM, prompt: Prompt, options: tuple[str, ...], found_by: str) -> NDArray[np.float64]:
        """Return the log of each option's mean probability; an empty array if the model does not tell all of them."""
        key = _key(prompt, options)
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is None:
                found = [llm.choose(replace(prompt, query=text), options) for text in CONTENT_FREE]
                has_all = all(each.found_by == found_by and _has_logs(each, options) for each in found)
                kept = (
                    prior([[each.scores[option] for option in options] for each in found]) if has_all else np.empty(0)
                )
            self._kept[key] = kept
            for oldest in list(self._kept)[:-MOST]:
                self._drop(oldest)
        return kept

    def know(self, prompt: Prompt, options: Sequence[str]) -> bool:
        """Whether the model has already read the inputs without content after a prompt."""
        return _key(prompt, options) in self._kept

    def forget(self, ids: Collection[int | str] | None = None) -> None:
        """Overwrite and drop the priors of prompts that showed one of these examples. None: of all prompts."""
        for key in [key for key in self._kept if ids is None or not set(key[0]).isdisjoint(ids)]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        self._kept.pop(key).fill(0)


def _key(prompt: Prompt, options: Sequence[str]) -> Key:
    return tuple(example.id for example in prompt.demonstrations), tuple(options)


def prior(logs: ArrayLike) -> NDArray[np.float64]:
    """Return the log of the mean of probabilities over the first axis, from their logs of any shape."""
    given = np.asarray(logs, dtype=np.float64)
    highest = given.max(axis=0)
    return np.asarray(highest + np.log(np.exp(given - highest).mean(axis=0)))


def _has_logs(choice: Choice, options: Sequence[str]) -> bool:
    """Whether the scores of a choice are the log-probabilities of all options, and none is of an impossible one."""
    if choice.found_by not in ("scoring", "logprobs") or choice.bounded:
        return False
    return all(math.isfinite(choice.scores.get(option, math.nan)) for option in options)
