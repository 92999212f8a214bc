"""A call of `warm`: computes before it is asked for what a language model can keep of demonstrations.

If each query has demonstrations of its own and they are windows, the window of every example is written to a file. If
queries share a prompt, it is run, and kept in memory.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

from erase_core.calls.open_store import OpenStore
from erase_core.calls.prompting import chooser, shared_prompt
from erase_core.errors import LLMError, StoreError, os_reason
from erase_core.examples.example import Example
from erase_core.llm import LLM, TransformersLLM
from erase_core.llm.prompt import Prompt
from erase_core.llm.protocol import context_for
from erase_core.progress import bar
from erase_core.reports import WarmReport
from erase_core.selection import SELECTORS
from erase_core.store.reads import Reads
from erase_core.store.window_files import WindowKey

__all__ = ["warm"]

# A query for which a prompt is run. What is kept does not depend on it.
QUERY = "N/A"
# Examples to read at a time. Meanwhile other threads wait.
GROUP = 16


def warm(opened: OpenStore, *, progress: bool) -> WarmReport:
    """Compute windows or run prompts. See `Erase.warm`."""
    start = time.perf_counter()
    counts = Counter[str]()
    with opened.lock:
        opened.read(len)  # a store that is closed or gone is an error, whatever there is to compute
        llm = opened.backends.llm
        windows = context_for(llm, opened.settings.context) == "windows"
        shared = SELECTORS[opened.settings.strategy].is_shared
        if windows and not shared:
            _check(opened, llm)
    if isinstance(llm, TransformersLLM):  # others keep nothing in this process
        if shared:
            counts = _run_shared(opened, llm, progress=progress)
        elif windows:
            try:
                counts = _compute(opened, llm, progress=progress)
            except OSError as error:
                raise StoreError(
                    f"{opened.store.windows.folder}: {os_reason(error)}. What is computed is kept; solve this, then "
                    "call it again."
                ) from error
    return WarmReport(
        n_computed=counts["computed"],
        n_present=counts["present"],
        n_too_long=counts["too long"],
        n_prompts_run=counts["run"],
        n_prompts_kept=counts["kept"],
        bytes=opened.store.windows.n_bytes,
        seconds=time.perf_counter() - start,
    )


def _check(opened: OpenStore, llm: LLM) -> None:
    """Check that windows can be computed, if the store insists on them."""
    if isinstance(llm, TransformersLLM):
        llm.window_labels(_prompt(opened))
    elif opened.settings.context == "windows":
        raise LLMError(f"windows of {llm.name} cannot be kept in files. Use a `TransformersLLM`.")


def _run_shared(opened: OpenStore, llm: TransformersLLM, *, progress: bool) -> Counter[str]:
    """Run the prompts that queries share, and return how many were run, and are kept."""
    options = opened.settings.options
    done: set[tuple[int | str, ...]] = set()

    def left(reads: Reads) -> list[list[int | str]]:
        return [ids for ids in opened.prompts(reads) if tuple(ids) not in done]

    def next_shown(reads: Reads) -> list[Example] | None:
        return next((reads.examples(ids) for ids in left(reads)), None)

    def all_shown(reads: Reads) -> list[list[Example]]:
        return [reads.examples(ids) for ids in opened.prompts(reads)]

    with opened.lock:
        total = len(opened.read(left))
    with bar("Running prompts", total, shown=progress) as advance:
        while True:
            # Read and run under one lock: what another thread forgets between would stay in memory.
            with opened.lock:
                shown = opened.read(next_shown)
                if shown is None:
                    kept = sum(llm.keeps(shared_prompt(opened, each, QUERY)) for each in opened.read(all_shown))
                    return Counter({"run": len(done), "kept": kept})
                prompt = shared_prompt(opened, shown, QUERY)
                if options:
                    chooser(opened)(prompt, options)
                else:
                    llm.generate(prompt, max_tokens=1)
                done.add(tuple(example.id for example in shown))
                advance(1)


def _compute(opened: OpenStore, llm: TransformersLLM, *, progress: bool) -> Counter[str]:
    """Write the windows that have no files yet, and return how many were computed, present, and too long."""
    files, counts = opened.store.windows, Counter[str]()
    with files.writing(opened.store.timeout):
        with opened.lock:
            files.delete(opened.store.left_windows())
            total = opened.read(len)
        with bar("Computing windows", total, shown=progress) as advance:
            last = -1
            while True:
                # Read and computed under one lock: what another thread forgets between would stay in memory.
                with opened.lock:
                    group = opened.read(partial(_after, last))
                    opened.shown.update(example.id for _, _, example in group)
                    for slot, key, example in group:
                        counts[_computed(opened, llm, WindowKey.of(slot, key), example)] += 1
                        advance(1)
                if not group:
                    return counts
                last = group[-1][0]


def _after(last: int, reads: Reads) -> list[tuple[int, bytes, Example]]:
    return reads.examples_after(last, GROUP)


def _computed(opened: OpenStore, llm: TransformersLLM, key: WindowKey, example: Example) -> str:
    """Write the window of an example, and return what was to do."""
    files, prompt = opened.store.windows, _prompt(opened, example)
    (label,) = llm.window_labels(prompt)
    if files.has(key, label):
        return "present"
    if llm.context_length is not None and llm.count_tokens(prompt) >= llm.context_length:
        return "too long"
    files.write(key, label, llm.window(prompt, 0))
    # Another process may have forgotten the example, and deleted its file before this one was written.
    if opened.store.keys.are_destroyed([key.slot]):
        files.delete([key.slot])
    return "computed"


def _prompt(opened: OpenStore, *examples: Example) -> Prompt:
    return Prompt(opened.settings.prompt_template, examples, QUERY, "windows")
